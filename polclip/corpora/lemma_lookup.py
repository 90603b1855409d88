"""Which lemmas of WordNet a word may be a form of, however it is written: one look-up for every part of PolCLIP."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import repeat

from polclip.corpora.function_words import FUNCTION_WORDS, words_of
from polclip.corpora.spellings import joined, spellings
from polclip.corpora.words import tokenise
from polclip.inventory import POS_NAMES, Inventory

Lemma = tuple[str, str]  # a lemma and its part of speech, n v a r

_ONES_OWN = "onesown"  # one token
_PERSONS = {
    "one's": words_of("my your his her its our their"),
    "oneself": words_of("myself yourself himself herself itself ourselves yourselves themselves"),
}
_MARKS_AROUND = "()[]{}<>.,;:!?'\"\u201c\u201d\u00ab\u00bb"
_PARTS_OF_COMPOUNDS = re.compile(r"[-_\s]+")


class LemmaLookup:
    """Looks up words, and words with spaces, hyphens or "_" between, in an inventory."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._known: dict[tuple[str, str | None], tuple[Lemma, ...]] = {}

    @cached_property
    def longer(self) -> dict[Lemma, list[tuple[list[str], str]]]:
        """First word and part of speech of the lemmas of several words -> their words, the lemma; the longest first.

        Compounds with hyphens are among them, since many write well known for well-known. Those that begin or end with
        a function word are not: "has been" is not the noun has-been.
        """
        found: dict[Lemma, list[tuple[list[str], str]]] = {}
        for lemma, pos in self.inventory.lemmas():
            if lemma.isalpha():
                continue
            words = ["one's" if word == _ONES_OWN else word for word in tokenise(_written(lemma))]
            if len(words) == 1 and "-" in lemma:
                words = lemma.split("-")
                if not all(words) or {words[0], words[-1]} & FUNCTION_WORDS:
                    continue
            if len(words) > 1 and not (len(words) == 2 and words[1] == "."):  # "no." is also the end of a sentence
                found.setdefault((words[0], pos), []).append((words, lemma))
        for same in found.values():
            same.sort(key=lambda entry: -len(entry[0]))
        return found

    @cached_property
    def _compounds(self) -> dict[str, list[Lemma]]:
        """Lemmas with hyphens, spaces, dots or apostrophes by what is left without them."""
        found: dict[str, list[Lemma]] = {}
        for lemma, pos in self.inventory.lemmas():
            if not lemma.isalpha():
                found.setdefault(joined(lemma), []).append((lemma, pos))
        return found

    def lemmas_of(self, word: str, pos: str | None = None) -> tuple[Lemma, ...]:
        """The lemmas that a word may be a form of, each with its part of speech; none: not in WordNet.

        The first of these ways that finds one ends the search: as it is written; with ligatures, invisible characters
        and typographic marks made plain; without accents; with other hyphens and spaces, or none; as one of the words
        beside a "/"; without marks around it; as the last part of a word with hyphens.
        """
        found = self._known.get((word, pos))
        if found is None:
            if len(self._known) > 200_000:
                self._known.clear()
            found = self._known[word, pos] = self._lemmas_of(word, pos)
        return found

    def of_whole(self, word: str, pos: str | None = None) -> tuple[Lemma, ...]:
        """As `lemmas_of`, but no part of the word stands for it."""
        for spelling in spellings(word):
            if found := self._as_spelt(spelling, pos):
                return found
        return self._compound(spelling, pos)

    def _lemmas_of(self, word: str, pos: str | None) -> tuple[Lemma, ...]:
        if found := self.of_whole(word, pos):
            return found
        spelling = spellings(word)[-1]
        if "/" in spelling:
            parts = (self.lemmas_of(part, pos) for part in spelling.split("/") if part.strip())
            return tuple(dict.fromkeys(lemma for of_part in parts for lemma in of_part))
        last = spelling.strip(_MARKS_AROUND).rpartition("-")[2]
        return self.lemmas_of(last, pos) if last and last != spelling else ()

    def _as_spelt(self, word: str, pos: str | None) -> tuple[Lemma, ...]:
        tokens = tokenise(word.replace("_", " "))
        whole = "_".join(word.split())
        found: dict[Lemma, None] = {}
        for part in parts_of_speech(pos):
            # The suffix rules are for single words.
            bases_of = self.inventory.base_forms if len(tokens) == 1 else self.inventory.irregular_lemmas
            bases = [whole, *sorted(bases_of(whole, part) - {whole})]
            found |= {(base, part): None for base in bases if self.inventory.sense_keys(base, part)}
            if len(tokens) > 1:
                found |= {(lemma, part): None for width, lemma in self.starting(tokens, part) if width == len(tokens)}
        return tuple(found)

    def starting(self, tokens: Sequence[str], pos: str, at: int = 0) -> Iterator[tuple[int, str]]:
        """Lemmas of several words that begin at a token (lower case, plain): how many tokens they are, and the lemma.

        Of a verb the first word may be inflected, and "one's" and "oneself" stand for any person; the words of other
        lemmas may all be inflected.
        """
        for base in sorted(self.inventory.base_forms(tokens[at], pos)):
            for words, lemma in self.longer.get((base, pos), ()):
                behind = tokens[at + 1 : at + len(words)]
                if len(behind) == len(words) - 1 and all(map(self._is_form, behind, words[1:], repeat(pos))):
                    yield len(words), lemma

    def _is_form(self, token: str, word: str, pos: str) -> bool:
        if pos == "v":
            return token == word or token in _PERSONS.get(word, ())
        return word in self.inventory.base_forms(token, pos)

    def _compound(self, word: str, pos: str | None) -> tuple[Lemma, ...]:
        """Lemmas with the same letters, whatever is between the parts; the first and the last part may be inflected."""
        parts = [part for part in _PARTS_OF_COMPOUNDS.split(word) if part]
        if not parts:
            return ()
        first, *middle = parts
        last = middle.pop() if middle else ""
        found: dict[Lemma, None] = {}
        for part in parts_of_speech(pos):
            bases = self.inventory.base_forms
            keys = {joined(base) for base in bases("".join(parts), part)}
            if last:
                between = "".join(middle)
                keys |= {joined(a + between + b) for a in bases(first, part) for b in bases(last, part)}
            for key in sorted(keys):
                if self.inventory.sense_keys(key, part):
                    found[key, part] = None
                found |= {lemma: None for lemma in self._compounds.get(key, ()) if lemma[1] == part}
        return tuple(found)

    def named(self, lemma: str, pos: str | None = None) -> tuple[Lemma, ...]:
        """The lemmas that an uninflected word names: as written, else in another spelling."""
        for spelling in spellings(lemma):
            written = "_".join(spelling.replace("_", " ").split())
            found = tuple((written, part) for part in parts_of_speech(pos) if self.inventory.sense_keys(written, part))
            if found:
                return found
        key = joined(spelling)
        found = tuple((key, part) for part in parts_of_speech(pos) if self.inventory.sense_keys(key, part))
        return found + tuple(lemma for lemma in self._compounds.get(key, ()) if lemma[1] in parts_of_speech(pos))


def parts_of_speech(pos: str | None) -> Iterable[str]:
    return POS_NAMES if pos is None else (pos,)


def _written(lemma: str) -> str:
    """A lemma as text, its "one's" one token."""
    return lemma.replace("_", " ").replace("one's ", f"{_ONES_OWN} ")
