"""Figures as SVG to stand inside the page, in colours that follow its light and dark theme.

Matplotlib draws with stand-in colours; each is then replaced by a variable of the page's style sheet.
The same data give the same bytes: ids are salted by the name of the figure, and no date is written.
"""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from polclip.evaluation.calibration import Calibration
from polclip.reporting.summary import MINUS, ScoreTable, metric_name, separable, whole

SERIES = 8  # colours in the style sheet: --s0 … --s7
INK, MUTED, GRID, GOOD, BAD = (f"#0a0a0{i}" for i in range(1, 6))
_variables = {INK: "ink", MUTED: "muted", GRID: "line", GOOD: "right", BAD: "wrong"}
_variables |= {f"#0b0b0{i}": f"s{i}" for i in range(SERIES)}
_style = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with two dollars is a name
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
}
# Lines differ by more than their colour; in points, as Matplotlib and SVG read them.
DASHES = ("", "6 2", "2 1.5", "8 2 2 2", "1 1.5", "10 3", "4 1", "5 2 1 2 1 2")


def colour(index: int) -> str:
    return f"#0b0b0{index % SERIES}"


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element: no prologue, its own ids, a text for those who cannot see it."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id=")', rf"\1{name}-", svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"font: (\w+ )?([\d.]+)px [^;\"]*", r"font: \1\2px var(--sans)", svg)
    for stand_in, variable in _variables.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]*"', svg).group()
    body = svg[svg.index(">") + 1 :]
    return Markup(f'<svg {box} role="img" data-name="{name}" aria-label="{escape(label)}">{body}')


def standalone(svg: str, style: str) -> tuple[str, str]:
    """The name of a figure, and the figure as a file of its own in the light colours of the page's style sheet."""
    name = re.search(r'data-name="([^"]*)"', svg).group(1)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    colours = dict(re.findall(r"--(\w+): ([^;]+);", style[: style.index("}")]))
    svg = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]].replace('"', "'"), svg)
    ground = f'<rect width="{width}" height="{height}" fill="{colours["card"]}"/>'
    opened = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" '
        f'height="{height}"'
    )
    return name, svg.replace("<svg", opened, 1).replace(">", f">{ground}", 1) + "\n"


def _figure(width: float, height: float, title: str = "") -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure, figure.add_subplot()


