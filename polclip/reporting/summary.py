"""From scores to what the page says: one table a task, the result in words, a verdict on each part."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

WHOLE_SUBSETS = ("all", "overall", "mean", "total")
MINUS = "\u2212"
METRICS = {"textual": ("f1", "accuracy"), "visual": ("hr@1", "mrr")}
# Where the macro F1 over gold senses is told beside F1, as Maru et al. 2022 do; of ALL, for their comparison.
HARD_BENCHMARKS = ("ALL", "ALLamended", "S10amended", "42D", "hardEN", "softEN")
# A column of its own between the two: the instances of ALLamended with the labels that ALL has for them.
AMENDED = ", amended instances"
SUBSETS = {
    "seen_lemma": "lemma seen in training",
    "unseen_lemma": "lemma not seen",
    "seen_sense": "sense seen in training",
    "unseen_sense": "sense not seen",
    "first_sense": "the first sense is right",
    "other_sense": "another sense is right",
    "one_candidate": "one candidate",
    "several_candidates": "several candidates",
    "amended": "instances of ALLamended, old labels",
    "readable_gold": "the gold picture can be read",
}


@dataclass(frozen=True)
class Cell:
    """A score of one experiment, 0-100.

    mean and spread (sample standard deviation, None for one seed) are over seeds. The interval (95 %) is the
    mean over seeds of the bootstrap bounds: it speaks of the choice of instances, the spread of the seeds.
    """

    mean: float
    spread: float | None
    ci_low: float
    ci_high: float
    n: int
    seeds: int
    best: bool = False


@dataclass(frozen=True)
class ScoreTable:
    """Experiments x (benchmark, metric); `cells[experiment, benchmark, metric]` may be absent."""

    task: str
    columns: list[tuple[str, str]]
    experiments: list[str]
    baselines: list[str]
    cells: dict[tuple[str, str, str], Cell]

    def get(self, experiment: str, benchmark: str, metric: str) -> Cell | None:
        return self.cells.get((experiment, benchmark, metric))

    def sizes(self, column: tuple[str, str]) -> list[int]:
        """The numbers of instances in a column: one, unless experiments were scored on different parts."""
        return sorted({cell.n for key, cell in self.cells.items() if key[1:] == column})

    @property
    def primary(self) -> list[tuple[str, str]]:
        """One column a benchmark: F1, or HR@1."""
        first: dict[str, tuple[str, str]] = {}
        for column in self.columns:
            if not column[0].endswith(AMENDED):
                first.setdefault(column[0], column)
        return list(first.values())


def whole(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows about whole benchmarks: subset "all" (or the like), else the one with the most instances."""
    parts = []
    for _, rows in scores.groupby("benchmark", sort=False):
        named = rows["subset"].isna() | rows["subset"].astype(str).str.lower().isin(WHOLE_SUBSETS)
        parts.append(rows[named] if named.any() else rows[rows["subset"] == rows.loc[rows["n"].idxmax(), "subset"]])
    return pd.concat(parts) if parts else scores


def cells_of(scores: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], Cell]:
    """One cell for each value of `keys`, over seeds."""
    cells = {}
    for key, rows in scores.groupby(list(keys), sort=False):
        cells[key] = Cell(
            mean=float(rows["value"].mean()),
            spread=float(rows["value"].std(ddof=1)) if len(rows) > 1 else None,
            ci_low=float(rows["ci_low"].mean()),
            ci_high=float(rows["ci_high"].mean()),
            n=int(rows["n"].max()),
            seeds=int(rows["seed"].nunique()),
        )
    return cells


def score_table(scores: pd.DataFrame, task: str, main: str, baselines: Sequence[str]) -> ScoreTable | None:
    """The table of one task, or None when it was not scored.

    A cell is `best` only when its interval lies above the interval of every other experiment.
    """
    scores = scores[scores["task"] == task]
    present = set(scores["metric"])
    metrics = [metric for metric in METRICS[task] if metric in present]
    if task == "textual":
        metrics = metrics[:1]  # every instance answered: F1 and accuracy are one number
    hard = (scores["metric"] == "macro_f1") & scores["benchmark"].isin(HARD_BENCHMARKS)
    rows = whole(amended_apart(scores[scores["metric"].isin(metrics) | hard]))
    if rows.empty:
        return None
    cells = cells_of(rows, ("experiment", "benchmark", "metric"))
    measured = {key[1:] for key in cells}
    metrics = [metric for metric in (*metrics, "macro_f1") if metric in set(rows["metric"])]
    columns = [(b, m) for b in dict.fromkeys(rows["benchmark"]) for m in metrics if (b, m) in measured]
    for column in columns:
        here = {key: cell for key, cell in cells.items() if key[1:] == column}
        for key, cell in here.items():
            others = [other for other_key, other in here.items() if other_key != key]
            if others and all(cell.ci_low > other.ci_high for other in others):
                cells[key] = Cell(**(vars(cell) | {"best": True}))
    names = list(dict.fromkeys(rows["experiment"]))
    experiments = sorted((name for name in names if name not in baselines), key=lambda name: name != main)
    return ScoreTable(task, columns, experiments, [name for name in names if name in baselines], cells)


