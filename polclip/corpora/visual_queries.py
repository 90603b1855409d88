"""Visual disambiguation from the picture sets: queries in SemEval's form, and what training may see.

A query is a word, a phrase (the word and a cue) and ten pictures, one of which shows what is meant. Three tests:
`unseen_style` (trained senses, drawn in a style no picture of training comes from), `unseen_words` (words none of
whose senses was trained) and `hard` (unseen words too, with another sense of the word among the ten). All pictures
of a query come from the styles of its gold and its rivals, so that the style never gives the answer away.

Sides: a word stands with all its depicted senses on one side, train, dev or test; so do styles of one family.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from polclip.corpora.picture_sets import TABLES
from polclip.errors import UserError
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.records import Phrase, Picture, VisualInstance, read_records, write_records
from polclip.selection import fraction, order_by_digest

CANDIDATES = 10


@dataclass(frozen=True)
class QuerySettings:
    """How words and styles are dealt to the sides, and how many queries are made of a sense."""

    seed: int
    dev_families: tuple[str, ...]
    test_families: tuple[str, ...]
    ambiguous_dev: float  # fractions of the ambiguous words
    ambiguous_test: float
    other_dev: float  # fractions of the other concepts
    other_test: float
    queries_per_sense: int
    rivals_per_query: int


def read_phrases(inventory: Inventory, path: Path = TABLES / "phrases.tsv") -> list[Phrase]:
    """The hand-made phrases: columns word, sense_key, cue; an unknown sense key is a UserError that names the line."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    phrases = []
    for number, row in enumerate(table.itertuples(), start=2):
        if not inventory.has(row.sense_key):
            raise UserError(f"{path.name}:{number}: unknown sense key {row.sense_key!r} of the word {row.word!r}.")
        word = row.word.replace("_", " ")
        synset_id = inventory.sense(row.sense_key).synset_id
        phrases.append(Phrase(word, f"{word} {row.cue}", row.sense_key, synset_id))
    return phrases


def sides_of(phrases: list[Phrase], settings: QuerySettings) -> dict[str, str]:
    """The side of each synset: words that share a synset, and synsets that share a word, stay together."""
    parent: dict[str, str] = {}

    def root(item: str) -> str:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for phrase in phrases:
        parent[root(f"word:{phrase.word}")] = root(phrase.synset_id)
    groups: dict[str, list[str]] = defaultdict(list)
    for synset_id in dict.fromkeys(phrase.synset_id for phrase in phrases):
        groups[root(synset_id)].append(synset_id)
    sides = {}
    for synsets in groups.values():
        ambiguous = len(synsets) > 1
        dev = settings.ambiguous_dev if ambiguous else settings.other_dev
        test = settings.ambiguous_test if ambiguous else settings.other_test
        place = fraction(min(synsets), settings.seed)
        side = "test" if place < test else "dev" if place < test + dev else "train"
        sides.update(dict.fromkeys(synsets, side))
    return sides


class _Pictures:
    """Pictures by synset and style."""

    def __init__(self, pictures: Iterable[Picture]) -> None:
        self.by_place: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.style: dict[str, str] = {}
        for picture in pictures:
            self.by_place[picture.synset_id, picture.style].append(picture.picture_id)
            self.style[picture.picture_id] = picture.style
        self.styles = sorted({style for _, style in self.by_place})

    def of(self, synset_id: str) -> list[str]:
        return [p for style in self.styles for p in self.by_place.get((synset_id, style), [])]


