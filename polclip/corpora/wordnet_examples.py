"""A textual corpus from WordNet's own example sentences: each shows one synset at work.

Train, dev and test share neither a sentence nor a synset: synsets that share a sentence form one group, and
a group falls on one side as a whole.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polclip.corpora.words import find_lemma, tokenise
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, Synset, TextualInstance

_NOT_A_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class ExampleSettings:
    seed: int = 0  # of the split
    dev_fraction: float = 0.05  # of the groups
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
    left_out (of train, by max_train_instances). Raises UserError when nothing is left to train or to test on.
    """
    settings = settings or ExampleSettings()
    counts: Counter[str] = Counter()
    side_of = _sides(inventory, settings)
    sides: dict[str, list[TextualInstance]] = {"train": [], "dev": [], "test": []}
    for synset_id, instance in instances(inventory, counts):
        sides[side_of(synset_id)].append(instance)
    counts["instances"] = sum(map(len, sides.values()))
    limit = settings.max_train_instances
    if limit is not None and len(sides["train"]) > limit:
        ranked = sorted(sides["train"], key=lambda instance: _fraction(settings.seed, instance.instance_id))
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


_COUNTS = ("sentences", "target_not_found", "monosemous", "instances", "train", "dev", "test", "left_out")


def instances(inventory: Inventory, counts: Counter[str]) -> Iterator[tuple[str, TextualInstance]]:
    """Every example sentence with its target found and two or more candidates: (synset id, instance).

    The instance id is the sense key and the number of the example within its synset: `bat%1:05:00::.0`.
    """
    for synset_id in inventory.synset_ids():
        synset = inventory.synset(synset_id)
        for number, sentence in enumerate(synset.examples):
            counts["sentences"] += 1
            tokens = tokenise(sentence)
            found = _target(tokens, synset)
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
                    sentence_id=f"{synset_id}.{number}",
                    tokens=tokens,
                    target_start=start,
                    target_end=end,
                    lemma=lemma,
                    pos=pos,
                    candidates=[sense.sense_key for sense in candidates],
                    gold=gold,
                ),
            )


def _target(tokens: list[str], synset: Synset) -> tuple[str, tuple[int, int]] | None:
    """The lemma of the synset that the sentence uses, and its tokens: the longest, else the first listed."""
    pos = "a" if synset.synset_id[-1] == "s" else synset.synset_id[-1]
    for lemma in sorted(synset.lemmas, key=lambda lemma: -lemma.count("_")):
        span = find_lemma(tokens, lemma, pos)
        if span is not None:
            return lemma.lower(), span
    return None


def _sides(inventory: Inventory, settings: ExampleSettings) -> Callable[[str], str]:
    """synset id -> train, dev or test, by groups of synsets that share a sentence."""
    leader: dict[str, str] = {}

    def find(synset_id: str) -> str:
        while leader.setdefault(synset_id, synset_id) != synset_id:
            leader[synset_id] = leader[leader[synset_id]]
            synset_id = leader[synset_id]
        return synset_id

    seen: dict[str, str] = {}
    for synset_id, examples in zip(inventory.synset_ids(), inventory.synset_columns["examples"], strict=True):
        for sentence in examples:
            text = _NOT_A_WORD.sub(" ", sentence.casefold()).strip()  # a full stop makes no new sentence
            one, other = sorted((find(synset_id), find(seen.setdefault(text, synset_id))))
            leader[other] = one  # the smallest id leads

    def side(synset_id: str) -> str:
        at = _fraction(settings.seed, find(synset_id))
        if at < settings.test_fraction:
            return "test"
        return "dev" if at < settings.test_fraction + settings.dev_fraction else "train"

    return side


def _fraction(seed: int, text: str) -> float:
    """A number in [0, 1) that depends on the seed and the text alone, on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big") / 2**64
