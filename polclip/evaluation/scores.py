"""Scores of the workflow's predictions, with bootstrap intervals; figures in what is written are 0 to 100."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from polclip.evaluation.prediction_files import read_instances, read_predictions
from polclip.evaluation.significance import compare, percentile_interval, resampled_means
from polclip.evaluation.textual import score_textual
from polclip.evaluation.visual import score_visual


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    both = precision + recall
    return np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)


def _precision(means: np.ndarray) -> np.ndarray:
    return np.divide(means[:, 0], means[:, 1], out=np.zeros(len(means)), where=means[:, 1] > 0)


# metric -> the statistic of the column means (draws, 2) of `instance_values`
_METRICS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "textual": {  # columns: earned, answered
        "f1": lambda means: _f1(_precision(means), means[:, 0]),
        "precision": _precision,
        "recall": lambda means: means[:, 0],
        "accuracy": lambda means: means[:, 0],  # one answer an instance: the same as recall
    },
    "visual": {"hr@1": lambda means: means[:, 0], "mrr": lambda means: means[:, 1]},
}
_COLUMNS = {"textual": ["earned", "answered"], "visual": ["hit", "reciprocal_rank"]}


def instance_values(task: str, instances_path: str | Path, predictions_path: str | Path) -> pd.DataFrame:
    """What each instance earned, in the order of the benchmark: instance_id, group, with_rivals, two values.

    group: part of speech, or language. Values, 0 to 1. Textual: earned, answered. Visual: hit,
    reciprocal_rank. Raises UserError for an empty benchmark or predictions that do not fit it.
    """
    instances = read_instances(task, instances_path)
    predictions = read_predictions(predictions_path, instances)
    frame = pd.DataFrame({"instance_id": [instance.instance_id for instance in instances]})
    if task == "textual":
        gold = {instance.instance_id: instance.gold for instance in instances}
        score = score_textual(gold, {key: found.candidates[:1] for key, found in predictions.items()})
        frame["group"] = [instance.pos for instance in instances]
        frame["with_rivals"] = False
        frame["earned"], frame["answered"] = score.earned, score.answered.astype(float)
    else:
        gold = {instance.instance_id: instance.gold for instance in instances}
        ranks = score_visual(gold, {key: found.candidates for key, found in predictions.items()})
        frame["group"] = [instance.language for instance in instances]
        frame["with_rivals"] = [bool(instance.rivals) for instance in instances]
        frame["hit"], frame["reciprocal_rank"] = ranks.hits, ranks.reciprocal_ranks
    return frame


def score_predictions(
    task: str,
    benchmark: str,
    instances_path: str | Path,
    predictions_path: str | Path,
    experiment: str,
    seed: int,
    resamples: int = 1000,
    bootstrap_seed: int = 0,
) -> dict:
    """The scores of one prediction file in the form of `scores/{experiment}/seed-{seed}/{benchmark}.json`.

    Rows by subset: all, then parts of speech (n v a r) or languages, then `with_rivals` (visual instances
    that show another sense of the word). Visual `all` and `with_rivals` are means over languages. Intervals
    are 95 % percentiles of a bootstrap over instances (within each language).
    """
    values = instance_values(task, instances_path, predictions_path)
    rows = []
    for subset, frame in _subsets(task, values):
        strata = [frame] if task == "textual" else [part for _, part in frame.groupby("group", sort=True)]
        columns = [part[_COLUMNS[task]].to_numpy() for part in strata]
        means = [part.mean(axis=0, keepdims=True) for part in columns]
        draws = [resampled_means(part, resamples, [bootstrap_seed, at]) for at, part in enumerate(columns)]
        for metric, statistic in _METRICS[task].items():
            value = float(np.mean([statistic(mean)[0] for mean in means]))
            low, high = percentile_interval(np.mean([statistic(draw) for draw in draws], axis=0))
            rows.append(
                {
                    "subset": subset,
                    "metric": metric,
                    "value": 100 * value,
                    "ci_low": 100 * low,
                    "ci_high": 100 * high,
                    "n": len(frame),
                }
            )
    return {"experiment": experiment, "seed": seed, "task": task, "benchmark": benchmark, "rows": rows}


def _subsets(task: str, values: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", values
    groups = [group for group in "nvar" if (values["group"] == group).any()]
    for group in groups if task == "textual" else sorted(values["group"].unique()):
        yield group, values[values["group"] == group]
    if values["with_rivals"].any():
        yield "with_rivals", values[values["with_rivals"]]


def compare_experiments(
    task: str,
    benchmark: str,
    instances_path: str | Path,
    experiment_a: str,
    predictions_a: Sequence[str | Path],
    experiment_b: str,
    predictions_b: Sequence[str | Path],
    resamples: int = 1000,
    bootstrap_seed: int = 0,
) -> list[dict]:
    """Paired tests of two experiments, each with a prediction file a seed: rows of `tables/significance.tsv`.

    Metrics: accuracy (textual), hr@1 and mrr (visual), over all instances alike. Differences, a minus b, in
    points.
    """
    frames = [
        [instance_values(task, instances_path, path) for path in paths] for paths in (predictions_a, predictions_b)
    ]
    names = {"accuracy": "earned"} if task == "textual" else {"hr@1": "hit", "mrr": "reciprocal_rank"}
    rows = []
    for metric, column in names.items():
        a, b = (np.stack([frame[column].to_numpy() for frame in seeds]) for seeds in frames)
        result = compare(a, b, resamples, bootstrap_seed)
        rows.append(
            {
                "benchmark": benchmark,
                "metric": metric,
                "experiment_a": experiment_a,
                "experiment_b": experiment_b,
                "difference": 100 * result.difference,
                "ci_low": 100 * result.ci_low,
                "ci_high": 100 * result.ci_high,
                "p_bootstrap": result.p_bootstrap,
                "p_mcnemar": result.p_mcnemar,
                "n": result.n,
            }
        )
    return rows
