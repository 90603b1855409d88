"""What travels between the steps: senses, instances and predictions.

Everything is tied together by ids (sense key, synset id, instance id, picture id), never by position or text.
Records are stored as Parquet with the schemas below and read one batch at a time.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TypeVar, get_args

import pyarrow as pa

from polclip.errors import UserError
from polclip.files import open_parquet, write_parquet

READ_AT_ONCE = 8192  # records; as Python's objects a sentence takes about 3 kB

_strings = pa.list_(pa.string())
_BETWEEN_BLANKS = re.compile(r"\S+")
_PUNCTUATION = string.punctuation + "\u00ab\u00bb\u2018\u2019\u201c\u201d\u2026\u060c\u061b\u061f"


@dataclass(frozen=True)
class Sense:
    """One sense of one lemma in WordNet 3.0; or a BabelNet id tied to a synset, with no lemma and number 0."""

    sense_key: str  # bat%1:05:00::
    lemma: str  # lower case, words joined by "_"
    pos: str  # n v a r; satellite adjectives are "a" here
    ss_type: str  # n v a s r
    sense_number: int  # 1 is the first sense
    tag_count: int  # WordNet's counts come from SemCor: never a feature of training
    synset_id: str  # 02139199-n (offset in WordNet 3.0 and ss_type)
    forms: str = ""  # irregular ones of the lemma, a space between, where the archive has WordNet's exception lists


@dataclass(frozen=True)
class Synset:
    synset_id: str
    lexname: str  # noun.animal
    gloss: str  # without example sentences
    examples: list[str]
    lemmas: list[str]  # as written in WordNet, words joined by "_"
    hypernyms: list[str]  # synset ids, instance hypernyms included


@dataclass(frozen=True)
class TextualInstance:
    """A target word in its sentence, and the senses it may have."""

    instance_id: str
    sentence_id: str
    tokens: list[str]
    target_start: int  # first token of the target
    target_end: int  # one past its last token
    lemma: str
    pos: str  # n v a r
    candidates: list[str]  # sense keys (XL-WSD: BabelNet ids), in WordNet's order unless `by_frequency` is false
    gold: list[str]  # of the same kind; several are possible
    by_frequency: bool = True  # false: the candidates are in no order, and none is known to be the first sense

    @property
    def first_sense(self) -> str | None:
        """The most frequent sense by WordNet's order; None without candidates and where their order is not known."""
        return self.candidates[0] if self.by_frequency and self.candidates else None

    @property
    def document(self) -> str:
        """The document of the sentence, br-a01 of br-a01.s3; "" where sentences stand alone."""
        return self.sentence_id.rpartition(".")[0]

    @property
    def text(self) -> str:
        return " ".join(self.tokens)

    @property
    def target_span(self) -> tuple[int, int]:
        """Characters of the target in `text`: (start, end), end exclusive."""
        start = sum(len(token) + 1 for token in self.tokens[: self.target_start])
        return start, start + len(" ".join(self.tokens[self.target_start : self.target_end]))


@dataclass(frozen=True)
class VisualInstance:
    """An ambiguous word in a short phrase, and ten pictures one of which shows what is meant."""

    instance_id: str
    language: str
    word: str
    phrase: str
    candidates: list[str]  # picture ids
    gold: str  # picture id
    sense_key: str | None = None  # what the gold picture shows, where it is known
    rivals: list[str] = field(default_factory=list)  # candidates that show another sense of the word

    @property
    def word_span(self) -> tuple[int, int] | None:
        """Characters of the word in `phrase`: (start, end), end exclusive; None where it does not occur there.

        Only whole words count: "goal" is in "football goal", not in "goalkeeper"; of several places the first. Case,
        punctuation around a word and the form of its accents do not matter.
        """
        words = [_plain(word) for word in self.word.replace("_", " ").split()]
        found = list(_BETWEEN_BLANKS.finditer(self.phrase))
        plain = [_plain(token[0]) for token in found]
        for start in range(len(found) - len(words) + 1 if words else 0):
            end = start + len(words)
            if plain[start:end] == words:
                return found[start].start(), found[end - 1].end()
        return None


@dataclass(frozen=True)
class Picture:
    picture_id: str  # noto:1F987
    path: str  # relative to the project's folder
    style: str  # noto
    family: str  # drawing styles of one family stay on one side of every split
    name: str  # the name its makers gave it
    synset_id: str | None  # what it shows, where it is known
    dataset: str  # entry of the download manifest it came from


