"""Which words of a running text may have a sense of WordNet, and which lemmas they may be forms of."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from polclip.corpora.words import base_forms, find_lemma, token_spans, tokenise
from polclip.inventory import POS_NAMES, Inventory

# Words with a function and no sense to choose, though WordNet has homographs of them (an "a" is an angstrom too).
# Asked for as a target each of them is answered.
_FUNCTION_WORDS = """
a an the this that these those some any no every each either neither both all another such
i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
we us our ours ourselves they them their theirs themselves one ones who whom whose which what
about above across after against along amid among around as at before behind below beneath beside besides between
beyond but by despite down during except for from in inside into like near of off on onto out outside over past per
since through throughout till to toward towards under until up upon via with within without
and or nor so yet if because although though unless while whereas whether than when where why how
be am is are was were been being have has had having do does did doing done
can could may might must shall should will would ought
not n't 's 're 've 'll 'd 'm 'em
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True)
class Mention:
    """A word, or some words that are one lemma, in a text: characters (start, end), end exclusive."""

    start: int
    end: int
    lemmas: tuple[tuple[str, str], ...]  # with their parts of speech, n v a r; none: not in WordNet


class LemmaFinder:
    """Finds lemmas of an inventory in texts, those of several words among them."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        # First word of the lemmas of several words -> their words, the lemma, its part of speech; the longest first.
        self._longer: dict[str, list[tuple[list[str], str, str]]] = {}
        for lemma, pos in inventory.lemmas():
            if "_" in lemma and len(words := tokenise(lemma.replace("_", " "))) > 1:
                self._longer.setdefault(words[0], []).append((words, lemma, pos))
        for found in self._longer.values():
            found.sort(key=lambda one: -len(one[0]))

    def content_words(self, text: str, pos: str | None = None, most: int | None = None) -> list[Mention]:
        """The words of a text that have a sense, but for function words; the longest lemma that fits, left to right."""
        return list(islice(self._mentions(text, pos), most))

    def _mentions(self, text: str, pos: str | None) -> Iterable[Mention]:
        spans = token_spans(text)
        tokens = [text[start:end].lower() for start, end in spans]
        at = 0
        while at < len(tokens):
            width, lemmas = self._longest(tokens, at, pos)
            if width == 1 and tokens[at] in FUNCTION_WORDS:
                lemmas = ()
            if lemmas:
                yield Mention(spans[at][0], spans[at + width - 1][1], lemmas)
            at += width

    def _longest(self, tokens: list[str], at: int, pos: str | None) -> tuple[int, tuple[tuple[str, str], ...]]:
        """How many tokens from `at` are one lemma, and the lemmas they may be."""
        found: dict[tuple[str, str], None] = {}
        width = 1
        for part in _parts(pos):
            for base in sorted(base_forms(tokens[at], part)):
                for words, lemma, of in self._longer.get(base, ()):
                    if len(words) < width or of != part:
                        continue
                    rest = tokens[at + 1 : at + len(words)]
                    if len(rest) == len(words) - 1 and _all_forms(rest, words[1:], part):
                        if len(words) > width:
                            width, found = len(words), {}
                        found[lemma, part] = None
        return (width, tuple(found)) if width > 1 else (1, self.lemmas_of(tokens[at], pos))

    def lemmas_of(self, word: str, pos: str | None = None) -> tuple[tuple[str, str], ...]:
        """The lemmas that a word, or words with spaces between, may be forms of, each with its part of speech."""
        tokens = tokenise(word.replace("_", " ").lower())
        whole = "_".join(word.lower().split())
        found: dict[tuple[str, str], None] = {}
        for part in _parts(pos):
            if len(tokens) == 1:
                bases = [whole, *sorted(base_forms(tokens[0], part) - {whole})]
                found |= {(base, part): None for base in bases if self.inventory.sense_keys(base, part)}
                continue
            if self.inventory.sense_keys(whole, part):
                found[whole, part] = None
            for base in sorted(base_forms(tokens[0], part)) if tokens else ():
                for words, lemma, of in self._longer.get(base, ()):
                    if of == part and len(words) == len(tokens) and _all_forms(tokens[1:], words[1:], part):
                        found[lemma, part] = None
        return tuple(found)

    def find(self, text: str, target: str, pos: str | None = None) -> Mention | None:
        """The first mention of a target: as it is written, in another case, or as a form of the lemma that it names."""
        spans = token_spans(text)
        tokens = [text[start:end] for start, end in spans]
        asked = tokenise(target.replace("_", " "))
        if not asked:
            return None
        for written in (str, str.lower):
            wanted, there = list(map(written, asked)), list(map(written, tokens))
            for at in range(len(there) - len(wanted) + 1):
                if there[at] == wanted[0] and there[at : at + len(wanted)] == wanted:
                    return Mention(spans[at][0], spans[at + len(wanted) - 1][1], self.lemmas_of(target, pos))
        lemma = "_".join(target.lower().replace("_", " ").split())
        found: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for part in _parts(pos):
            there = find_lemma(tokens, lemma, part) if self.inventory.sense_keys(lemma, part) else None
            if there is not None:
                found.setdefault(there, []).append((lemma, part))
        if not found:
            return None
        first, end = min(found)
        return Mention(spans[first][0], spans[end - 1][1], tuple(found[first, end]))


def _parts(pos: str | None) -> Iterable[str]:
    return POS_NAMES if pos is None else (pos,)


def _all_forms(tokens: list[str], words: list[str], pos: str) -> bool:
    """Whether each token may be a form of its word."""
    return all(word in base_forms(token, pos) for token, word in zip(tokens, words, strict=True))
