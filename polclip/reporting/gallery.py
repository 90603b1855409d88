"""Examples for the page, chosen by a seeded hash of their ids, never by hand; pictures as data URIs."""

import base64
import hashlib
import io
from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from polclip.files import read_json_lines
from polclip.pictures import read_picture
from polclip.records import Picture, TextualInstance, VisualInstance, read_records
from polclip.reporting.outcomes import Meaning, answered, is_right


@dataclass(frozen=True)
class Tile:
    """One candidate picture; rank 1 is the prediction, None when it was not ranked."""

    picture_id: str
    name: str
    style: str
    image: str | None  # data URI
    rank: int | None
    gold: bool
    rival: bool

    @property
    def pick(self) -> bool:
        return self.rank == 1

    @property
    def alt(self) -> str:
        marks = [text for text, on in (("gold", self.gold), ("prediction", self.pick), ("rival", self.rival)) if on]
        return f"{self.name} ({self.style})" + (f", {', '.join(marks)}" if marks else "")


@dataclass(frozen=True)
class VisualExample:
    benchmark: str
    instance: VisualInstance
    right: bool
    why: list[str]  # why it is wrong
    meaning: Meaning | None
    tiles: list[Tile]


@dataclass(frozen=True)
class RankedSense:
    """One candidate sense; width is the length of its bar, 0-100."""

    meaning: Meaning
    rank: int | None
    score: float | None
    width: float
    gold: bool


@dataclass(frozen=True)
class TextualExample:
    benchmark: str
    instance: TextualInstance
    right: bool
    why: list[str]
    before: str
    target: str
    after: str
    senses: list[RankedSense]
    hidden: int  # candidates left out to save room


def chosen(
    path: str | Path,
    kind: type,
    answers: Mapping[str, str | None],
    each: int,
    seed: int,
    why: Callable[[TextualInstance | VisualInstance, str | None], list[str]] = lambda *_: [],
    of_reason: int = 2,
) -> list[tuple[TextualInstance | VisualInstance, list[str] | None]]:
    """At most `each` right and `each` wrong instances, in turn, then wrong ones until each reason has `of_reason`.

    Those of the smallest seeded hash. Each comes with the reasons that `why` gives it; right ones with None.
    """
    smallest: dict[object, list[tuple[str, str]]] = {}
    reasons: dict[str, list[str] | None] = {}
    for instance, (answer, *_) in answered(path, kind, [answers]):
        key = instance.instance_id
        told = None if is_right(instance, answer) else why(instance, answer)
        reasons[key] = told
        for group, most in ((told is None, each), *((reason, of_reason) for reason in told or ())):
            best = smallest.setdefault(group, [])
            insort(best, (seeded_hash(seed, key), key))
            del best[most:]
    turns = [pair for turn in zip_longest(smallest.pop(True, []), smallest.pop(False, [])) for pair in turn if pair]
    ids = list(dict.fromkeys(key for _, key in [*turns, *(pair for best in smallest.values() for pair in best)]))
    found = {x.instance_id: x for x in read_records(path, kind) if x.instance_id in ids}
    return [(found[key], reasons[key]) for key in ids]


def seeded_hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def rankings(path: str | Path, wanted: set[str]) -> dict[str, tuple[list[str], list[float]]]:
    """Candidates and scores, best first, of the wanted instances."""
    return {
        p["instance_id"]: (p["candidates"], p["scores"]) for p in read_json_lines(path) if p["instance_id"] in wanted
    }