@dataclass(frozen=True)
class Phrase:
    """A word made plain by a cue, for training: "mouse rodent" means mouse%1:05:00::."""

    word: str
    phrase: str
    sense_key: str
    synset_id: str


@dataclass(frozen=True)
class Prediction:
    """One instance's candidates with their scores, best first; an unanswered instance has none."""

    instance_id: str
    candidates: list[str]
    scores: list[float]


def _plain(word: str) -> str:
    """A word to compare: composed, without case and without punctuation around it, unless it has nothing else."""
    word = unicodedata.normalize("NFC", word.casefold())
    return word.strip(_PUNCTUATION) or word


SCHEMAS: dict[type, pa.Schema] = {
    Sense: pa.schema(
        [(name, pa.string()) for name in ("sense_key", "lemma", "pos", "ss_type")]
        + [("sense_number", pa.int32()), ("tag_count", pa.int32()), ("synset_id", pa.string()), ("forms", pa.string())]
    ),
    Synset: pa.schema(
        [(name, pa.string()) for name in ("synset_id", "lexname", "gloss")]
        + [(name, _strings) for name in ("examples", "lemmas", "hypernyms")]
    ),
    TextualInstance: pa.schema(
        [
            ("instance_id", pa.string()),
            ("sentence_id", pa.string()),
            ("tokens", _strings),
            ("target_start", pa.int32()),
            ("target_end", pa.int32()),
            ("lemma", pa.string()),
            ("pos", pa.string()),
            ("candidates", _strings),
            ("gold", _strings),
            ("by_frequency", pa.bool_()),
        ]
    ),
    VisualInstance: pa.schema(
        [(name, pa.string()) for name in ("instance_id", "language", "word", "phrase")]
        + [("candidates", _strings), ("gold", pa.string()), ("sense_key", pa.string()), ("rivals", _strings)]
    ),
    Phrase: pa.schema([(name, pa.string()) for name in ("word", "phrase", "sense_key", "synset_id")]),
    Picture: pa.schema(
        [(name, pa.string()) for name in ("picture_id", "path", "style", "family", "name", "synset_id", "dataset")]
    ),
}

# By task.
INSTANCES: dict[str, type] = {"textual": TextualInstance, "visual": VisualInstance}
Record = TypeVar("Record", Sense, Synset, TextualInstance, VisualInstance, Phrase, Picture)


def write_records(path: str | Path, kind: type[Record], records: Iterable[Record]) -> None:
    """Write records of one kind to a Parquet file, streaming."""
    write_parquet(path, (asdict(record) for record in records), SCHEMAS[kind])


def read_records(path: str | Path, kind: type[Record]) -> Iterator[Record]:
    """Read the records of one kind from a Parquet file, a batch at a time; other columns are left out.

    Raises UserError for a file that is not Parquet or broken, lacks a column, has one of another type (lists where
    texts must be), or a value missing where one must be.
    """
    try:
        with open_parquet(path) as file:
            _check_columns(file.schema_arrow, kind, path)
            for batch in file.iter_batches(READ_AT_ONCE, columns=SCHEMAS[kind].names):
                _check_values(batch, kind, path)
                for row in batch.to_pylist():
                    yield kind(**row)
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}. Run the step that writes it.") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no Parquet file, or broken ({error}). Delete it and run again.") from error


def _check_columns(found: pa.Schema, kind: type, path: str | Path) -> None:
    wrong = [
        column.name
        for column in SCHEMAS[kind]
        if column.name not in found.names
        or pa.types.is_nested(found.field(column.name).type) != pa.types.is_nested(column.type)
        or pa.types.is_integer(found.field(column.name).type) != pa.types.is_integer(column.type)
    ]
    if wrong:
        raise UserError(
            f"{path} holds no {kind.__name__} records: {', '.join(wrong)} is not there or of another type. "
            f"Found: {', '.join(found.names)}. Delete it and run again."
        )


def _check_values(batch: pa.RecordBatch, kind: type, path: str | Path) -> None:
    for column in fields(kind):
        if batch[column.name].null_count and type(None) not in get_args(column.type):
            raise UserError(f"{path}: a {kind.__name__} record has no {column.name}. Delete the file and run again.")