def unreadable_golds(scores: pd.DataFrame) -> dict[str, int]:
    """How many gold pictures of each visual benchmark were missing or could not be decoded; without those of none."""
    found: dict[str, int] = {}
    scores = scores[scores["task"] == "visual"]
    for _, rows in scores.groupby(["experiment", "seed", "benchmark"], sort=False):
        n = rows.groupby("subset")["n"].max()
        if "readable_gold" in n:
            benchmark = rows["benchmark"].iloc[0]
            found[benchmark] = max(found.get(benchmark, 0), int(n.max() - n["readable_gold"]))
    return found


def amended_apart(scores: pd.DataFrame) -> pd.DataFrame:
    """The subset `amended` as a benchmark of its own, right behind the one it is of."""
    old = scores["subset"] == "amended"
    benchmarks = scores["benchmark"].mask(old, scores["benchmark"] + AMENDED)
    return scores.assign(benchmark=benchmarks, subset=scores["subset"].mask(old, "all"))


def subset_cells(scores: pd.DataFrame, table: ScoreTable) -> list[tuple[str, str, str, dict[str, Cell]]]:
    """(benchmark, metric, subset, {experiment: cell}) for the parts that are not all of their benchmark."""
    rows = scores[scores["task"] == table.task]
    rows = rows.drop(index=whole(rows).index)
    size = {column: max(table.sizes(column)) for column in table.primary}
    kept = [
        (benchmark, metric) in size and n < size[benchmark, metric]
        for benchmark, metric, n in zip(rows["benchmark"], rows["metric"], rows["n"], strict=True)
    ]
    rows = rows.loc[pd.Series(kept, index=rows.index, dtype=bool)]
    found: dict[tuple[str, str, str], dict[str, Cell]] = {}
    for (experiment, *where), cell in cells_of(rows, ("experiment", "benchmark", "metric", "subset")).items():
        found.setdefault(tuple(where), {})[experiment] = cell
    return [(*where, by_experiment) for where, by_experiment in found.items()]


def best_baseline(table: ScoreTable, column: tuple[str, str], main: str) -> tuple[str, Cell] | None:
    """The strongest baseline that is not `main` itself."""
    found = [(name, table.get(name, *column)) for name in table.baselines if name != main]
    return max(((n, c) for n, c in found if c), key=lambda pair: pair[1].mean, default=None)


def headline(tables: Sequence[ScoreTable], main: str) -> list[str]:
    """A sentence a task, made from the numbers: the score of `main`, its interval, the strongest baseline."""
    sentences = []
    for table in tables:
        parts = []
        for column in table.primary:
            cell = table.get(main, *column)
            if cell is None:
                continue
            against = best_baseline(table, column, main)
            text = f"{cell.mean:.1f}\u00a0% on {column[0]} [{cell.ci_low:.1f}, {cell.ci_high:.1f}]"
            if against:
                text += f" ({against_words(cell, *against)})"
            parts.append(text)
        if parts:
            does = "names the sense that is meant" if table.task == "textual" else "ranks the right picture first"
            opening = "In sentences" if table.task == "textual" else "Among the candidate pictures"
            sentences.append(f"{opening}, {main} {does} for {joined(parts)}.")
    return sentences


def against_words(cell: Cell, name: str, baseline: Cell) -> str:
    difference = cell.mean - baseline.mean
    apart = cell.ci_low > baseline.ci_high or cell.ci_high < baseline.ci_low
    side = "above" if difference >= 0 else "below"
    return f"{abs(difference):.1f} points {side} {name}" + ("" if apart else ", intervals overlap")


def joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def separable(row: pd.Series) -> bool:
    """Whether the interval of a paired difference leaves out 0."""
    return bool(row["ci_low"] > 0 or row["ci_high"] < 0)


def verdict(row: pd.Series) -> str:
    """One paired difference in plain words (experiment_a minus experiment_b, in points)."""
    interval = f"[{signed(row['ci_low'])}, {signed(row['ci_high'])}]"
    a, b = row["experiment_a"], row["experiment_b"]
    if not separable(row):
        return f"{a} against {b}: no gain separable from noise, {signed(row['difference'])} {interval}."
    word = "better" if row["difference"] > 0 else "worse"
    return f"{a} is {word} than {b} by {abs(row['difference']):.1f} points {interval}."


def metric_name(metric: str) -> str:
    if metric == "macro_f1":
        return "macro F1"
    return metric if metric in ("accuracy", "precision", "recall") else metric.upper()


def signed(value: float) -> str:
    """A difference with its sign, one decimal, a true minus sign."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else ("+" if value > 0 else MINUS) + text
