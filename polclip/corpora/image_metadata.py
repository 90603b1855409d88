"""The public training metadata of PolCLIP, an instance at a time: a file of 3 GB never stands in memory.

A JSON array of objects (or one object a line) with the keys word, words, sentence, token_id, gold_labels, gold_gloss,
candidate_labels, candidate_gloss (side by side) and candidate_image_path (label -> list of image files), as the
public training code reads them. Files are named with the folders of a Windows machine in front.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import ijson

from polclip.corpora.words import tokenise
from polclip.downloads.unpacking import open_members
from polclip.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A sense as the metadata gives it."""

    label: str  # BabelNet id or WordNet sense key
    gloss: str
    images: list[str]  # file names


@dataclass(frozen=True)
class ImageSenses:
    """A word in a sentence or phrase, and its senses with their images."""

    word: str
    tokens: list[str]
    sentence: str
    token_id: str
    gold_labels: list[str]
    gold_glosses: list[str]
    candidates: list[Candidate]


def read_metadata(path: str | Path) -> Iterator[ImageSenses | None]:
    """The instances of a JSON file, or of the one JSON file in a zip, streaming; None for one of another form.

    Raises UserError for a missing or broken file, and for one that is no JSON; it names the last instance read.
    """
    path = Path(path)
    with _open_json(path) as file:
        first = _first_character(file)
        if first not in (b"[", b"{"):
            raise UserError(
                f"{path} is no JSON file of instances: it begins with {first!r}. A page instead of the file may "
                "have been downloaded: delete it, and fetch it by hand from the page that stands in the manifest."
            )
        count = 0
        try:
            # An array gives its items, lines give themselves. Without use_float, a number of 5,000 digits ends Python.
            inside, several = ("item", False) if first == b"[" else ("", True)
            for row in ijson.items(file, inside, multiple_values=several, use_float=True):
                count += 1
                yield _instance(row)
        except ijson.JSONError as error:
            raise UserError(
                f"{path} is broken or cut off after instance {count:,} ({error}): delete it and download it again."
            ) from error


@contextmanager
def _open_json(path: Path) -> Iterator[BufferedReader]:
    if not path.is_file():
        raise UserError(f"There is no file {path}. Download it first: snakemake --cores 1 datasets")
    with open(path, "rb") as file:
        zipped = file.peek(2)[:2] == b"PK"
        if not zipped:
            yield file
    if zipped:
        with closing(open_members(path, "*.json*", max_bytes=10**11)) as members:
            name, stream = next(members)
            log.info("%s: reading %s", path, name)
            yield stream


def _first_character(file: BufferedReader) -> bytes:
    """The first character that says something; what stands before it, and a byte order mark, is read away."""
    while (first := file.peek(1)[:1]) in (b" ", b"\t", b"\r", b"\n", b"\xef", b"\xbb", b"\xbf"):
        file.read(1)
    return first


def _instance(row: object) -> ImageSenses | None:
    """One object as a record, or None where a key is missing or holds something else."""
    try:
        sentence, words = _text(row["sentence"]), row["words"]
        images = row["candidate_image_path"]
        candidates = [
            Candidate(_name(label), gloss, list(map(file_name, _list(images.get(label) or []))))
            for label, gloss in zip(_list(row["candidate_labels"]), _list(row["candidate_gloss"]), strict=True)
        ]
        # Some lists give the words as one text; the sentence is then cut into tokens.
        tokens = [word.replace("_", " ") for word in _list(words)] if not isinstance(words, str) else []
        return ImageSenses(
            word=_name(row["word"]).replace("_", " ").strip(),
            tokens=tokens or tokenise(sentence),
            sentence=" ".join(sentence.split()),
            token_id=str(row["token_id"]),
            gold_labels=_one_or_more(row["gold_labels"]),
            gold_glosses=_one_or_more(row["gold_gloss"]),
            candidates=candidates,
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _name(value: object) -> str:
    if not _text(value).strip(" _"):
        raise ValueError("an empty name")
    return value


def _list(value: object) -> list[str]:
    if not isinstance(value, list):  # a text or a map would give its letters or its keys
        raise TypeError(f"{value!r} is no list")
    return [_text(item) for item in value]


def _one_or_more(value: object) -> list[str]:
    return [_text(value)] if isinstance(value, str) else _list(value)


def file_name(path: str) -> str:
    """The last part of a path of Windows or of any other system."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]
