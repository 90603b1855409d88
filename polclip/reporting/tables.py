"""The tables of a run: all scores in one file, the paired tests, and what each part is worth."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from polclip.errors import UserError
from polclip.evaluation.scores import compare_experiments
from polclip.files import read_json, write_table
from polclip.reporting.inputs import run_of

SCORE_COLUMNS = [
    "experiment",
    "seed",
    "task",
    "benchmark",
    "subset",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
]
SIGNIFICANCE_COLUMNS = [
    *("benchmark", "metric", "experiment_a", "experiment_b", "difference", "ci_low", "ci_high"),
    *("p_bootstrap", "p_mcnemar", "n"),
]
ABLATION_COLUMNS = ["experiment", "benchmark", "metric", "seeds", "value", "spread", "difference"]


def score_rows(path: str | Path) -> Iterator[dict]:
    """The rows of one score file, each with the columns of `SCORE_COLUMNS`.

    Raises UserError when the file lacks a key of the contract.
    """
    scores = read_json(path)
    try:
        shared = {key: scores[key] for key in ("experiment", "seed", "task", "benchmark")}
        for row in scores["rows"]:
            yield shared | {key: row[key] for key in SCORE_COLUMNS[4:]}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a score file, {error} is missing. Delete it and run the same command again: "
            "the rule that evaluates writes it anew."
        ) from error


def write_scores(paths: Iterable[str | Path], output: str | Path) -> None:
    """Gather score files (`scores/{experiment}/seed-{seed}/{benchmark}.json`) into one table.

    Rows are in the order of the paths. Values and intervals are 0-100 with four decimals.
    """
    table = pd.DataFrame([row for path in paths for row in score_rows(path)], columns=SCORE_COLUMNS)
    numbers = ["value", "ci_low", "ci_high"]
    table[numbers] = table[numbers].astype(float).round(4)
    write_table(output, table)


def write_ablations(paths: Iterable[str | Path], main: str, output: str | Path) -> None:
    """One row an experiment and benchmark: mean and sample standard deviation over seeds, and the difference to main.

    Of the scores of whole benchmarks, F1 and HR@1; `spread` is empty for one seed.
    """
    scores = pd.DataFrame([row for path in paths for row in score_rows(path)], columns=SCORE_COLUMNS)
    scores = scores[(scores["subset"] == "all") & scores["metric"].isin(("f1", "hr@1"))]
    groups = scores.groupby(["experiment", "benchmark", "metric"], sort=False)["value"]
    table = groups.agg(value="mean", spread="std", seeds="count").reset_index()
    of_main = table[table["experiment"] == main].set_index("benchmark")["value"]
    table["difference"] = table["value"] - table["benchmark"].map(of_main)
    numbers = ["value", "spread", "difference"]
    table[numbers] = table[numbers].round(2)
    write_table(output, table[ABLATION_COLUMNS])


def write_significance(
    predictions: Iterable[str | Path],
    instances: Mapping[str, str | Path],
    main: str,
    output: str | Path,
    resamples: int = 1000,
    seed: int = 0,
) -> None:
    """Test `main` against every other experiment on each benchmark, paired by instance, all seeds of both.

    predictions: `{experiment}/seed-{seed}/{benchmark}.jsonl`; instances: benchmark to its Parquet file.
    Differences and intervals are in points. Benchmarks that `main` has no predictions for are left out.
    """
    runs: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(map(Path, predictions), key=run_of):
        runs.setdefault(path.stem, {}).setdefault(run_of(path)[0], []).append(path)
    rows: list[dict] = []
    for benchmark, path in instances.items():
        found = runs.get(benchmark, {})
        task = "visual" if is_visual(path) else "textual"
        for other in found if main in found else ():
            if other != main:
                pair = (main, found[main], other, found[other])
                rows += compare_experiments(task, benchmark, path, *pair, resamples, seed)
    write_table(output, pd.DataFrame(rows, columns=SIGNIFICANCE_COLUMNS).round(5))


def is_visual(path: str | Path) -> bool:
    """Whether a Parquet file holds visual instances (else textual ones), told by its columns."""
    return "phrase" in pq.read_schema(path).names


def read_table(path: str | Path, columns: list[str]) -> pd.DataFrame:
    """Read one of the tables above; only empty fields are missing values, so the word "null" stays a word."""
    table = pd.read_csv(path, sep="\t", keep_default_na=False, na_values=[""])
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise UserError(f"{path}: the columns {', '.join(absent)} are missing. Expected: {' '.join(columns)}.")
    return table