def _queries(
    name: str,
    phrases: list[Phrase],
    pictures: _Pictures,
    settings: QuerySettings,
    rivals_wanted: bool | None,
) -> Iterator[VisualInstance]:
    """Queries about the phrases' senses with the given pictures as golds and candidates.

    Args:
        rivals_wanted: True: only queries with a picture of another sense; False: none of them; None: where
            there are some.
    """
    synsets_of: dict[str, list[str]] = defaultdict(list)
    for phrase in phrases:
        synsets_of[phrase.word].append(phrase.synset_id)
    pool: dict[str, list[str]] = defaultdict(list)  # style -> synsets drawn in it
    for synset_id in sorted({phrase.synset_id for phrase in phrases}):
        for style in pictures.styles:
            if (synset_id, style) in pictures.by_place:
                pool[style].append(synset_id)
    for phrase in phrases:
        others = [s for s in synsets_of[phrase.word] if s != phrase.synset_id]
        golds = order_by_digest(pictures.of(phrase.synset_id), settings.seed)[: settings.queries_per_sense]
        for gold in golds:
            query_id = f"{name}.{phrase.sense_key}.{gold}"
            style = pictures.style[gold]
            rivals: list[str] = []
            if rivals_wanted is not False:
                rival_pictures = [p for synset_id in others for p in pictures.of(synset_id)]
                # in the gold's own style first
                rival_pictures = order_by_digest(rival_pictures, settings.seed)
                rival_pictures.sort(key=lambda p, style=style: pictures.style[p] != style)
                rivals = rival_pictures[: settings.rivals_per_query]
            if rivals_wanted and not rivals:
                continue
            styles = list(dict.fromkeys([style, *(pictures.style[p] for p in rivals)]))
            taken = {phrase.synset_id, *others}
            candidates = [gold, *rivals]
            orders = [iter(order_by_digest(pool[s], seed=hash_of(query_id))) for s in styles]
            while len(candidates) < CANDIDATES:
                turn = (len(candidates) - 1 - len(rivals)) % len(styles)
                synset_id = next((s for s in orders[turn] if s not in taken), None)
                if synset_id is None:
                    break  # too few concepts in this style
                taken.add(synset_id)
                place = pictures.by_place[synset_id, styles[turn]]
                candidates.append(order_by_digest(place, seed=hash_of(query_id))[0])
            if len(candidates) == CANDIDATES:
                yield VisualInstance(
                    instance_id=query_id,
                    language="en",
                    word=phrase.word,
                    phrase=phrase.phrase,
                    candidates=order_by_digest(candidates, seed=hash_of(query_id)),
                    gold=gold,
                    sense_key=phrase.sense_key,
                    rivals=rivals,
                )


def hash_of(query_id: str) -> int:
    """A seed of its own for each query."""
    return int(fraction(query_id, seed=0) * 2**31)


def build(
    inventory: Inventory,
    pictures: Iterable[str | Path],
    outputs: dict[str, str | Path],
    counts: str | Path,
    settings: QuerySettings,
) -> None:
    """Write training pictures and phrases, two dev sets and three tests.

    Args:
        pictures: Parquet files of Picture, one a style.
        outputs: paths by name: pictures (Picture), phrases (Phrase), dev_style, dev_words, unseen_style,
            unseen_words, hard (VisualInstance).
        counts: JSON file for the number of items of each.
    """
    every = [picture for path in pictures for picture in read_records(path, Picture)]
    depicted = {picture.synset_id for picture in every}
    phrases = [phrase for phrase in read_phrases(inventory) if phrase.synset_id in depicted]
    sides = sides_of(phrases, settings)
    held_out = {*settings.dev_families, *settings.test_families}

    def on(side: str) -> list[Phrase]:
        return [phrase for phrase in phrases if sides[phrase.synset_id] == side]

    def drawn(families: Iterable[str] | None = None, without: Iterable[str] = ()) -> _Pictures:
        return _Pictures(p for p in every if (families is None or p.family in families) and p.family not in without)

    train = [p for p in every if sides.get(p.synset_id) == "train" and p.family not in held_out]
    trained = {picture.synset_id for picture in train}
    known = [phrase for phrase in on("train") if phrase.synset_id in trained]
    made = {
        "pictures": train,
        "phrases": known,
        "dev_style": list(_queries("dev_style", known, drawn(settings.dev_families), settings, None)),
        "dev_words": list(_queries("dev_words", on("dev"), drawn(without=settings.test_families), settings, None)),
        "unseen_style": list(_queries("unseen_style", known, drawn(settings.test_families), settings, None)),
        "unseen_words": list(_queries("unseen_words", on("test"), drawn(), settings, False)),
        "hard": list(_queries("hard", on("test"), drawn(), settings, True)),
    }
    for name, records in made.items():
        if not records:
            raise UserError(
                f"The picture corpus {name!r} came out empty: check pictures.styles, the families held out "
                "and the fractions under pictures.split."
            )
    for name, records in made.items():
        kind = {"pictures": Picture, "phrases": Phrase}.get(name, VisualInstance)
        write_records(outputs[name], kind, records)
    write_json(counts, {name: len(records) for name, records in made.items()})
