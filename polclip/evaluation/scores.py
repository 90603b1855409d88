"""Scores of the workflow's predictions, with bootstrap intervals; figures in what is written are 0 to 100."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from polclip.evaluation.prediction_files import LOWEST, read_instances, read_predictions
from polclip.evaluation.significance import compare, percentile_interval, resampled_means
from polclip.evaluation.subsets import TrainingSenses, textual_subsets
from polclip.evaluation.textual import f1_by_sense, f1_of, precision_of, score_textual
from polclip.evaluation.visual import score_visual
from polclip.records import Prediction, TextualInstance, VisualInstance

log = logging.getLogger(__name__)

# metric -> the statistic of the column means (draws, 2) of `instance_values`
_METRICS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "textual": {  # columns: earned, answered
        "f1": f1_of,
        "precision": precision_of,
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
    return _values(task, instances, read_predictions(predictions_path, instances))


def _values(
    task: str, instances: Sequence[TextualInstance | VisualInstance], predictions: dict[str, Prediction]
) -> pd.DataFrame:
    frame = pd.DataFrame({"instance_id": [instance.instance_id for instance in instances]})
    gold = {instance.instance_id: instance.gold for instance in instances}
    if task == "textual":
        score = score_textual(gold, _first_answers(predictions))
        frame["group"] = [instance.pos for instance in instances]
        frame["with_rivals"] = False
        frame["earned"], frame["answered"] = score.earned, score.answered.astype(float)
    else:
        ranks = score_visual(gold, {key: found.candidates for key, found in predictions.items()})
        frame["group"] = [instance.language for instance in instances]
        frame["with_rivals"] = [bool(instance.rivals) for instance in instances]
        frame["hit"], frame["reciprocal_rank"] = ranks.hits, ranks.reciprocal_ranks
        frame["readable_gold"] = [_gold_was_read(instance, predictions) for instance in instances]
    return frame


def _gold_was_read(instance: VisualInstance, predictions: dict[str, Prediction]) -> bool:
    """Whether the system had the gold picture: one that is missing or cannot be decoded is scored LOWEST."""
    found = predictions.get(instance.instance_id)
    return found is None or (instance.gold, LOWEST) not in zip(found.candidates, found.scores, strict=True)


def _first_answers(predictions: dict[str, Prediction]) -> dict[str, list[str]]:
    return {key: found.candidates[:1] for key, found in predictions.items()}


def score_predictions(
    task: str,
    benchmark: str,
    instances_paths: Sequence[str | Path],
    predictions_paths: Sequence[str | Path],
    experiment: str,
    seed: int,
    resamples: int = 1000,
    bootstrap_seed: int = 0,
    training: TrainingSenses | None = None,
    corrected: Collection[str] = (),
) -> dict:
    """The scores of a benchmark in the form of `scores/{experiment}/seed-{seed}/{benchmark}.json`.

    instances_paths, predictions_paths: one each, or several that count as one benchmark (VWSD's languages).
    Rows by subset: all, then those of `textual_subsets` (training, corrected: see there), or languages,
    `with_rivals` (visual instances that show another sense of the word), and `readable_gold` (where some gold picture
    was missing or could not be decoded: the instances with the others; its n says how many). Each visual row has
    `unreadable_golds`, the number of such gold pictures among its n. Visual subsets that are no language are means over
    languages. Intervals are 95 % percentiles of a bootstrap over instances (within each language);
    those of `macro_f1`, the mean F1 of the gold senses (of all, and of amended), of a bootstrap over gold
    senses. n: instances. A system that answers no instance (first_sense where no order of senses is known) has no rows.
    """
    instances, predictions = [], {}
    for instances_path, predictions_path in zip(instances_paths, predictions_paths, strict=True):
        part = read_instances(task, instances_path)
        instances += part
        predictions |= read_predictions(predictions_path, part)
    scored = {"experiment": experiment, "seed": seed, "task": task, "benchmark": benchmark}
    if not any(prediction.candidates for prediction in predictions.values()):
        log.warning("%s answers no instance of %s: it has no score there", experiment, benchmark)
        return scored | {"rows": []}
    values = _values(task, instances, predictions)
    masks = textual_subsets(instances, training, corrected) if task == "textual" else _visual_subsets(values)
    rows = []
    for subset, mask in (("all", np.ones(len(values), dtype=bool)), *masks):
        frame = values[mask]
        strata = [frame] if task == "textual" else [part for _, part in frame.groupby("group", sort=True)]
        columns = [part[_COLUMNS[task]].to_numpy() for part in strata]
        means = [part.mean(axis=0, keepdims=True) for part in columns]
        draws = [resampled_means(part, resamples, [bootstrap_seed, at]) for at, part in enumerate(columns)]
        for metric, statistic in _METRICS[task].items():
            value = float(np.mean([statistic(mean)[0] for mean in means]))
            drawn = np.mean([statistic(draw) for draw in draws], axis=0)
            rows.append(_row(subset, metric, value, drawn, len(frame)))
            if task == "visual":
                rows[-1]["unreadable_golds"] = int((~frame["readable_gold"]).sum())
        if task == "textual" and subset in ("all", "amended"):
            gold = {instance.instance_id: instance.gold for instance, here in zip(instances, mask, strict=True) if here}
            f1 = np.array(list(f1_by_sense(gold, _first_answers(predictions)).values()))
            drawn = resampled_means(f1[:, None], resamples, [bootstrap_seed, 0])[:, 0]
            rows.append(_row(subset, "macro_f1", float(f1.mean()), drawn, len(frame)))
    return scored | {"rows": rows}


def _row(subset: str, metric: str, value: float, draws: np.ndarray, n: int) -> dict:
    low, high = percentile_interval(draws)
    bounds = {"value": 100 * value, "ci_low": 100 * low, "ci_high": 100 * high}
    return {"subset": subset, "metric": metric, **bounds, "n": n}


def _visual_subsets(values: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    for language in sorted(values["group"].unique()):
        yield language, (values["group"] == language).to_numpy()
    if values["with_rivals"].any():
        yield "with_rivals", values["with_rivals"].to_numpy()
    readable = values["readable_gold"].to_numpy()
    if readable.any() and not readable.all():
        yield "readable_gold", readable


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
    points. No rows where one of the two answers no instance at all.
    """
    frames = [
        [instance_values(task, instances_path, path) for path in paths] for paths in (predictions_a, predictions_b)
    ]
    if task == "textual" and not all(any(frame["answered"].any() for frame in seeds) for seeds in frames):
        return []
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
