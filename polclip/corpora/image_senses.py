"""Corpora whose senses come with pictures: image-enhanced SemCor and VWSD-KB, tied to WordNet's senses.

The public labels are BabelNet ids, and BabelNet's mapping to WordNet may not be passed on. BabelNet took its English
glosses of WordNet's concepts from WordNet, though, so a label is matched by its gloss: to the one sense of the
word, in any of its base forms and parts of speech, that has this gloss (case, spaces and closing marks apart). Labels
that are WordNet sense keys are taken as they are. What is not matched (concepts of Wikipedia alone, glosses of other
sources) is left out and counted.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pyarrow as pa

from polclip.corpora.image_metadata import ImageSenses, read_metadata
from polclip.corpora.picture_files import photographs, unpack_pictures
from polclip.corpora.words import find_lemma
from polclip.errors import UserError
from polclip.files import open_parquet, write_json, write_parquet
from polclip.inventory import Inventory, split_gloss
from polclip.records import Phrase, Picture, Sense, TextualInstance, write_records

log = logging.getLogger(__name__)
COUNTS = (
    "instances",
    "skipped_malformed",
    "skipped_gold_not_in_wordnet",
    "skipped_target_not_found",
    "labels",
    "labels_not_in_wordnet",
    "pictures_of_unmatched_labels",
    "pictures_of_several_labels",
)
SHOWN = pa.schema([("name", pa.string()), ("synset_id", pa.string())])  # a picture, and the synset that it shows
_DATASETS = {"image_semcor": "image_semcor_images", "image_vwsd_kb": "image_vwsdkb_images"}  # of the manifest
# VWSD-KB's contexts are phrases that make the word plain; SemCor's are sentences.
WITH_PHRASES = {"image_vwsd_kb"}


def build(
    inventory: Inventory,
    metadata: str | Path,
    outputs: Mapping[str, str | Path],
    counts: str | Path,
    corpus: str,
) -> None:
    """Write the instances and phrases of one corpus, what its pictures show, and what was counted.

    metadata: the public JSON file or a zip with it.
    outputs: `train` (Parquet of TextualInstance), `phrases` (of Phrase; none for SemCor), `shown` (of the columns
    `SHOWN`). counts: JSON by reason (`COUNTS`).
    corpus: image_semcor or image_vwsd_kb. The candidates of an instance are all of WordNet's senses of its lemma
    and part of speech, as in the other corpora. Raises UserError for missing or broken files and when no
    instance can be used.
    """
    _check_name(corpus)
    number = Counter(dict.fromkeys(COUNTS, 0))
    matched = Matched(inventory)
    phrases: dict[Phrase, None] = {}

    def instances() -> Iterator[TextualInstance]:
        for row, found in enumerate(read_metadata(metadata)):
            instance = _instance(found, f"{corpus}.{row}", corpus, matched, number)
            if instance is None:
                continue
            number["instances"] += 1
            if corpus in WITH_PHRASES:
                sense = inventory.sense(instance.gold[0])
                phrases[Phrase(found.word, found.sentence, sense.sense_key, sense.synset_id)] = None
            yield instance
        if not number["instances"]:
            reasons = ", ".join(f"{reason} {count}" for reason, count in number.items() if count) or "it is empty"
            raise UserError(f"{metadata}: no instance can be used ({reasons}). Is it the file of {corpus}?")

    write_records(outputs["train"], TextualInstance, instances())
    write_records(outputs["phrases"], Phrase, phrases)
    shown = matched.pictures(number)
    write_parquet(outputs["shown"], ({"name": name, "synset_id": shown[name]} for name in sorted(shown)), SHOWN)
    write_json(counts, dict(number))
    log.info("%s: %s", corpus, ", ".join(f"{reason} {count:,}" for reason, count in number.items()))


def build_pictures(
    shown: str | Path, images: str | Path, folder: str | Path, table: str | Path, skipped: str | Path, corpus: str
) -> None:
    """Unpack the pictures that `build` found a sense for into `folder`, and write their records (Parquet of Picture).

    images: a zip or tar with the pictures, in any folders. skipped: JSON, how many of them are not in it. Raises
    UserError for a missing or broken archive and for one that has none of them.
    """
    _check_name(corpus)
    # Of hundreds of thousands: each name is in memory once.
    asked = {name: name for name, _ in _read_shown(shown)}
    # The public lists name the feature files of pictures in places.
    stems = {PurePosixPath(name).stem: name for name in asked if name.endswith(".pkl")}
    none = f"{images}: none of the {len(asked):,} pictures of {corpus} is in it. Is it the right archive?"
    files, _ = unpack_pictures(
        images,
        folder,
        lambda file: asked.get(file) or stems.get(PurePosixPath(file).stem),
        lambda: none if asked else "",
    )
    write_records(table, Picture, photographs(corpus, _DATASETS[corpus], folder, files, _read_shown(shown)))
    missing = len(asked) - len(files)
    write_json(skipped, {"missing": missing} if missing else {})
    log.info("%s: %d pictures, %d missing", corpus, len(files), missing)


def _read_shown(path: str | Path) -> Iterator[tuple[str, str]]:
    """The pictures with what they show, sorted by name."""
    with open_parquet(path) as file:
        for rows in file.iter_batches(8192):
            yield from zip(rows["name"].to_pylist(), rows["synset_id"].to_pylist(), strict=True)


def _check_name(corpus: str) -> None:
    if corpus not in _DATASETS:
        raise UserError(f"Unknown corpus {corpus!r}. Allowed: {', '.join(_DATASETS)}.")


class Matched:
    """Labels with the WordNet synsets they were matched to, and images with their labels, gathered on the way."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.synset_of: dict[str, str | None] = {}  # by label; None: seen, and not matched so far
        self._label_of: dict[str, str] = {}  # by image; the first label that names it
        self._shared: set[str] = set()
        self._senses_by_gloss = lru_cache(maxsize=50_000)(self._senses_by_gloss_of)

    def senses(self, word: str, label: str, gloss: str) -> list[Sense]:
        """The senses of the word that a label can mean: of one synset, and rarely of several parts of speech."""
        if "%" in label:
            senses = [self.inventory.sense(label)] if self.inventory.has(label) else []
        else:
            senses = self._senses_by_gloss(word).get(_plain(gloss), [])
        if senses or label not in self.synset_of:
            self.synset_of[label] = senses[0].synset_id if senses else None
        return senses

    def _senses_by_gloss_of(self, word: str) -> dict[str, list[Sense]]:
        senses = [sense for lemma in self.inventory.lookup.lemmas_of(word) for sense in self.inventory.senses(*lemma)]
        by_gloss: dict[str, list[Sense]] = {}
        for sense in senses:
            by_gloss.setdefault(_plain(self.inventory.synset(sense.synset_id).gloss), []).append(sense)
        return by_gloss

    def add_image(self, image: str, label: str) -> None:
        if self._label_of.setdefault(image, label) != label:
            self._shared.add(image)

    def pictures(self, number: Counter[str]) -> dict[str, str]:
        """Image -> synset id of those whose label was matched; counts the labels and images that were not.

        An image that two labels share shows the first one's concept.
        """
        number["labels"] = len(self.synset_of)
        number["labels_not_in_wordnet"] = sum(synset is None for synset in self.synset_of.values())
        number["pictures_of_several_labels"] = len(self._shared)
        shown = {image: self.synset_of[label] for image, label in self._label_of.items() if self.synset_of[label]}
        number["pictures_of_unmatched_labels"] = len(self._label_of) - len(shown)
        return shown


