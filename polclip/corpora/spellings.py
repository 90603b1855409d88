"""Ways to write one word: what differs only in ligatures, accents, invisible characters, hyphens and spaces."""

import re
import unicodedata
from functools import lru_cache

# Hyphens and dashes, apostrophes and single quotation marks, by the character of a keyboard.
_MARKS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-") | dict.fromkeys("\u2018\u2019\u02bc\uff07", "'")
)
# Letters that Unicode does not decompose, as WordNet spells them: foehn, smorrebrod.
_LETTERS = str.maketrans(
    {"ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ß": "ss", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {"ð": "d", "þ": "th", "Þ": "Th", "\u0131": "i"}
)
_SEPARATORS = re.compile(r"[-_.'\s]+")


def plain(text: str) -> str:
    """Compatibility characters composed (NFKC: the fi ligature is "fi"), without soft hyphens and other invisible
    characters, with the hyphens and apostrophes of a keyboard."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.translate(_MARKS)).translate(_MARKS)
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def without_accents(text: str) -> str:
    """A plain text in which every accented letter has become the letter alone: cafe, naive."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text.translate(_LETTERS))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def joined(text: str) -> str:
    """A text without what may stand between the parts of a compound: icecream of ice-cream, ice cream, ice_cream."""
    return _SEPARATORS.sub("", text)


@lru_cache(maxsize=100_000)
def spellings(word: str) -> tuple[str, ...]:
    """A word in lower case as it is written, in its plain form, and without accents; each spelling once."""
    written = word.lower()
    lower = plain(word).lower()
    return tuple(dict.fromkeys((written, lower, without_accents(lower))))
