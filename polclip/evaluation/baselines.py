"""Systems that learn nothing: random, the first sense, Lesk. Each ranks every candidate of every instance."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nltk.wsd import lesk as nltk_lesk

from polclip.inventory import Inventory
from polclip.records import Prediction, TextualInstance, VisualInstance


def random_order(
    instances: Iterable[TextualInstance | VisualInstance], seed: int = 0
) -> Iterator[Prediction]:
    """Every candidate with a score in [0, 1) that depends on seed, instance and candidate alone."""
    for instance in instances:
        scores = {
            candidate: _fraction(f"{seed}:{instance.instance_id}:{candidate}")
            for candidate in instance.candidates
        }
        ranking = sorted(scores, key=scores.__getitem__, reverse=True)
        yield Prediction(instance.instance_id, ranking, [scores[candidate] for candidate in ranking])


def first_sense(instances: Iterable[TextualInstance]) -> Iterator[Prediction]:
    """The senses in WordNet's order, scored 1, 1/2, 1/3 ... That order comes from counts in SemCor."""
    for instance in instances:
        scores = [1 / rank for rank in range(1, 1 + len(instance.candidates))]
        yield Prediction(instance.instance_id, list(instance.candidates), scores)


@dataclass(frozen=True)
class _Gloss:
    """What NLTK's Lesk asks of a synset."""

    sense_key: str
    text: str

    def definition(self) -> str:
        return self.text


def lesk(instances: Iterable[TextualInstance], inventory: Inventory) -> Iterator[Prediction]:
    """NLTK's Lesk (1986): the sense whose gloss shares most distinct words with the sentence comes first.

    The rest follow in the order in which Lesk would choose them; the score is the number of shared words. Of
    equal senses the first in WordNet's order wins.
    """
    for instance in instances:
        glosses = [_Gloss(key, inventory.synset_of(key).gloss) for key in instance.candidates]
        ranking = []
        while glosses:
            best = nltk_lesk(instance.tokens, instance.lemma, synsets=glosses)
            glosses.remove(best)
            ranking.append(best)
        words = set(instance.tokens)
        scores = [float(len(words.intersection(gloss.text.split()))) for gloss in ranking]
        yield Prediction(instance.instance_id, [gloss.sense_key for gloss in ranking], scores)


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
