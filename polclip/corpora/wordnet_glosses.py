"""A textual corpus for training from WordNet's glosses: words whose sense WordNet's own pointers tell.

Of "walk: use one's feet to advance" WordNet says that it is a kind of advancing: where the gloss of a synset uses a
lemma of its hypernym, or of another synset that it points to, it almost always means that one. Nothing is annotated
by hand, and senses come in that no tagged corpus has.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from polclip.corpora.texts import lemmas_of
from polclip.corpora.words import find_lemma, tokenise
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, Synset, TextualInstance
from polclip.selection import fraction

# What stands before a verb: in any gloss, and in that of a verb.
_BEFORE_VERBS = frozenset({"to", "that", "who", "which", "not", "can", "will", "may", "must"})
_BEFORE_VERBS_OF_A_VERB = _BEFORE_VERBS | {"", ",", ";", ")", "and", "or"}

_COUNTS = ("glosses", "monosemous", "instances", "left_out", "train")


def build(inventory: Inventory, path: str | Path, max_per_sense: int | None = None, seed: int = 0) -> dict[str, int]:
    """Write the instances (Parquet of TextualInstance) and return what was counted.

    max_per_sense: of the instances of one sense as many are drawn, None keeps all: thousands of species are "a genus
    of". seed: of the draw. Counts: glosses, monosemous (found, with one sense to choose from), instances (found, with
    more), left_out (by max_per_sense), train. Raises UserError where the inventory gives none.
    """
    counts: Counter[str] = Counter()
    found = list(instances(inventory, counts))
    counts["instances"] = len(found)
    if max_per_sense is not None:
        by_sense: dict[str, list[TextualInstance]] = {}
        for instance in sorted(found, key=lambda instance: fraction(instance.instance_id, seed)):
            by_sense.setdefault(instance.gold[0], []).append(instance)
        kept = {i.instance_id for of_sense in by_sense.values() for i in of_sense[:max_per_sense]}
        found = [instance for instance in found if instance.instance_id in kept]
    counts["train"] = len(found)
    counts["left_out"] = counts["instances"] - counts["train"]
    if not found:
        raise UserError("No gloss of the inventory uses a word whose sense a pointer tells. Check the inventory.")
    write_parquet(path, map(vars, found), SCHEMAS[TextualInstance])
    return {name: counts[name] for name in _COUNTS}


def instances(inventory: Inventory, counts: Counter[str]) -> Iterator[TextualInstance]:
    """Every word of a gloss that names a synset near to it, and has two or more candidates.

    The text is the gloss behind its lemmas, as everywhere; the instance id is the synset id of the gloss and the
    number of the target's first token: `01904930-v.4`.
    """
    for synset_id in inventory.synset_ids():
        counts["glosses"] += 1
        synset = inventory.synset(synset_id)
        gloss = tokenise(synset.gloss)
        before = [*tokenise(lemmas_of(synset)), ":"]
        for (start, end), (lemma, pos, golds) in sorted(_mentions(inventory, synset, gloss).items()):
            candidates = inventory.senses(lemma, pos)
            if len(candidates) < 2:
                counts["monosemous"] += 1
                continue
            yield TextualInstance(
                instance_id=f"{synset_id}.{len(before) + start}",
                sentence_id=synset_id,
                tokens=before + gloss,
                target_start=len(before) + start,
                target_end=len(before) + end,
                lemma=lemma,
                pos=pos,
                candidates=[sense.sense_key for sense in candidates],
                gold=[sense.sense_key for sense in candidates if sense.synset_id in golds],
            )


def _mentions(
    inventory: Inventory, synset: Synset, gloss: list[str]
) -> dict[tuple[int, int], tuple[str, str, list[str]]]:
    """Tokens of the gloss -> the lemma that stands there, its part of speech and the synsets it means.

    What a synset points to goes before the hypernyms of its hypernyms. A lemma of two synsets that it points to means
    either.
    """
    near = [*synset.hypernyms, *synset.related]
    above = [kind for hypernym in synset.hypernyms for kind in inventory.synset(hypernym).hypernyms]
    mentions: dict[tuple[int, int], tuple[str, str, list[str]]] = {}
    taken: set[int] = set()
    for synset_id in dict.fromkeys([*near, *above]):
        pos = "a" if synset_id[-1] == "s" else synset_id[-1]
        found = _target(gloss, inventory.synset(synset_id), pos)
        if found is None:
            continue
        lemma, span = found
        if not _stands_as(inventory, synset, gloss, span[0], lemma, pos):
            continue
        if span in mentions and mentions[span][:2] == (lemma, pos) and synset_id in near:
            mentions[span][2].append(synset_id)
        elif taken.isdisjoint(range(*span)):
            mentions[span] = (lemma, pos, [synset_id])
            taken.update(range(*span))
    return mentions


def _stands_as(inventory: Inventory, synset: Synset, gloss: list[str], start: int, lemma: str, pos: str) -> bool:
    """Whether a word that could be a noun or a verb stands as what it is to be: "a swing" does not swing."""
    inflected = gloss[start].lower() not in (lemma, f"{lemma}s", f"{lemma}es")
    if pos not in "nv" or inflected or not all(inventory.sense_keys(lemma, either) for either in "nv"):
        return True
    before = gloss[start - 1].lower() if start else ""
    as_verb = before in (_BEFORE_VERBS_OF_A_VERB if synset.synset_id[-1] == "v" else _BEFORE_VERBS)
    return as_verb == (pos == "v")


def _target(gloss: list[str], synset: Synset, pos: str) -> tuple[str, tuple[int, int]] | None:
    """The lemma of the synset that the gloss uses, and its tokens: the longest, else the first listed."""
    for lemma in sorted(synset.lemmas, key=lambda lemma: -lemma.count("_")):
        # "in" and "as" are nouns too, of an inch and of arsenic.
        if pos == "v" or len(lemma) > 2:
            span = find_lemma(gloss, lemma, pos)
            if span is not None:
                return lemma.lower(), span
    return None
