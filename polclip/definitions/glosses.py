"""Definitions without a language model: the gloss of WordNet that the words around the target fit best."""

from functools import lru_cache

from polclip.corpora.words import base_forms, tokenise
from polclip.evaluation.lesk import lesk
from polclip.inventory import POS_NAMES, Inventory
from polclip.records import Sense, Synset, TextualInstance, VisualInstance

_FUNCTION_WORDS = """
    a an and any are as at be by for from in into is it its not of on one or other some such that the their them
    this to used usually very was were which with who whose you your
"""
_IGNORED = frozenset(_FUNCTION_WORDS.split())


def gloss_of(instance: TextualInstance | VisualInstance, inventory: Inventory) -> tuple[str | None, str | None]:
    """(gloss, None), or (None, flag) where none fits; gold answers are not looked at.

    Of a textual instance what the baseline `lesk` ranks first. Flags: no_gloss (of no candidate), no_overlap, and
    those of `fitting_gloss`.
    """
    if isinstance(instance, VisualInstance):
        return fitting_gloss(instance, inventory)
    (ranking,) = lesk([instance], inventory)
    if not ranking.candidates:
        return None, "no_gloss"
    if not ranking.scores[0] and len(ranking.candidates) > 1:
        return None, "no_overlap"
    return inventory.synset_of(ranking.candidates[0]).gloss, None


def fitting_gloss(instance: VisualInstance, inventory: Inventory) -> tuple[str | None, str | None]:
    """(gloss, None), or (None, flag) where none fits; the gold picture and its sense are not looked at.

    The sense whose gloss, lemmas and the lemmas of all its hypernyms share the most words with the phrase, the word
    itself apart, in any of their forms (after Lesk, 1986); of equals the first sense, nouns first. A word of one
    sense needs no overlap.
    Flags: not_english, unknown_word, no_overlap.
    """
    if instance.language != "en":
        return None, "not_english"
    senses = _senses(instance.word, inventory)
    if not senses:
        return None, "unknown_word"
    cues = [forms for forms in _forms(instance.phrase) if not forms & _all_forms(instance.word)]
    synsets = [inventory.synset(sense.synset_id) for sense in senses]
    shared = [
        sum(not forms.isdisjoint(about) for forms in cues)
        for about in (_about(synset, inventory) for synset in synsets)
    ]
    best = max(range(len(senses)), key=shared.__getitem__)
    if not shared[best] and len(senses) > 1:
        return None, "no_overlap"
    return synsets[best].gloss, None


def _about(synset: Synset, inventory: Inventory) -> frozenset[str]:
    """The words of a synset's gloss and lemmas, and of the lemmas of all that is above it, in all their forms."""
    above = {synset.synset_id: synset}
    waiting = [synset]
    while waiting:
        for synset_id in waiting.pop().hypernyms:
            if synset_id not in above:
                above[synset_id] = inventory.synset(synset_id)
                waiting.append(above[synset_id])
    lemmas = (lemma.replace("_", " ") for one in above.values() for lemma in one.lemmas)
    return _all_forms(synset.gloss).union(*map(_all_forms, lemmas))


def _senses(word: str, inventory: Inventory) -> list[Sense]:
    """The senses of a word as it is written; of its base forms where it is in no dictionary as written."""
    lemma = word.lower().replace(" ", "_")
    exact = [sense for pos in POS_NAMES for sense in inventory.senses(lemma, pos)]
    if exact:
        return exact
    return [sense for of_word in inventory.lookup.lemmas_of(word) for sense in inventory.senses(*of_word)]


@lru_cache(maxsize=100_000)
def _forms(text: str) -> frozenset[frozenset[str]]:
    """Each content word of a text as the set of the base forms it could have: two words are one if these meet."""
    words = {token.lower() for token in tokenise(text) if token[0].isalnum()} - _IGNORED
    return frozenset(frozenset().union(*(base_forms(word, pos) for pos in POS_NAMES)) for word in words)


@lru_cache(maxsize=100_000)
def _all_forms(text: str) -> frozenset[str]:
    return frozenset().union(*_forms(text))
