"""What the corpora of a run hold: counts and distributions, gathered in one pass over each file."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polclip.inventory import POS_NAMES, Inventory
from polclip.records import Picture, TextualInstance, VisualInstance, read_records


@dataclass
class Seen:
    """What training meets: words by lemma and part of speech, senses by synset, pictures by synset."""

    lemmas: set[tuple[str, str]] = field(default_factory=set)
    synsets: set[str] = field(default_factory=set)
    pictures: Counter[str] = field(default_factory=Counter)


@dataclass
class TextualStatistics:
    """One file of textual instances. `lengths` are the tokens of each distinct sentence.

    lemma_seen, sense_seen, sense_shown: instances whose word is in the textual training corpora, whose gold synset (one
    of them) is, and whose gold synset has a training picture.
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
    first_sense: int = 0
    lemma_seen: int = 0
    sense_seen: int = 0
    sense_shown: int = 0


@dataclass
class VisualStatistics:
    """One file of visual instances. `lengths` are the words of each phrase; missing: pictures that are not at hand."""

    corpus: str
    split: str
    side: str
    instances: int = 0
    words: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    candidates: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
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
    seen = Seen()
    for path in textual["train"]:
        for instance in read_records(path, TextualInstance):
            seen.lemmas.add((instance.lemma, instance.pos))
            seen.synsets |= _synsets(instance.gold, inventory)
    pictures = [_pictures(path, seen) for path in visual["train"]]
    at_hand = {picture.picture_id for path in picture_tables for picture in read_records(path, Picture)}
    return CorpusStatistics(
        [_textual(path, side, seen, inventory) for side, paths in textual.items() for path in paths],
        [_visual(path, side, at_hand) for side in ("dev", "test") for path in visual[side]],
        pictures,
        coverage(seen, inventory),
    )


def coverage(seen: Seen, inventory: Inventory) -> list[Coverage]:
    """A row a part of speech, and one for all; satellite adjectives are adjectives."""
    rows = []
    parts = {pos: [] for pos in POS_NAMES}
    for synset_id in inventory.synset_ids():
        pos = synset_id[-1].replace("s", "a")
        parts[pos].append(synset_id)
    for part, ids in {"all": inventory.synset_ids(), **parts}.items():
        text = {synset_id for synset_id in ids if synset_id in seen.synsets}
        shown = {synset_id for synset_id in ids if seen.pictures[synset_id]}
        rows.append(Coverage(part, len(ids), len(text), len(shown), len(text & shown)))
    return rows


def _synsets(keys: Iterable[str], inventory: Inventory) -> set[str]:
    return {inventory.sense(key).synset_id for key in keys if inventory.has(key)}


def _textual(path: str | Path, side: str, seen: Seen, inventory: Inventory) -> TextualStatistics:
    path = Path(path)
    found = TextualStatistics(path.parent.name, path.stem, side)
    sentences: set[str] = set()
    lemmas: set[tuple[str, str]] = set()
    synsets: set[str] = set()
    for instance in read_records(path, TextualInstance):
        gold = _synsets(instance.gold, inventory)
        lemma = (instance.lemma, instance.pos)
        found.instances += 1
        found.pos[instance.pos] += 1
        found.candidates[len(instance.candidates)] += 1
        found.gold_missing += not set(instance.gold) & set(instance.candidates)
        found.several_gold += len(instance.gold) > 1
        found.first_sense += bool(instance.candidates) and instance.candidates[0] in instance.gold
        found.lemma_seen += lemma in seen.lemmas
        found.sense_seen += bool(gold & seen.synsets)
        found.sense_shown += any(seen.pictures[synset_id] for synset_id in gold)
        lemmas.add(lemma)
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
    pictures: set[str] = set()
    for instance in read_records(path, VisualInstance):
        found.instances += 1
        found.languages[instance.language] += 1
        found.candidates[len(instance.candidates)] += 1
        found.lengths[len(instance.phrase.split())] += 1
        found.with_rivals += bool(instance.rivals)
        words.add(instance.word)
        pictures.update(instance.candidates)
    found.words, found.pictures, found.missing = len(words), len(pictures), len(pictures - at_hand)
    return found


def _pictures(path: str | Path, seen: Seen) -> PictureStatistics:
    """Of one table; what it shows is added to what training meets."""
    path = Path(path)
    found = PictureStatistics(path.parent.name, path.stem)
    shown = Counter(picture.synset_id for picture in read_records(path, Picture))
    found.pictures, found.of_no_sense = shown.total(), shown.pop(None, 0)
    found.synsets, found.per_sense = len(shown), Counter(shown.values())
    seen.pictures.update(shown)
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
