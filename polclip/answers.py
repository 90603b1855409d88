"""What `Disambiguator` answers: frozen records. Where there is no answer, `reason` says why, and nothing is raised."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from polclip.corpora.pos_tags import ALLOWED as POS_TAGS

if TYPE_CHECKING:
    import pandas as pd


class Reason(StrEnum):
    """Why there is no answer, or less than was asked for."""

    NO_TEXT = "the text is empty"
    TEXT_TOO_LONG = "the text is longer than 100,000 characters"
    PHRASE_TOO_LONG = "word, phrase and definition are together longer than 5,000 characters"
    NO_WORDS = "no word of the text is in WordNet"
    FUNCTION_WORDS = "the text has function words alone: name one as the target to ask for it"
    NO_WORDS_OF_POS = "no word of the text has a sense of this part of speech in WordNet"
    NOT_AMBIGUOUS = "no word of the text has two senses or more in WordNet"
    TARGET_NOT_FOUND = "the target does not stand in the text"
    UNKNOWN_LEMMA = "the word is not in WordNet"
    NO_SENSE_OF_POS = "the word has no sense of this part of speech in WordNet"
    UNKNOWN_POS = f"the part of speech is none of {POS_TAGS}"
    NOT_READ = "the model's text tower does not read this word"
    UNKNOWN_SENSE = "there is no such sense key in WordNet"
    NO_PICTURES = "there is no picture"
    NONE_READABLE = "none of the pictures can be read"
    NO_SIG = "the model was trained without SIG and imagines nothing"
    NO_ISG = "the model was trained without ISG and describes nothing"
    NO_INDEX = "the glosses of this model are not indexed"
    # Of pictures, as `polclip.pictures.read_picture` says them.
    MISSING = "missing"
    CANNOT_BE_READ = "cannot be read"
    CANNOT_BE_DECODED = "cannot be decoded"
    TOO_LARGE = "too large"
    TOO_THIN = "too thin"
    HEIC = "HEIC, save it as JPEG or PNG"
    SIGNED_PIXELS = "signed pixels"
    PIXELS_OF_32_BITS = "pixels of 32 bits"


@dataclass(frozen=True)
class RankedSense:
    """A sense with its score, e_w . (g + m_g) / temperature, or the cosine / temperature where the model learned of
    each sense, and its probability, the softmax of the scores over the candidates.

    The probability weighs the candidates of one word against each other. How often a model is right where it says 90 %,
    the report of its run draws.
    """

    sense_key: str  # bat%1:05:00::
    synset_id: str  # 02139199-n
    lemma: str
    pos: str  # n v a r
    gloss: str
    score: float
    probability: float


@dataclass(frozen=True)
class WordSenses:
    """A word of a text with its candidate senses, best first."""

    target: str  # as it stands in the text
    start: int  # characters of the text; -1 where the target does not stand there
    end: int  # one past the last
    senses: tuple[RankedSense, ...] = ()
    reason: Reason | None = None


@dataclass(frozen=True)
class TextSenses:
    """A text with its words in their order; with a target, that one alone."""

    text: str
    words: tuple[WordSenses, ...] = ()
    reason: Reason | str | None = None  # a sentence that names the line, where a file's record cannot be read

    def to_pandas(self) -> "pd.DataFrame":
        """One row per candidate sense: target, start, end, rank (from 1), and the fields of RankedSense."""
        rows = [
            {"target": word.target, "start": word.start, "end": word.end, "rank": rank} | asdict(sense)
            for word in self.words
            for rank, sense in enumerate(word.senses, start=1)
        ]
        return _table(rows, "target", "start", "end", "rank", *_names(RankedSense))


@dataclass(frozen=True)
class AmbiguousWord:
    """A word of a text with the number of its candidate senses, two or more."""

    target: str
    start: int  # as in WordSenses
    end: int
    senses: int


@dataclass(frozen=True)
class AmbiguousWords:
    """The words of a text between whose senses a model can choose, in their order."""

    text: str
    words: tuple[AmbiguousWord, ...] = ()
    reason: Reason | None = None

    def to_pandas(self) -> "pd.DataFrame":
        """One row per word, with the fields of AmbiguousWord."""
        return _table(map(asdict, self.words), *_names(AmbiguousWord))


@dataclass(frozen=True)
class RankedImage:
    """A picture with its score, a sum of two cosines or one, and its softmax over those that were read."""

    image: str  # its path, or its place for an open file: "picture 3"
    score: float
    probability: float


@dataclass(frozen=True)
class SkippedImage:
    """A picture that cannot be used, and why."""

    image: str
    reason: Reason


@dataclass(frozen=True)
class RankedImages:
    """Pictures, best first: of a phrase (`rank_images`) or of a sense key (`imagine`)."""

    query: str
    images: tuple[RankedImage, ...] = ()
    skipped: tuple[SkippedImage, ...] = ()
    reason: Reason | None = None

    def to_pandas(self) -> "pd.DataFrame":
        """One row per picture, best first: rank (from 1), and the fields of RankedImage."""
        rows = [{"rank": rank} | asdict(image) for rank, image in enumerate(self.images, start=1)]
        return _table(rows, "rank", *_names(RankedImage))


@dataclass(frozen=True)
class DescribedGloss:
    """A gloss with its cosine to the implicit gloss of a picture."""

    synset_id: str
    lemmas: tuple[str, ...]
    gloss: str
    score: float


@dataclass(frozen=True)
class Description:
    """The glosses nearest to what a picture says, best first."""

    image: str
    glosses: tuple[DescribedGloss, ...] = ()
    reason: Reason | None = None

    def to_pandas(self) -> "pd.DataFrame":
        """One row per gloss, best first: rank (from 1), and the fields of DescribedGloss."""
        rows = [{"rank": rank} | asdict(gloss) for rank, gloss in enumerate(self.glosses, start=1)]
        return _table(rows, "rank", *_names(DescribedGloss))


Answer = TextSenses | AmbiguousWords | RankedImages | Description


def as_plain(answer: Answer) -> dict:
    """An answer as JSON writes it."""
    return asdict(answer)


def _names(record: type) -> list[str]:
    return [field.name for field in fields(record)]


def _table(rows: Iterable[dict], *columns: str) -> "pd.DataFrame":
    """A table that has its columns without a row, too."""
    import pandas as pd  # here, since it takes a second that most uses do without

    return pd.DataFrame(list(rows), columns=list(columns))