def thumbnail(path: str | Path, pixels: int) -> str | None:
    """A square picture on white as a data URI (JPEG), as the model sees it; None when the file cannot be used."""
    picture = read_picture(path)
    if isinstance(picture, str):
        return None
    picture.thumbnail((pixels, pixels))
    square = Image.new("RGB", (pixels, pixels), "white")
    square.paste(picture, ((pixels - picture.width) // 2, (pixels - picture.height) // 2))
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def visual_example(
    benchmark: str,
    instance: VisualInstance,
    why: list[str] | None,
    ranking: Sequence[str],
    pictures: Mapping[str, Picture],
    meaning: Meaning | None,
    root: Path,
    pixels: int,
) -> VisualExample:
    """The ten pictures best first, those without a rank after them; why: it is wrong, None where it is right."""
    ranks = {picture_id: rank for rank, picture_id in enumerate(ranking, start=1)}
    order = sorted(instance.candidates, key=lambda picture_id: ranks.get(picture_id, len(ranks) + 1))
    tiles = []
    for picture_id in order:
        picture = pictures.get(picture_id)
        tiles.append(
            Tile(
                picture_id=picture_id,
                name=picture.name if picture else picture_id,
                style=picture.style if picture else "unknown style",
                image=thumbnail(root / picture.path, pixels) if picture else None,
                rank=ranks.get(picture_id),
                gold=picture_id == instance.gold,
                rival=picture_id in instance.rivals,
            )
        )
    return VisualExample(benchmark, instance, why is None, why or [], meaning, tiles)


def textual_example(
    benchmark: str,
    instance: TextualInstance,
    why: list[str] | None,
    ranking: Sequence[str],
    scores: Sequence[float],
    meanings: Mapping[str, Meaning],
    most: int = 6,
) -> TextualExample:
    """The sentence cut at its target, and its senses best first; gold senses are shown whatever their rank.

    Bars show scores as they are when all lie in 0-1 (probabilities), else from the lowest to the highest.
    """
    by_rank = {key: (rank, score) for rank, (key, score) in enumerate(zip(ranking, scores, strict=True), start=1)}
    order = sorted(instance.candidates, key=lambda key: by_rank.get(key, (len(by_rank) + 1, 0))[0])
    shown = [key for place, key in enumerate(order) if place < most or key in instance.gold]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    senses = []
    for key in shown:
        rank, score = by_rank.get(key, (None, None))
        width = 100 * (score - low) / (high - low) if score is not None and high > low else 0.0
        meaning = meanings.get(key, Meaning(key, instance.lemma.replace("_", " "), ""))
        senses.append(RankedSense(meaning, rank, score, round(width, 1), key in instance.gold))
    start, end = instance.target_span
    text = instance.text
    return TextualExample(
        benchmark,
        instance,
        why is None,
        why or [],
        text[:start],
        text[start:end],
        text[end:],
        senses,
        len(order) - len(shown),
    )


@dataclass(frozen=True)
class Style:
    """One drawing style: how many pictures, from which archive, and a few of them."""

    style: str
    family: str
    dataset: str
    pictures: int
    samples: list[Tile]


def styles(tables: Sequence[str | Path], root: Path, pixels: int, samples: int, seed: int) -> list[Style]:
    """Every style with samples of the same concepts where it has them, so that the styles can be compared."""
    counts: Counter[tuple[str, str, str]] = Counter()
    concepts: dict[str, set[str]] = {}
    for table in tables:
        for picture in read_records(table, Picture):
            counts[picture.style, picture.family, picture.dataset] += 1
            if picture.synset_id:
                concepts.setdefault(picture.synset_id, set()).add(picture.style)
    shared = sorted(concepts, key=lambda synset: (-len(concepts[synset]), seeded_hash(seed, synset)))[:200]
    order = {synset: place for place, synset in enumerate(shared)}
    shown: dict[str, dict[str, Picture]] = {}
    for table in tables:
        for picture in read_records(table, Picture):
            if picture.synset_id in order:
                shown.setdefault(picture.style, {}).setdefault(picture.synset_id, picture)
    found = []
    for (style, family, dataset), number in sorted(counts.items()):
        best = sorted(shown.get(style, {}).values(), key=lambda picture: order[picture.synset_id])[:samples]
        tiles = [Tile(p.picture_id, p.name, style, thumbnail(root / p.path, pixels), None, False, False) for p in best]
        found.append(Style(style, family, dataset, number, tiles))
    return found
