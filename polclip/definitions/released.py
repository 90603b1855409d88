"""Definitions that came with the corpora: chat lines, of which the user's names a word and its phrase.

The D-GPT corpus is JSON Lines, `{"messages": [system, user, assistant]}`. The wording of the user's lines is not
documented, so a line is about an instance when it holds the whole phrase or sentence and, beside it, the word.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from polclip.corpora.words import tokenise
from polclip.errors import UserError
from polclip.files import read_json_lines
from polclip.records import TextualInstance, VisualInstance

Key = tuple[tuple[str, ...], tuple[str, ...]]  # tokens of the word, tokens of the phrase


def key_of(instance: TextualInstance | VisualInstance) -> Key:
    if isinstance(instance, VisualInstance):
        return _tokens(instance.word), _tokens(instance.phrase)
    return _tokens(instance.text[slice(*instance.target_span)]), _tokens(instance.text)


def read_released(path: str | Path, instances: Iterable[TextualInstance | VisualInstance]) -> dict[Key, str]:
    """The released definition of each instance that has one, by `key_of`; the first of several counts.

    Reads the corpus once, a line at a time. Of phrases that hold one another, a line is about the longest.
    Raises UserError with file and line for a line of another form.
    """
    words: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for instance in instances:
        word, phrase = key_of(instance)
        words.setdefault(phrase, set()).add(word)
    lengths = sorted({len(phrase) for phrase in words}, reverse=True)
    found: dict[Key, str] = {}
    for number, row in enumerate(read_json_lines(path), start=1):
        asked, answer = _turns(row, f"{path}, line {number}")
        key = next(_matches(_tokens(asked), words, lengths), None)
        if key and answer:
            found.setdefault(key, answer)
    return found


def _turns(row: object, where: str) -> tuple[str, str]:
    try:
        said = {message["role"]: message["content"] for message in row["messages"]}
        return said["user"], " ".join(said["assistant"].split())
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f'{where}: not a chat. Allowed: {{"messages": [...]}} with the roles user and assistant.'
        ) from None


def _matches(
    asked: tuple[str, ...], words: dict[tuple[str, ...], set[tuple[str, ...]]], lengths: list[int]
) -> Iterator[Key]:
    for length in lengths:
        for start in range(len(asked) - length + 1):
            phrase = asked[start : start + length]
            # The gap is none of a word's tokens, so that no word is found across it.
            rest = (*asked[:start], "\0", *asked[start + length :])
            for word in sorted(words.get(phrase, ())):
                if any(rest[at : at + len(word)] == word for at in range(len(rest) - len(word) + 1)):
                    yield word, phrase


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(token.lower() for token in tokenise(text))
