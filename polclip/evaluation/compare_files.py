"""Paired tests between prediction files of one benchmark in the official forms, for `polclip score --compare`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from polclip.evaluation.score_files import aligned, percent, read_textual, read_visual
from polclip.evaluation.significance import compare_statistic, mcnemar
from polclip.evaluation.textual import f1_of

_METRICS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "textual": {"f1": f1_of, "recall": lambda means: means[:, 0]},
    "visual": {"hr@1": lambda means: means[:, 0], "mrr": lambda means: means[:, 1]},
}


def compare_with_first(task: str, gold_path: Path, prediction_paths: Sequence[Path], resamples: int = 1000) -> list:
    """What each prediction file differs by from the first, in their order; None for the first itself.

    Each: `file`, the first one; by metric `difference`, `ci_low`, `ci_high` (this file minus the first, in
    points, the 95 % interval of a paired bootstrap over instances, within each language) and its two-sided
    `p_bootstrap`; `p_mcnemar` of all instances, right being a whole point (or the gold ranked first); `n`.
    """
    first, *others = (_columns(task, gold_path, path) for path in prediction_paths)
    found: list = [None]
    for other in others:
        strata = list(zip(other, first, strict=True))
        comparison: dict = {"file": str(prediction_paths[0])}
        for metric, statistic in _METRICS[task].items():
            *points, p = compare_statistic(strata, statistic, resamples)
            names = ("difference", "ci_low", "ci_high")
            comparison[metric] = {name: percent(value) for name, value in zip(names, points, strict=True)}
            comparison[metric]["p_bootstrap"] = p
        right = (np.concatenate([part[:, 0] for part in system]) == 1 for system in (other, first))
        comparison |= {"p_mcnemar": mcnemar(*right), "n": sum(len(part) for part in first)}
        found.append(comparison)
    return found


def _columns(task: str, gold_path: Path, predictions_path: Path) -> list[np.ndarray]:
    """What each instance earned, (n, 2), an array a language; one for textual files."""
    if task == "textual":
        return [read_textual(gold_path, predictions_path).columns]
    return [score.columns for score in read_visual(gold_path, predictions_path).values()]


def comparison_table(results: Sequence[dict]) -> str:
    """The comparisons in `results` (key `compared`) as lines for the eye; differences in points."""
    rows = [("against the first", "metric", "difference", "95 % interval", "p bootstrap", "p McNemar", "n")]
    for result in results:
        compared = result.get("compared") or {}
        for metric, test in compared.items():
            if isinstance(test, dict):
                interval = f"[{test['ci_low']:+.2f}, {test['ci_high']:+.2f}]"
                p_values = [
                    "< 0.0001" if p < 0.0001 else f"{p:.4f}" for p in (test["p_bootstrap"], compared["p_mcnemar"])
                ]
                rows.append(
                    (result["file"], metric, f"{test['difference']:+.2f}", interval, *p_values, str(compared["n"]))
                )
    return aligned(rows)
