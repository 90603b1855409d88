"""A textual corpus from WordNet's own example sentences: each shows one synset at work.

Train, dev and test share no lemma, no synset and no sentence.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polclip.corpora.words import find_lemma, tokenise
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, Synset, TextualInstance
from polclip.selection import fraction

_NOT_A_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class ExampleSettings:
    seed: int = 0  # of the split
    dev_fraction: float = 0.05  # of the lemmas
    test_fraction: float = 0.10
    max_train_instances: int | None = None  # None keeps all

    def __post_init__(self) -> None:
        if min(self.dev_fraction, self.test_fraction) < 0 or self.dev_fraction + self.test_fraction >= 1:
            raise UserError(
                f"dev_fraction {self.dev_fraction} and test_fraction {self.test_fraction} must be at least 0 "
                "and leave something to train on. Type for example: dev_fraction: 0.05, test_fraction: 0.10"
            )
        if self.max_train_instances is not None and self.max_train_instances < 1:
            raise UserError(
                f"max_train_instances is {self.max_train_instances}; type a number above 0, or null for all."
            )


def build(
    inventory: Inventory,
    train_path: str | Path,
    dev_path: str | Path,
    test_path: str | Path,
    settings: ExampleSettings | None = None,
) -> dict[str, int]:
    """Write the three splits (Parquet of TextualInstance) and return what was counted.

    Counts: sentences, target_not_found, monosemous, instances (the polysemous ones), train, dev, test,
    shared (left out of train or dev, see _split), left_out (of train, by max_train_instances). Raises UserError
    when nothing is left to train or to test on.
    """
    settings = settings or ExampleSettings()
    counts: Counter[str] = Counter()
    sides = _split(instances(inventory, counts), settings)
    counts["instances"] = sum(map(len, sides.values()))
    counts["shared"] = len(sides["shared"])
    limit = settings.max_train_instances
    if limit is not None and len(sides["train"]) > limit:
        # By lemma: its instances share candidates, so that the same number brings far fewer glosses.
        ranked = sorted(sides["train"], key=lambda instance: fraction(_lemma(instance), settings.seed))
        kept = {instance.instance_id for instance in ranked[:limit]}
        counts["left_out"] = len(sides["train"]) - limit
        sides["train"] = [instance for instance in sides["train"] if instance.instance_id in kept]
    if not sides["train"] or not sides["test"]:
        raise UserError(
            f"The example sentences gave {len(sides['train'])} instances to train and "
            f"{len(sides['test'])} to test on; both must be above 0. "
            "Check the inventory, dev_fraction and test_fraction."
        )
    for side, path in (("train", train_path), ("dev", dev_path), ("test", test_path)):
        counts[side] = len(sides[side])
        write_parquet(path, map(vars, sides[side]), SCHEMAS[TextualInstance])
    return {name: counts[name] for name in _COUNTS}


_COUNTS = ("sentences", "target_not_found", "monosemous", "instances", "train", "dev", "test", "shared", "left_out")


def instances(inventory: Inventory, counts: Counter[str]) -> Iterator[tuple[str, TextualInstance]]:
    """Every example sentence with its target found and two or more candidates: (synset id, instance).

    The instance id is the sense key and the number of the example within its synset: `bat%1:05:00::.0`.
    """
    for synset_id in inventory.synset_ids():
        synset = inventory.synset(synset_id)
        for number, sentence in enumerate(synset.examples):
            counts["sentences"] += 1
            tokens = tokenise(sentence)
            found = _target(tokens, synset, inventory)
            if found is None:
                counts["target_not_found"] += 1
                continue
            lemma, (start, end) = found
            pos = "a" if synset_id[-1] == "s" else synset_id[-1]
            candidates = inventory.senses(lemma, pos)
            if len(candidates) < 2:
                counts["monosemous"] += 1
                continue
            gold = [sense.sense_key for sense in candidates if sense.synset_id == synset_id]
            yield (
                synset_id,
                TextualInstance(
                    instance_id=f"{gold[0]}.{number}",
                    sentence_id=f"{synset_id}:{number}",
                    tokens=tokens,
                    target_start=start,
                    target_end=end,
                    lemma=lemma,
                    pos=pos,
                    candidates=[sense.sense_key for sense in candidates],
                    gold=gold,
                ),
            )


def _target(tokens: list[str], synset: Synset, inventory: Inventory) -> tuple[str, tuple[int, int]] | None:
    """The lemma of the synset that the sentence uses, and its tokens: the longest, else the first listed."""
    pos = "a" if synset.synset_id[-1] == "s" else synset.synset_id[-1]
    for lemma in sorted(synset.lemmas, key=lambda lemma: -lemma.count("_")):
        span = find_lemma(tokens, lemma, pos, inventory.base_forms)
        if span is not None:
            return lemma.lower(), span
    return None


def _lemma(instance: TextualInstance) -> str:
    return f"{instance.lemma}%{instance.pos}"


def _split(found: Iterable[tuple[str, TextualInstance]], settings: ExampleSettings) -> dict[str, list[TextualInstance]]:
    """Deal the instances to train, dev and test by lemma; "shared" are those that a later side already shows.

    By lemma, and not by synset alone: were one sense of a lemma trained and another tested, training would show
    the tested sense as a wrong answer only. Then whatever shares its synset or its sentence with test is left out
    of dev and train, and whatever shares them with dev out of train.
    """
    sides: dict[str, list[tuple[str, str, TextualInstance]]] = {"test": [], "dev": [], "train": []}
    for synset_id, instance in found:
        at = fraction(_lemma(instance), settings.seed)
        side = "test" if at < settings.test_fraction else "dev"
        side = side if at < settings.test_fraction + settings.dev_fraction else "train"
        # a full stop more makes no new sentence
        sentence = _NOT_A_WORD.sub(" ", instance.text.casefold()).strip()
        sides[side].append((synset_id, sentence, instance))
    split: dict[str, list[TextualInstance]] = {"shared": []}
    synsets: set[str] = set()
    sentences: set[str] = set()
    for side, dealt in sides.items():
        split[side] = []
        for synset_id, sentence, instance in dealt:
            shared = synset_id in synsets or sentence in sentences
            split["shared" if shared else side].append(instance)
        synsets.update(synset_id for synset_id, _, _ in dealt)
        sentences.update(sentence for _, sentence, _ in dealt)
    return split