def over_seeds(runs: Sequence[Sequence[Mapping]], key: str, bins: int = 120) -> pd.DataFrame:
    """One value of the logs of several seeds as columns step, minutes, mean, low, high (lowest and highest seed).

    Steps are gathered in at most `bins` equal stretches, each seed averaged before the seeds are. A stretch that one of
    the seeds lacks is left out, so that all points are means of the same seeds.
    """
    rows = [
        (seed, line["step"], line.get("seconds", 0) / 60, line[key])
        for seed, run in enumerate(runs)
        for line in run
        if isinstance(line.get(key), int | float) and "step" in line
    ]
    table = pd.DataFrame(rows, columns=["seed", "step", "minutes", "value"])
    if table.empty:
        return pd.DataFrame(columns=["step", "minutes", "mean", "low", "high"])
    width = max(1, -(-(int(table["step"].max()) + 1) // bins))
    by_seed = table.assign(bin=table["step"] // width).groupby(["bin", "seed"])[["step", "minutes", "value"]].mean()
    by_bin = by_seed.groupby("bin")
    curve = pd.DataFrame(
        {
            "step": by_bin["step"].mean(),
            "minutes": by_bin["minutes"].mean(),
            "mean": by_bin["value"].mean(),
            "low": by_bin["value"].min(),
            "high": by_bin["value"].max(),
        }
    )
    return curve[by_bin.size() == table["seed"].nunique()].reset_index(drop=True)


def learning_curve(
    logs: Mapping[str, Sequence[Sequence[Mapping]]],
    key: str,
    title: str,
    colours: Mapping[str, int],
    minutes: bool = False,
) -> Markup | None:
    """One panel: `key` over the steps, or over minutes, a line and a band an experiment; None when nobody logged it."""
    over = "minutes" if minutes else "step"
    curves = {name: over_seeds(runs, key) for name, runs in logs.items()}
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return None
    with matplotlib.rc_context(_style):
        figure, axes = _figure(4.0, 2.5, title)
        for name, curve in curves.items():
            index = colours[name]
            axes.fill_between(curve[over], curve["low"], curve["high"], color=colour(index), alpha=0.18, lw=0)
            marker = "o" if len(curve) <= 30 else None
            dashes = tuple(float(length) for length in DASHES[index % SERIES].split())
            style = {"color": colour(index), "lw": 1.8, "ls": (0, dashes) if dashes else "-"}
            axes.plot(curve[over], curve["mean"], marker=marker, ms=3, **style)
        axes.set_xlabel("minutes of training" if minutes else "step")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=not minutes))
        axes.ticklabel_format(axis="y", scilimits=(-2, 5), useMathText=False)
        axes.margins(x=0.02)
        ends = "; ".join(f"{name} ends at {curve['mean'].iloc[-1]:.3g}" for name, curve in curves.items())
        what = "minutes" if minutes else "steps"
        return inline_svg(figure, f"curve-{_slug(f'{key} {what}')}", f"{title} over training {what}: {ends}.")


def score_bars(table: ScoreTable, column: tuple[str, str], colours: Mapping[str, int], scores: pd.DataFrame) -> Markup:
    """One panel: a bar an experiment with its 95 % interval, and a dot a seed (from `scores`)."""
    benchmark, metric = column
    rows = scores[(scores["benchmark"] == benchmark) & (scores["metric"] == metric)]
    points = {name: list(part["value"]) for name, part in whole(rows).groupby("experiment")}
    names = [name for name in table.experiments + table.baselines if table.get(name, *column)]
    cells = [table.get(name, *column) for name in names]
    with matplotlib.rc_context(_style):
        figure, axes = _figure(4.0, 0.75 + 0.34 * len(names), f"{benchmark} · {metric_name(metric)}")
        for row, (name, cell) in enumerate(zip(names, cells, strict=True)):
            shade = MUTED if name in table.baselines else colour(colours[name])
            axes.barh(row, cell.mean, height=0.62, color=shade, alpha=0.42 if name in table.baselines else 0.85)
            axes.plot([cell.ci_low, cell.ci_high], [row, row], color=INK, lw=1.6, solid_capstyle="butt")
            dots = points.get(name, ())
            if len(dots) > 1:
                axes.plot(dots, [row + 0.2] * len(dots), "o", ms=3.2, color=INK, alpha=0.75, mew=0)
            axes.text(max(cell.ci_high, cell.mean) + 1.5, row, f"{cell.mean:.1f}", va="center", fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 108)
        axes.set_xticks(range(0, 101, 25))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        text = "; ".join(
            f"{n} {c.mean:.1f} [{c.ci_low:.1f}, {c.ci_high:.1f}]" for n, c in zip(names, cells, strict=True)
        )
        return inline_svg(figure, f"bars-{_slug(benchmark)}", f"{benchmark}, {metric}: {text}.")


def reliability(found: Mapping[str, Calibration], title: str, colours: Mapping[str, int]) -> Markup:
    """One panel: of the instances a model is so sure of, how many are right; on the diagonal both are one."""
    with matplotlib.rc_context(_style):
        figure, axes = _figure(4.0, 3.4, title)
        axes.plot([0, 100], [0, 100], color=MUTED, lw=1)
        for name, one in found.items():
            index = colours[name]
            dashes = tuple(float(length) for length in DASHES[index % SERIES].split())
            style = {"color": colour(index), "lw": 1.8, "ls": (0, dashes) if dashes else "-"}
            axes.plot(100 * one.confidence, 100 * one.accuracy, marker="o", ms=3.5, **style)
        axes.set_xlabel("probability of the answer, %")
        axes.set_ylabel("right, %")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.grid()
        axes.set_axisbelow(True)
        text = "; ".join(f"{name}: expected calibration error {100 * one.error:.1f} %" for name, one in found.items())
        return inline_svg(figure, f"reliability-{_slug(title)}", f"{title}. {text}.")


def shares(ranges: Mapping[str, float], title: str, unit: str) -> Markup:
    """One panel: percent of the items in each range of values."""
    with matplotlib.rc_context(_style):
        figure, axes = _figure(4.0, 2.1, title)
        axes.bar(range(len(ranges)), list(ranges.values()), color=colour(0), width=0.72)
        for place, share in enumerate(ranges.values()):
            axes.annotate(f"{share:.0f}", (place, share), (0, 2), textcoords="offset points", ha="center", fontsize=8.5)
        axes.set_xticks(range(len(ranges)), list(ranges))
        axes.set_xlabel(unit)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(y=0.14)
        text = "; ".join(f"{name}: {share:.1f} %" for name, share in ranges.items())
        return inline_svg(figure, f"shares-{_slug(f'{unit} {title}')}", f"{title}, {unit}: {text}.")


def forest(tests: pd.DataFrame, narrow: bool = False) -> Markup:
    """Paired differences with their intervals, one row per test; filled where the interval leaves out 0.

    narrow: for a phone, with the names of a row above it instead of beside it.
    """
    with matplotlib.rc_context(_style):
        figure, axes = _figure(*(4.0, 0.8 + 0.45 * len(tests)) if narrow else (11, 0.65 + 0.29 * len(tests)))
        labels = []
        for row, (_, test) in enumerate(tests.iterrows()):
            apart = separable(test)
            shade = MUTED if not apart else GOOD if test["difference"] > 0 else BAD
            axes.plot([test["ci_low"], test["ci_high"]], [row, row], color=shade, lw=2.2, solid_capstyle="round")
            axes.plot(
                test["difference"],
                row,
                "D" if apart else "o",
                ms=6,
                color=shade,
                mfc=shade if apart else "none",
            )
            pair = f"{test['experiment_a']} {MINUS} {test['experiment_b']}"
            labels.append(f"{test['benchmark']} {metric_name(test['metric'])} · {pair}")
        axes.axvline(0, color=INK, lw=1)
        if narrow:
            axes.set_yticks([])
            for row, label in enumerate(labels):
                axes.text(0, row - 0.38, label, fontsize=8, transform=axes.get_yaxis_transform())
            axes.set_ylim(len(tests) - 0.4, -0.8)
        else:
            axes.set_yticks(range(len(tests)), labels)
            axes.tick_params(axis="y", labelcolor=INK)
            axes.set_ylim(len(tests) - 0.4, -0.6)
        axes.set_xlabel("difference in points")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        label = "Forest plot of the paired differences; the table beside it has the same numbers."
        return inline_svg(figure, "forest-narrow" if narrow else "forest", label)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
