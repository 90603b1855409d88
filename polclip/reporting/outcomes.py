"""What became of each instance: right or wrong, and in which way; the base of examples and failures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polclip.babelnet import is_babelnet_id
from polclip.evaluation.subsets import TrainingSenses, read_training_senses
from polclip.files import read_json_lines
from polclip.records import Picture, Sense, Synset, TextualInstance, VisualInstance, read_records

NO_ANSWER = "no answer"
RIVAL = "another sense of the same word"
OTHER = "another concept"
FIRST = "the first sense"
LATER = "a later sense"
UNORDERED = "another sense"  # where no order of the senses is known
# What stood against a right answer, beside the way in which the wrong one is wrong.
GOLD_MISSING = "the gold is no candidate"
UNSEEN_WORD = "its word is not in training"
UNSEEN_SENSE = "its sense is not in training"
UNSHOWN = "no training picture of its sense"
SAME_SENSE = "the choice shows the same sense"
LOST = "its picture is not at hand"
PARTS = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}


@dataclass(frozen=True)
class Learned:
    """What training meets: senses of its sentences and synsets of its pictures, each None where it is not known."""

    senses: TrainingSenses | None = None
    shown: frozenset[str] | None = None

    @classmethod
    def read(cls, sentences: Sequence[str | Path], pictures: Sequence[str | Path]) -> "Learned":
        """From the Parquet files of the training corpora."""
        shown = {p.synset_id for path in pictures for p in read_records(path, Picture) if p.synset_id}
        return cls(read_training_senses(sentences), frozenset(shown) if pictures else None)


@dataclass(frozen=True)
class Meaning:
    """What a reader needs to know of a sense."""

    sense_key: str
    lemma: str
    gloss: str
    number: int | None = None


@dataclass
class Tally:
    """Right answers among all, over instances and seeds, and n, the number of instances."""

    right: int = 0
    answers: int = 0
    instances: set[str] = field(default_factory=set)

    def add(self, instance_id: str, right: bool) -> None:
        self.right += right
        self.answers += 1
        self.instances.add(instance_id)

    @property
    def accuracy(self) -> float:
        return 100 * self.right / self.answers if self.answers else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.accuracy / 100, len(self.instances))

    @property
    def n(self) -> int:
        return len(self.instances)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n instances, in percent (Wilson 1927)."""
    if not n:
        return 0.0, 100.0
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def first_answers(path: str | Path) -> dict[str, str | None]:
    """Instance id to the candidate ranked first (None: unanswered), from one file of predictions."""
    return {p["instance_id"]: (p["candidates"] or [None])[0] for p in read_json_lines(path)}


def is_right(instance: TextualInstance | VisualInstance, answer: str | None) -> bool:
    gold = instance.gold if isinstance(instance, TextualInstance) else [instance.gold]
    return answer is not None and answer in gold


def reason(instance: TextualInstance | VisualInstance, answer: str | None) -> str:
    """In which way a wrong answer is wrong."""
    if answer is None:
        return NO_ANSWER
    if isinstance(instance, VisualInstance):
        return RIVAL if answer in instance.rivals else OTHER
    if not instance.by_frequency:
        return UNORDERED
    return FIRST if answer == instance.first_sense else LATER


def reasons(
    instance: TextualInstance | VisualInstance,
    answer: str | None,
    learned: Learned,
    pictures: Mapping[str, Picture],
) -> list[str]:
    """The way in which a wrong answer is wrong, then all that stood against a right one."""
    found = {reason(instance, answer): True}
    if isinstance(instance, TextualInstance):
        found[GOLD_MISSING] = set(instance.gold).isdisjoint(instance.candidates)
        if learned.senses is not None and not any(map(is_babelnet_id, instance.gold)):
            found[UNSEEN_WORD] = not learned.senses.lemma_seen(instance.lemma, instance.pos)
            found[UNSEEN_SENSE] = not found[UNSEEN_WORD] and not learned.senses.sense_seen(instance.gold)
        return [why for why, holds in found.items() if holds]
    gold, chosen = pictures.get(instance.gold), pictures.get(answer or "")
    found[LOST] = gold is None
    if gold is not None and gold.synset_id is not None:
        found[SAME_SENSE] = chosen is not None and chosen.synset_id == gold.synset_id
        found[UNSHOWN] = learned.shown is not None and gold.synset_id not in learned.shown
    return [why for why, holds in found.items() if holds]


def answered(
    instances: str | Path, kind: type, seeds: Sequence[Mapping[str, str | None]]
) -> Iterator[tuple[TextualInstance | VisualInstance, list[str | None]]]:
    """Each instance, a batch at a time, with the first answer of every seed that has a prediction for it."""
    for instance in read_records(instances, kind):
        answers = [seed[instance.instance_id] for seed in seeds if instance.instance_id in seed]
        if answers:
            yield instance, answers


def candidates_bin(count: int) -> str:
    """The range that a number of candidates is in; a word that the inventory does not have has none at all."""
    if count == 0:
        return "0"
    for low, high in ((1, 2), (3, 4), (5, 6), (7, 10), (11, 20)):
        if count <= high:
            return f"{low}\u2013{high}"
    return "over 20"


def meanings(senses: str | Path | None, synsets: str | Path | None, wanted: set[str]) -> dict[str, Meaning]:
    """The glosses of the wanted sense keys, by one pass over the inventory."""
    if senses is None or synsets is None or not wanted:
        return {}
    found = {sense.sense_key: sense for sense in read_records(senses, Sense) if sense.sense_key in wanted}
    needed = {sense.synset_id for sense in found.values()}
    known = {s.synset_id: s for s in read_records(synsets, Synset) if s.synset_id in needed}
    told: dict[str, Meaning] = {}
    for key, sense in found.items():
        synset = known.get(sense.synset_id)
        lemma = sense.lemma or (synset.lemmas[0] if synset else "")  # a BabelNet id has none of its own
        gloss = synset.gloss if synset else ""
        told[key] = Meaning(key, lemma.replace("_", " "), gloss, sense.sense_number)
    return told


def wanted_pictures(tables: Sequence[str | Path], wanted: set[str]) -> dict[str, Picture]:
    """The records of the wanted pictures, by one pass over the tables."""
    return {p.picture_id: p for table in tables for p in read_records(table, Picture) if p.picture_id in wanted}
