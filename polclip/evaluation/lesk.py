"""Lesk (1986): the sense whose gloss shares most words with the sentence."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nltk.wsd import lesk as nltk_lesk

from polclip.inventory import Inventory
from polclip.records import Prediction, TextualInstance


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
    equal senses the first candidate wins: the most frequent one in WordNet, or, where candidates are in no order of
    frequency (XL-WSD but for English with a sense mapping), an arbitrary one, the first in the data set's own file.
    Candidates without a gloss are not ranked.
    """
    for instance in instances:
        glosses = [_Gloss(key, inventory.synset_of(key).gloss) for key in inventory.with_synset(instance.candidates)]
        ranking = []
        while glosses:
            best = nltk_lesk(instance.tokens, instance.lemma, synsets=glosses)
            glosses.remove(best)
            ranking.append(best)
        words = set(instance.tokens)
        scores = [float(len(words.intersection(gloss.text.split()))) for gloss in ranking]
        yield Prediction(instance.instance_id, [gloss.sense_key for gloss in ranking], scores)