def _instance(
    found: ImageSenses | None, instance_id: str, corpus: str, matched: Matched, number: Counter[str]
) -> TextualInstance | None:
    """The instance of one row, or None and the reason counted; its images are noted in any case."""
    if found is None:
        number["skipped_malformed"] += 1
        return None
    senses: dict[str, list[Sense]] = {}
    for candidate in found.candidates:
        # A label that comes twice keeps the sense that one of its glosses gave it.
        again = matched.senses(found.word, candidate.label, candidate.gloss)
        senses[candidate.label] = senses.get(candidate.label) or again
        for image in candidate.images:
            matched.add_image(image, candidate.label)
    gold = [sense for label in found.gold_labels for sense in senses.get(label, ())]
    if not gold:  # the public lists name some gold senses by gloss alone
        pairs = zip(found.gold_labels, found.gold_glosses, strict=False)
        gold = [sense for label, gloss in pairs for sense in matched.senses(found.word, label, gloss)]
    if not gold:
        number["skipped_gold_not_in_wordnet"] += 1
        return None
    matches = Counter((sense.lemma, sense.pos) for of_label in senses.values() for sense in of_label)
    lemma, pos = max(((sense.lemma, sense.pos) for sense in gold), key=lambda of: matches[of])
    span = _target(found, lemma, pos, matched.inventory)
    if span is None:
        number["skipped_target_not_found"] += 1
        return None
    keys = matched.inventory.sense_keys(lemma, pos)
    return TextualInstance(
        instance_id=instance_id,
        sentence_id=f"{corpus}:{hashlib.sha256(' '.join(found.tokens).encode()).hexdigest()[:16]}",
        tokens=found.tokens,
        target_start=span[0],
        target_end=span[1],
        lemma=lemma,
        pos=pos,
        candidates=keys,
        gold=[key for key in keys if key in {sense.sense_key for sense in gold}],
    )


def _target(found: ImageSenses, lemma: str, pos: str, inventory: Inventory) -> tuple[int, int] | None:
    """Where the word stands: at its token id, else where it is first written as given, else any form of the lemma."""
    tokens = [token.lower() for token in found.tokens]
    word = found.word.lower()
    at = int(found.token_id) if found.token_id.isdecimal() else -1
    if 0 <= at < len(tokens) and tokens[at] == word:
        return at, at + 1
    if word in tokens:
        return tokens.index(word), tokens.index(word) + 1
    parts = word.split()
    for start in range(len(tokens) - len(parts) + 1):
        if tokens[start : start + len(parts)] == parts:
            return start, start + len(parts)
    return find_lemma(found.tokens, lemma, pos, inventory.base_forms)


@lru_cache(maxsize=200_000)
def _plain(gloss: str) -> str:
    """A gloss without its examples, case, doubled spaces, closing marks and the forms of quotation marks."""
    text = re.sub("[`\u2018\u2019]", "'", re.sub("[\u201c\u201d]", '"', gloss))
    return " ".join(split_gloss(text)[0].lower().split()).strip(" .;:,")
