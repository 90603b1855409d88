"""Scores of visual disambiguation, with the semantics of the official scorer of SemEval-2023 task 1.

HR@1 = gold ranked first; MRR = mean of 1 / rank of the gold over the full ranking. Over several languages,
the mean of the languages' scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polclip.errors import UserError


@dataclass(frozen=True)
class VisualScore:
    """Where each gold picture was ranked; the figures below are between 0 and 1."""

    instance_ids: list[str]  # of the gold, in its order
    hits: np.ndarray  # (n,) float, 1 where the gold is first
    reciprocal_ranks: np.ndarray  # (n,) float, 1 / rank

    @property
    def hit_rate(self) -> float:
        return float(self.hits.mean()) if len(self.hits) else 0.0

    @property
    def mrr(self) -> float:
        return float(self.reciprocal_ranks.mean()) if len(self.hits) else 0.0

    @property
    def columns(self) -> np.ndarray:
        """(n, 2): hits, reciprocal ranks."""
        return np.column_stack([self.hits, self.reciprocal_ranks])


def score_visual(gold: Mapping[str, str], predictions: Mapping[str, Sequence[str]]) -> VisualScore:
    """Score rankings (picture ids, best first) against the gold picture, both by instance id.

    An instance without a ranking, and a ranking without the gold, earn 0. Raises UserError for a ranking of
    an instance that the gold does not have and for a picture ranked twice.
    """
    unknown = [instance_id for instance_id in predictions if instance_id not in gold]
    if unknown:
        raise UserError(
            f"{len(unknown)} ranked instances are not in the gold, such as {unknown[0]!r}. "
            "Rankings and gold must be of one benchmark."
        )
    reciprocal_ranks = np.zeros(len(gold))
    for row, (instance_id, picture) in enumerate(gold.items()):
        ranking = list(predictions.get(instance_id, ()))
        if len(set(ranking)) != len(ranking):
            raise UserError(f"The ranking of {instance_id} names a picture twice; each stands in it once.")
        if picture in ranking:
            reciprocal_ranks[row] = 1 / (1 + ranking.index(picture))
    return VisualScore(list(gold), (reciprocal_ranks == 1).astype(float), reciprocal_ranks)


def mean_over_languages(scores: Mapping[str, VisualScore]) -> tuple[float, float]:
    """(HR@1, MRR), each the mean of the languages' figures, every language counting the same."""
    if not scores:
        return 0.0, 0.0
    rates = [(score.hit_rate, score.mrr) for score in scores.values()]
    return tuple(float(np.mean(values)) for values in zip(*rates, strict=True))
