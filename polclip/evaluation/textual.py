"""Scores of textual disambiguation, with the semantics of the official scorer of Raganato et al. 2017.

Answers and gold are sets of sense keys. An answered instance earns |answers in gold| / |answers|;
precision = earned / answered instances, recall = earned / gold instances, F1 their harmonic mean.

The micro F1 script that Maru et al. 2022 publish is the same for single answers; of several answers it gives a whole
point for one that is right, and counts each wrong answer where none is. Their macro F1 is `macro_f1`.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polclip.babelnet import pos_of
from polclip.errors import UserError

POS_OF_KEY = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}


@dataclass(frozen=True)
class TextualScore:
    """What each gold instance earned; the figures below are between 0 and 1."""

    instance_ids: list[str]  # of the gold, in its order
    earned: np.ndarray  # (n,) float, 0 to 1; 0 where unanswered
    answered: np.ndarray  # (n,) bool

    @property
    def precision(self) -> float:
        return float(self.earned.sum() / max(1, self.answered.sum()))

    @property
    def recall(self) -> float:
        return float(self.earned.sum() / max(1, len(self.earned)))

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    @property
    def columns(self) -> np.ndarray:
        """(n, 2): earned, answered; the means that `f1_of` and `precision_of` read."""
        return np.column_stack([self.earned, self.answered])

    def subset(self, instance_ids: Collection[str]) -> "TextualScore":
        """The score over those of the gold instances that are named."""
        named = set(instance_ids)
        rows = [row for row, instance_id in enumerate(self.instance_ids) if instance_id in named]
        return TextualScore([self.instance_ids[row] for row in rows], self.earned[rows], self.answered[rows])


def precision_of(means: np.ndarray) -> np.ndarray:
    """Precision from the means of earned and answered: (draws, 2) -> (draws,); 0 where nothing was answered."""
    return np.divide(means[:, 0], means[:, 1], out=np.zeros(len(means)), where=means[:, 1] > 0)


def f1_of(means: np.ndarray) -> np.ndarray:
    """F1 from the means of earned and answered: (draws, 2) -> (draws,)."""
    precision, recall = precision_of(means), means[:, 0]
    both = precision + recall
    return np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)


def score_textual(gold: Mapping[str, Collection[str]], predictions: Mapping[str, Sequence[str]]) -> TextualScore:
    """Score answers against gold, both by instance id. An instance without an answer counts as unanswered.

    Raises UserError for an answer to an instance that the gold does not have.
    """
    unknown = [instance_id for instance_id in predictions if instance_id not in gold]
    if unknown:
        raise UserError(
            f"{len(unknown)} answered instances are not in the gold, such as {unknown[0]!r}. "
            "Answers and gold must be of one benchmark."
        )
    earned, answered = np.zeros(len(gold)), np.zeros(len(gold), dtype=bool)
    for row, (instance_id, keys) in enumerate(gold.items()):
        answers = set(predictions.get(instance_id, ()))
        if answers:
            answered[row] = True
            earned[row] = len(answers.intersection(keys)) / len(answers)
    return TextualScore(list(gold), earned, answered)


def macro_f1(gold: Mapping[str, Collection[str]], predictions: Mapping[str, Sequence[str]]) -> float:
    """The mean of `f1_by_sense` (0 to 1), as the hard benchmark reports it."""
    f1 = f1_by_sense(gold, predictions)
    return sum(f1.values()) / max(1, len(f1))


def f1_by_sense(gold: Mapping[str, Collection[str]], predictions: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """The F1 of each gold sense (0 to 1), by sense key.

    A hit counts for every gold sense of its instance and a miss, or no answer, against every one; a wrong
    answer counts against the precision of the sense it names. An answer of several keys counts in equal parts: one
    part as a hit where any key is right, and one part against each of the answered senses, the right ones too, where
    any is wrong (Maru et al. 2022, the evaluation published with the benchmark; not its strict form).
    """
    hit, missed, wrong = defaultdict(float), defaultdict(float), defaultdict(float)
    for instance_id, keys in gold.items():
        answers = set(predictions.get(instance_id, ()))
        share = 1 / max(1, len(answers))
        right = answers.intersection(keys)
        for key in keys:
            hit[key] += share if right else 0
            missed[key] += 0 if right else share
        if answers - right:
            for key in answers:
                wrong[key] += share
    return {key: 2 * hit[key] / (2 * hit[key] + missed[key] + wrong[key]) for key in hit}


def lemma_and_pos(sense_key: str) -> tuple[str, str] | None:
    """bat%1:05:00:: -> (bat, n); None of what is not a sense key of WordNet."""
    lemma, _, rest = sense_key.partition("%")
    return (lemma.lower(), POS_OF_KEY[rest[0]]) if lemma and rest[:1] in POS_OF_KEY else None


def ids_by_pos(gold: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Instance ids by part of speech (n v a r), read off the first gold sense; other ids are left out.

    A sense key has it as a digit behind the %, a BabelNet id as its last letter.
    """
    by_pos: dict[str, list[str]] = {}
    for instance_id, keys in gold.items():
        key = next(iter(keys), "")
        named = lemma_and_pos(key)
        if pos := named[1] if named else pos_of(key):
            by_pos.setdefault(pos, []).append(instance_id)
    return {pos: by_pos[pos] for pos in "nvar" if pos in by_pos}
