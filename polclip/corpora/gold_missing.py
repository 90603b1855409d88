"""Instances whose gold is not among WordNet's senses of their lemma: how many there are, and why."""

from collections import Counter
from collections.abc import Iterable, Iterator

from polclip.inventory import Inventory
from polclip.records import TextualInstance

# An instance counts under one of these; together they are what is counted as gold_missing.
REASONS = {
    "no_candidates": "the lemma is not in WordNet under that part of speech",
    "gold_not_in_wordnet": "the key is not in WordNet 3.0",
    "gold_of_another_lemma": "the key is of another lemma",
    "gold_of_another_pos": "the key is of another part of speech",
}


def counted(
    instances: Iterable[TextualInstance], counts: Counter[str], inventory: Inventory | None = None
) -> Iterator[TextualInstance]:
    """The instances as they come, added to `counts`: instances, gold_missing and no_candidates, and the reasons.

    gold_partly_missing: of several gold keys some are candidates and some are not.
    inventory: WordNet, which tells the reasons but for no_candidates; None for senses of another inventory.
    """
    for instance in instances:
        counts["instances"] += 1
        gold = set(instance.gold)
        missing = gold.isdisjoint(instance.candidates)
        counts["gold_missing"] += missing
        counts["gold_partly_missing"] += not missing and not gold.issubset(instance.candidates)
        counts["no_candidates"] += not instance.candidates
        if missing and instance.candidates and inventory:
            counts[_why(instance, inventory)] += 1
        yield instance


def _why(instance: TextualInstance, inventory: Inventory) -> str:
    """The reason why no gold key is a candidate, of several keys by the nearest."""
    senses = [inventory.sense(key) for key in instance.gold if inventory.has(key)]
    if not senses:
        return "gold_not_in_wordnet"
    of_lemma = any(sense.lemma == instance.lemma for sense in senses)
    return "gold_of_another_pos" if of_lemma else "gold_of_another_lemma"


def in_words(counts: Counter[str]) -> str:
    """Sizes, and the instances without their gold among the candidates by reason, as a line for the log."""
    reasons = ", ".join(f"{text} {counts[reason]:,}" for reason, text in REASONS.items() if counts[reason])
    partly = f", of {counts['gold_partly_missing']:,} in part" if counts["gold_partly_missing"] else ""
    return (
        f"{counts['sentences']:,} sentences, {counts['instances']:,} instances, the gold of "
        f"{counts['gold_missing']:,} not among the candidates{f' ({reasons})' if reasons else ''}{partly}"
    )
