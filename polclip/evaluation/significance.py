"""How sure a score is: bootstrap intervals over instances, and paired tests between two systems."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from polclip.errors import UserError

_AT_ONCE = 2_000_000  # instance draws held at a time: bounds memory, changes no result
_ALIKE = 20  # instances of each kind on average, from which on kinds are drawn and not instances


@dataclass(frozen=True)
class Comparison:
    """System a minus system b, in the unit of the values."""

    difference: float
    ci_low: float
    ci_high: float
    p_bootstrap: float  # two-sided
    p_mcnemar: float  # two-sided, exact; of first answers right or wrong
    n: int


def resampled_means(values: np.ndarray, resamples: int = 1000, seed: int | Sequence[int] = 0) -> np.ndarray:
    """Column means of `values` over instances drawn with replacement: (n, k) -> (resamples, k).

    Columns are of the same draws, so what stands in them stays paired. Scores have few values: how often each
    kind of row comes up is then drawn (multinomial), which is the same and takes a hundredth of the time.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n == 0 or resamples < 1:
        raise UserError(f"A bootstrap needs instances and resamples; there are {n} and {resamples}.")
    rng = np.random.default_rng(seed)
    ordered = values[np.lexsort(values.T)]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])
    if len(starts) * _ALIKE <= n:
        kinds, counts = ordered[starts], np.diff(np.r_[starts, n])
        return rng.multinomial(n, counts / n, size=resamples) @ kinds / n
    step = max(1, _AT_ONCE // n)
    drawn = [
        values[rng.integers(n, size=(min(step, resamples - done), n))].mean(axis=1)
        for done in range(0, resamples, step)
    ]
    return np.concatenate(drawn)


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of instances.

    values: (n,), the statistic being their mean; or (n, k) with `statistic` mapping column means
    (resamples, k) to (resamples,), for a ratio such as F1.
    """
    values = np.asarray(values, dtype=float)
    means = resampled_means(values[:, None] if values.ndim == 1 else values, resamples, seed)
    return percentile_interval(means[:, 0] if statistic is None else statistic(means))


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def compare(values_a: np.ndarray, values_b: np.ndarray, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare two systems on the same instances.

    values: (n,) or (seeds, n), what each instance earned (0 to 1), the instances in one order; seeds are
    averaged by instance, and the two systems may have different numbers of them. McNemar's test is of right
    against wrong, an instance being right where more than half of the seeds are. Raises UserError when the
    numbers of instances differ.
    """
    a, b = (np.atleast_2d(np.asarray(values, dtype=float)) for values in (values_a, values_b))
    if a.shape[1] != b.shape[1]:
        raise UserError(f"Cannot pair {a.shape[1]} instances with {b.shape[1]}: score both on one benchmark.")
    differences = a.mean(axis=0) - b.mean(axis=0)
    draws = resampled_means(differences[:, None], resamples, seed)[:, 0]
    return Comparison(
        difference=float(differences.mean()),
        **dict(zip(("ci_low", "ci_high"), percentile_interval(draws), strict=True)),
        p_bootstrap=two_sided_p(draws),
        p_mcnemar=mcnemar((a == 1).mean(axis=0) > 0.5, (b == 1).mean(axis=0) > 0.5),
        n=a.shape[1],
    )


def compare_statistic(
    strata: Sequence[tuple[np.ndarray, np.ndarray]],
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float, float]:
    """(difference, ci_low, ci_high, p) of a statistic, system a minus system b, by a paired bootstrap.

    strata: the values of both systems on the same instances, (n, k) each; of several, such as languages, the
    mean of their differences counts. statistic: column means (draws, k) -> (draws,).
    """
    points, drawn = [], []
    for at, (a, b) in enumerate(strata):
        both = np.hstack([a, b])
        for means, kept in (
            (both.mean(axis=0, keepdims=True), points),
            (resampled_means(both, resamples, [seed, at]), drawn),
        ):
            kept.append(statistic(means[:, : a.shape[1]]) - statistic(means[:, a.shape[1] :]))
    draws = np.mean(drawn, axis=0)
    return (float(np.mean(points)), *percentile_interval(draws), two_sided_p(draws))


def two_sided_p(draws: np.ndarray) -> float:
    """The two-sided p of a difference from its bootstrap draws: twice the share on the far side of 0, never 0."""
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    return min(1.0, 2 * (1 + int(beyond)) / (1 + len(draws)))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """The exact two-sided p of McNemar's test, from the instances that only one of the systems has right."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)
