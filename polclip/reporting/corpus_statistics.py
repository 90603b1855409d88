"""What the corpora of a run hold: counts and distributions, gathered in one pass over each file."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polclip.evaluation.subsets import TrainingSenses, read_training_senses
from polclip.inventory import POS_NAMES, Inventory
from polclip.records import Picture, TextualInstance, VisualInstance, read_records

CORPORA_COLUMNS = ["corpus", "split", "sentences", "instances", "candidates_mean", "gold_missing", "images"]


@dataclass
class TextualStatistics:
    """One file of textual instances. `lengths` are the tokens of each distinct sentence.

    by_frequency: instances whose candidates are in WordNet's order. first_sense: those of them whose first sense is
    right. lemma_seen, sense_seen: as in the scores, see `TrainingSenses`. sense_shown: instances of whose gold synsets
    one has a training picture.
    """

    corpus: str
    split: str
    side: str  # train, dev or test
    instances: int = 0
    lemmas: int = 0
    synsets: int = 0
    pos: Counter[str] = field(default_factory=Counter)
    candidates: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    gold_missing: int = 0
    several_gold: int = 0
    by_frequency: int = 0
    first_sense: int = 0
    lemma_seen: int = 0
    sense_seen: int = 0
    sense_shown: int = 0


@dataclass
class VisualStatistics:
    """One file of visual instances. `lengths` are the words of each distinct phrase; missing: not at hand."""

    corpus: str
    split: str
    side: str
    instances: int = 0
    words: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    candidates: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    gold_missing: int = 0
    pictures: int = 0
    missing: int = 0
    with_rivals: int = 0


@dataclass
class PictureStatistics:
    """One table of training pictures; `per_sense`: how many synsets have so many."""

    corpus: str
    split: str
    pictures: int = 0
    synsets: int = 0
    of_no_sense: int = 0
    per_sense: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class Coverage:
    """How many synsets of one part of speech (n v a r, or all) training meets in sentences and in pictures."""

    part: str
    synsets: int
    in_text: int
    in_pictures: int
    in_both: int


@dataclass(frozen=True)
class CorpusStatistics:
    textual: list[TextualStatistics]
    visual: list[VisualStatistics]
    pictures: list[PictureStatistics]
    coverage: list[Coverage]


def corpus_statistics(
    textual: Mapping[str, Sequence[str | Path]],
    visual: Mapping[str, Sequence[str | Path]],
    picture_tables: Iterable[str | Path],
    inventory: Inventory,
) -> CorpusStatistics:
    """The statistics of a run's corpora; each file is read a batch at a time.

    Args:
        textual: files of textual instances by side (train, dev, test).
        visual: files of visual instances by side; those of train are tables of pictures.
        picture_tables: all pictures that are at hand.
    """
    training = read_training_senses(textual["train"]) or TrainingSenses(frozenset(), frozenset())
    shown: set[str] = set()
    pictures = [_pictures(path, shown) for path in visual["train"]]
    at_hand = {picture.picture_id for path in picture_tables for picture in read_records(path, Picture)}
    return CorpusStatistics(
        [_textual(path, side, training, shown, inventory) for side, paths in textual.items() for path in paths],
        [_visual(path, side, at_hand) for side in ("dev", "test") for path in visual[side]],
        pictures,
        coverage(_synsets(training.sense_keys, inventory), shown, inventory),
    )


def coverage(in_text: set[str], in_pictures: set[str], inventory: Inventory) -> list[Coverage]:
    """A row a part of speech, and one for all, from the synsets that training meets; satellites are adjectives."""
    parts: dict[str, set[str]] = {"all": set(inventory.synset_ids())} | {pos: set() for pos in POS_NAMES}
    for synset_id in inventory.synset_ids():
        parts[synset_id[-1].replace("s", "a")].add(synset_id)
    return [
        Coverage(part, len(ids), len(ids & in_text), len(ids & in_pictures), len(ids & in_text & in_pictures))
        for part, ids in parts.items()
    ]


def _synsets(keys: Iterable[str], inventory: Inventory) -> set[str]:
    return {inventory.sense(key).synset_id for key in keys if inventory.has(key)}


def _textual(
    path: str | Path, side: str, training: TrainingSenses, shown: set[str], inventory: Inventory
) -> TextualStatistics:
    path = Path(path)
    found = TextualStatistics(path.parent.name, path.stem, side)
    sentences: set[str] = set()
    lemmas: set[tuple[str, str]] = set()
    synsets: set[str] = set()
    for instance in read_records(path, TextualInstance):
        gold = _synsets(instance.gold, inventory)
        found.instances += 1
        found.pos[instance.pos] += 1
        found.candidates[len(instance.candidates)] += 1
        found.gold_missing += not set(instance.gold) & set(instance.candidates)
        found.several_gold += len(instance.gold) > 1
        found.by_frequency += instance.by_frequency
        found.first_sense += instance.first_sense in instance.gold
        found.lemma_seen += training.lemma_seen(instance.lemma, instance.pos)
        found.sense_seen += training.sense_seen(instance.gold)
        found.sense_shown += bool(gold & shown)
        lemmas.add((instance.lemma, instance.pos))
        synsets |= gold
        if instance.sentence_id not in sentences:
            sentences.add(instance.sentence_id)
            found.lengths[len(instance.tokens)] += 1
    found.lemmas, found.synsets = len(lemmas), len(synsets)
    return found


def _visual(path: str | Path, side: str, at_hand: set[str]) -> VisualStatistics:
    path = Path(path)
    found = VisualStatistics(path.parent.name, path.stem, side)
    words: set[str] = set()
    phrases: set[str] = set()
    pictures: set[str] = set()
    for instance in read_records(path, VisualInstance):
        found.instances += 1
        found.languages[instance.language] += 1
        found.candidates[len(instance.candidates)] += 1
        found.gold_missing += instance.gold not in instance.candidates
        found.with_rivals += bool(instance.rivals)
        words.add(instance.word)
        phrases.add(instance.phrase)
        pictures.update(instance.candidates)
    found.lengths = Counter(len(phrase.split()) for phrase in phrases)
    found.words, found.pictures, found.missing = len(words), len(pictures), len(pictures - at_hand)
    return found


def _pictures(path: str | Path, shown: set[str]) -> PictureStatistics:
    """Of one table; the synsets that it shows are added to `shown`."""
    path = Path(path)
    found = PictureStatistics(path.parent.name, path.stem)
    by_synset = Counter(picture.synset_id for picture in read_records(path, Picture))
    found.pictures, found.of_no_sense = by_synset.total(), by_synset.pop(None, 0)
    found.synsets, found.per_sense = len(by_synset), Counter(by_synset.values())
    shown.update(by_synset)
    return found


def mean(distribution: Counter[int]) -> float:
    """Of values with the times they came; 0 where there are none."""
    return sum(value * times for value, times in distribution.items()) / max(1, distribution.total())


def quantile(distribution: Counter[int], share: float) -> int:
    """The smallest value that at least this share (0 to 1) of the items does not exceed."""
    met = 0
    for value in sorted(distribution):
        met += distribution[value]
        if met >= share * distribution.total():
            return value
    return 0
