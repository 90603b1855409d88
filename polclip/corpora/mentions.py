"""Which words of a running text may have a sense of WordNet, and which lemmas they may be forms of."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from polclip.corpora.function_words import FUNCTION_WORDS, case_is_told, parts_in_context, words_of
from polclip.corpora.lemma_lookup import Lemma, parts_of_speech
from polclip.corpora.spellings import joined, plain, without_accents
from polclip.corpora.words import find_lemma, has_no_lemma, token_spans, tokenise
from polclip.inventory import Inventory

# What may be apart from its verb: looked it up. The second ones are prepositions too, "put it on the table".
_PARTICLES = words_of("up out off down away back apart together aside forth")
_PARTICLES_OR_PREPOSITIONS = words_of("in on over around about through along across by")
_FURTHEST_PARTICLE = 4  # tokens behind its verb
_PRONOUNS_BETWEEN = words_of(
    "it him her them me us you this that these those one all both some the a an my your his its our their"
)


@dataclass(frozen=True)
class Mention:
    """A word, or some words that are one lemma, in a text: characters (start, end), end exclusive."""

    start: int
    end: int
    lemmas: tuple[Lemma, ...]  # none: not in WordNet


class LemmaFinder:
    """Finds lemmas of an inventory in texts, those of several words among them."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.lookup = inventory.lookup
        self.lemmas_of = self.lookup.lemmas_of

    # --- all words of a text

    def content_words(self, text: str, pos: str | None = None, most: int | None = None) -> list[Mention]:
        """The words of a text that have a sense, but for function words, by where they start.

        Several words that are one lemma come before the words in it, so that mentions may overlap: "made it", "made".
        Which of both is meant, a look-up cannot tell. A verb with its particle apart ("looked it up") may be a form of
        both lemmas, look and look_up.
        """
        return list(islice(self._mentions(_Tokens.of(text), pos), most))

    def has_only_function_words(self, text: str) -> bool:
        """Whether a text has words, all of them function words or contractions."""
        words = [word for word in _Tokens.of(text).plain if word[:1].isalnum()]
        return bool(words) and all(word in FUNCTION_WORDS or ("'" in word and has_no_lemma(word)) for word in words)

    def _mentions(self, tokens: "_Tokens", pos: str | None) -> Iterator[Mention]:
        furthest = 0  # token behind the longest lemma so far
        for at in range(len(tokens.plain)):
            if has_no_lemma(tokens.plain[at]):
                continue
            width, lemmas = self._several(tokens.plain, at, pos)
            if at + width > furthest and lemmas:
                furthest = at + width
                yield Mention(tokens.spans[at][0], tokens.spans[at + width - 1][1], lemmas)
            if lemmas := self._one(tokens, at, pos):
                yield Mention(*tokens.spans[at], lemmas)

    def _one(self, tokens: "_Tokens", at: int, pos: str | None) -> tuple[Lemma, ...]:
        """The lemmas of one token, if it is a content word where it is."""
        word = tokens.plain[at]
        if word not in FUNCTION_WORDS:
            return self.lemmas_of(word, pos) + self._with_particle(tokens.plain, at, pos)
        parts = parts_in_context(
            tokens.written, tokens.plain, at, tokens.case, tokens.written[at] in self._capitals, self._is_lemma
        )
        return tuple(lemma for lemma in self.lemmas_of(word, pos) if lemma[1] in parts)

    def _is_lemma(self, word: str, pos: str) -> bool:
        return bool(self.inventory.sense_keys(word, pos))

    @cached_property
    def _capitals(self) -> frozenset[str]:
        """The spellings with capital letters that WordNet has of lemmas that are function words otherwise."""
        lemmas = (lemma for of_synset in self.inventory.synset_columns.get("lemmas", ()) for lemma in of_synset)
        return frozenset(lemma for lemma in lemmas if not lemma.islower() and lemma.lower() in FUNCTION_WORDS)

    def _several(self, words: Sequence[str], at: int, pos: str | None) -> tuple[int, tuple[Lemma, ...]]:
        """How many tokens from `at`, two or more, are one lemma, and the lemmas they may be; none: (1, ())."""
        found = [
            (width, (lemma, part))
            for part in parts_of_speech(pos)
            for width, lemma in self.lookup.starting(words, part, at)
        ]
        if found:
            longest = max(width for width, _ in found)
            return longest, tuple(dict.fromkeys(lemma for width, lemma in found if width == longest))
        closed = self._closed(words[at], words[at + 1], pos) if at + 1 < len(words) else ()
        return (2, closed) if closed else (1, ())

    def _closed(self, first: str, second: str, pos: str | None) -> tuple[Lemma, ...]:
        """The compound noun that WordNet writes as one word: back yard, paper work."""
        if pos not in (None, "n") or not (_may_be_joined(first) and _may_be_joined(second)):
            return ()
        bases = self.inventory.base_forms(first + second, "n")
        whole = tuple((base, "n") for base in sorted(bases) if base.startswith(first) and self._is_lemma(base, "n"))
        return whole if whole and self.lemmas_of(first, "n") and self.lemmas_of(second, "n") else ()

    def _with_particle(self, words: Sequence[str], at: int, pos: str | None) -> tuple[Lemma, ...]:
        """The lemmas of a verb whose particle is apart from it: look_up in "looked it up"."""
        if pos not in (None, "v"):
            return ()
        particles: dict[str, None] = {}
        for behind in range(at + 1, min(at + 1 + _FURTHEST_PARTICLE, len(words))):
            word = words[behind]
            if behind > at + 1 and (word in _PARTICLES or self._is_adverb(words, behind)):
                particles[word] = None
            if not self._may_be_object(word):
                break
        if not particles:
            return ()
        return tuple(
            (lemma, "v")
            for base in sorted(self.inventory.base_forms(words[at], "v"))
            for entry, lemma in self.lookup.longer.get((base, "v"), ())
            if len(entry) == 2 and entry[1] in particles
        )

    def _is_adverb(self, words: Sequence[str], at: int) -> bool:
        """Whether a particle has no object of its own: "put it on." """
        behind = words[at + 1] if at + 1 < len(words) else "."
        return words[at] in _PARTICLES_OR_PREPOSITIONS and (not behind[:1].isalnum() or behind in ("and", "or", "but"))

    def _may_be_object(self, word: str) -> bool:
        """Whether a word may be in the object between a verb and its particle."""
        if word in FUNCTION_WORDS:
            return word in _PRONOUNS_BETWEEN
        return word[:1].isalnum()  # a mark of direction is left without a character

    # --- one word of a text

    def find(self, text: str, target: str, pos: str | None = None) -> Mention | None:
        """The first mention of a target: as it is written, in another case or spelling, or as a form of the lemma that
        it names; last, as a part of a word with hyphens."""
        tokens = _Tokens.of(text)
        parts = [span for token in tokens.spans for span in _parts_of(text, *token)]
        for spans in (tokens.spans, parts) if len(parts) > len(tokens.spans) else (tokens.spans,):
            words = [text[slice(*span)] for span in spans]
            place, lemmas = self._written(words, target), self.lemmas_of(target, pos)
            if place is None:
                place, lemmas = self._lemma(words, target, pos)
            if place is not None:
                start, end = spans[place[0]][0], spans[place[1] - 1][1]
                return Mention(start, end, lemmas or self.lemmas_of(text[start:end], pos))
        return None

    def _written(self, words: Sequence[str], target: str) -> tuple[int, int] | None:
        """The first tokens (first, one past the last) that are the target: in its own case and spelling, in others."""
        wanted = tokenise(target.replace("_", " "))
        if not wanted:
            return None
        for spelling in (str, str.lower, _plain, _unaccented):
            asked, there = list(map(spelling, wanted)), list(map(spelling, words))
            for at in range(len(there) - len(asked) + 1):
                if there[at] == asked[0] and there[at : at + len(asked)] == asked:
                    return at, at + len(asked)
        whole = "".join(map(joined, asked))
        return _as_compound(list(map(joined, there)), whole, len(wanted)) if whole else None

    def _lemma(
        self, words: Sequence[str], target: str, pos: str | None
    ) -> tuple[tuple[int, int] | None, tuple[Lemma, ...]]:
        """The first tokens that may be forms of the lemma that the target names, and the lemmas."""
        found: dict[tuple[int, int], list[Lemma]] = {}
        named = self.lookup.named(target, pos)
        for lemma, part in named:
            place = find_lemma(list(words), lemma, part, self.inventory.base_forms)
            if place is not None:
                found.setdefault(place, []).append((lemma, part))
        plain_words = list(map(_plain, words))
        for at, word in enumerate(plain_words) if named else ():
            several = ((width, (lemma, part)) for part in parts_of_speech(pos)
                       for width, lemma in self.lookup.starting(plain_words, part, at))  # fmt: skip
            for width, lemma in [*several, *((1, lemma) for lemma in self.lookup.of_whole(word, pos))]:
                if lemma in named:
                    found.setdefault((at, at + width), []).append(lemma)
        if not found:
            return None, ()
        place = min(found)
        return place, tuple(dict.fromkeys(found[place]))


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a text."""

    spans: list[tuple[int, int]]
    written: list[str]
    plain: list[str]  # in lower case and plain spelling
    case: bool  # whether capital letters mean something

    @classmethod
    def of(cls, text: str) -> "_Tokens":
        spans = token_spans(text)
        written = [text[start:end] for start, end in spans]
        return cls(spans, written, list(map(_plain, written)), case_is_told(written))


def _plain(word: str) -> str:
    return plain(word).lower()


def _unaccented(word: str) -> str:
    return without_accents(_plain(word))


def _may_be_joined(word: str) -> bool:
    return len(word) > 2 and word.isalpha() and word not in FUNCTION_WORDS


def _as_compound(words: Sequence[str], whole: str, parts: int) -> tuple[int, int] | None:
    """The first tokens that make up a word with other hyphens and spaces.

    One word is found in several tokens only if these are no function words: "apart" is not in "a part".
    """
    for start in range(len(words)):
        so_far = ""
        for end in range(start, len(words)):
            so_far += words[end]
            if not words[start] or not whole.startswith(so_far):
                break
            if so_far == whole and words[end]:
                if parts > 1 or end == start or all(_may_be_joined(word) for word in words[start : end + 1] if word):
                    return start, end + 1
                break
    return None


def _parts_of(text: str, start: int, end: int) -> Iterable[tuple[int, int]]:
    """The parts of a token with hyphens; another token whole."""
    hyphens = [at for at in range(start, end) if _plain(text[at]) == "-"]
    bounds = [start, *(bound for at in hyphens for bound in (at, at + 1)), end]
    pairs = list(zip(bounds[::2], bounds[1::2], strict=True))
    return [pair for pair in pairs if pair[0] < pair[1]] if hyphens and end - start > 1 else [(start, end)]
