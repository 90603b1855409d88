"""The report: one self-contained page that shows what was run, what came out, and where it fails."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup

from polclip.errors import UserError
from polclip.files import complete_or_absent, read_json, read_json_lines, write_text
from polclip.reporting import figures, summary
from polclip.reporting.corpus_statistics import CORPORA_COLUMNS
from polclip.reporting.definitions import definitions_section
from polclip.reporting.evidence import examples_and_failures
from polclip.reporting.inputs import ReportInputs, ReportSettings, run_of
from polclip.reporting.outcomes import PARTS
from polclip.reporting.published import published_systems
from polclip.reporting.reliability import reliability_section
from polclip.reporting.tables import SCORE_COLUMNS, SIGNIFICANCE_COLUMNS, read_table
from polclip.reporting.templating import render, style_sheet

NOTES = {
    "main": "the full model, one for both tasks",
    "text_only": "from the same aligned towers, trained on sentences alone",
    "no_fusion": "without attending to what it generates",
    "random": "a guess",
    "first_sense": "WordNet's first sense, always",
    "lesk": "words shared by sentence and gloss (NLTK)",
    "zero_shot": "the pretrained encoders, nothing trained",
}
CURVES = {
    "loss": "Loss, all parts",
    "loss_w2s": "Loss: word to sense (W2S)",
    "loss_w2i": "Loss: word to image (W2I)",
    "loss_sig": "Loss: sense to image (SIG)",
    "loss_isg": "Loss: image to sense (ISG)",
    "dev_textual": "Dev score, textual",
    "dev_visual": "Dev score, visual",
    "temperature": "Temperature",
    "learning_rate": "Learning rate",
}


def write_report(
    settings: ReportSettings, inputs: ReportInputs, output: str | Path, figures_folder: str | Path | None = None
) -> None:
    """Write the page, and its figures as SVG files. It asks for nothing outside itself; the same inputs give the same.

    Its date is that of the newest input. Raises UserError when a table lacks a column or there are no scores.
    """
    scores = read_table(inputs.scores, SCORE_COLUMNS)
    if scores.empty:
        raise UserError(f"{inputs.scores}: no scores to report. Run the evaluation first: snakemake scores")
    main = main_experiment(scores, settings)
    provenance = read_json(inputs.provenance) if inputs.provenance else {}
    tables = [summary.score_table(scores, task, main, settings.baselines) for task in ("textual", "visual")]
    tables = [table for table in tables if table]
    corpora = read_corpora(inputs.corpora) if inputs.corpora else []
    logs = read_logs(inputs.metrics)
    # One colour an experiment, the same in every figure; baselines are grey.
    trained = [name for name in dict.fromkeys(scores["experiment"]) if name not in settings.baselines]
    colours = {name: place for place, name in enumerate(dict.fromkeys([main, *trained, *logs]))}
    page = {
        "settings": settings,
        "main": main,
        "date": max(datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in inputs.files()),
        "seeds": sorted(set(scores.loc[scores["experiment"] == main, "seed"])),
        "headline": summary.headline(tables, main),
        "tables": tables,
        "subsets": {table.task: summary.subset_cells(scores, table) for table in tables},
        "unreadable_golds": summary.unreadable_golds(scores),
        "published": {table.task: published_systems(table) for table in tables},
        "notes": experiment_notes(provenance),
        "trained_on": training_rows(corpora, provenance),
        "bars": {
            table.task: [figures.score_bars(table, column, colours, scores) for column in table.primary]
            for table in tables
        },
        "corpora": corpora,
        "costs": read_json(inputs.costs) if inputs.costs else [],
        "provenance": provenance,
        "config": as_yaml(provenance.get("config")),
        "archives": {archive["name"]: archive for archive in provenance.get("archives", [])},
        "colours": {name: place % figures.SERIES for name, place in colours.items()},
        "dashes": figures.DASHES,
        "parts": PARTS | summary.SUBSETS,
        "curves": learning_curves(logs, colours),
        "logged": [name for name in colours if name in logs],
    }
    page |= paired_tests(inputs)
    page |= reliability_section(inputs, next((table for table in tables if table.task == "textual"), None), colours)
    page |= examples_and_failures(settings, inputs, main)
    page |= definitions_section(settings, inputs.definition_costs, inputs.definitions)
    html = render(page)
    if figures_folder is not None:
        write_figures(re.findall(r"<svg[^>]* data-name=.*?</svg>", html, re.DOTALL), figures_folder)
    write_text(output, html)


def write_figures(drawn: Sequence[str], folder: str | Path) -> None:
    """The figures of a page, a file each."""
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        for svg in drawn:
            name, text = figures.standalone(svg, style_sheet())
            (temporary / f"{name}.svg").write_text(text, encoding="utf-8")


def main_experiment(scores: pd.DataFrame, settings: ReportSettings) -> str:
    """What the page is about: `settings.main`, else the first that is no baseline, else the first."""
    names = list(dict.fromkeys(scores["experiment"]))
    if settings.main in names:
        return settings.main
    return next((name for name in names if name not in settings.baselines), names[0])


def experiment_notes(provenance: Mapping) -> dict[str, str]:
    """A few words an experiment: its `description` in the config, else what is known of the name."""
    experiments = (provenance.get("config") or {}).get("experiments")
    described = {}
    for name, experiment in experiments.items() if isinstance(experiments, dict) else ():
        if isinstance(experiment, dict) and experiment.get("description"):
            described[name] = str(experiment["description"])
    return NOTES | described


def read_corpora(path: str | Path) -> list[dict]:
    table = read_table(path, CORPORA_COLUMNS)
    counts = ["sentences", "instances", "gold_missing", "images"]
    table[counts] = table[counts].fillna(0).astype(int)
    return table.to_dict("records")


def training_rows(corpora: list[dict], provenance: Mapping) -> list[dict]:
    """The rows of those corpora that the config trains on; none where the config is not known."""
    chosen = (provenance.get("config") or {}).get("corpora") or {}
    entries = {entry for task in ("textual", "visual") for entry in (chosen.get(task) or {}).get("train") or ()}
    return [row for row in corpora if f"{row['corpus']}/{row['split']}" in entries]


def as_yaml(config: Mapping | None) -> str:
    """The settings without the archives' mirror, which changes no result and tells of a machine."""
    shown = {key: value for key, value in (config or {}).items() if key != "archives_mirror"}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True) if shown else ""


def read_logs(paths: Sequence[str | Path]) -> dict[str, list[list[dict]]]:
    """Experiment to the training logs of its seeds, without the losses that the experiment does not have.

    A training logs 0 for those, as `loss_sig` of a training on texts alone. A loss that is computed is not always 0.
    """
    logs: dict[str, list[list[dict]]] = {}
    for path in sorted(paths, key=run_of):
        logs.setdefault(run_of(path)[0], []).append(list(read_json_lines(path)))
    for name, runs in logs.items():
        losses = {key for run in runs for line in run for key in line if key.startswith("loss")}
        absent = {key for key in losses if not any(line.get(key) for run in runs for line in run)}
        logs[name] = [[{key: line[key] for key in line if key not in absent} for line in run] for run in runs]
    return logs


def learning_curves(logs: Mapping[str, list[list[dict]]], colours: Mapping[str, int]) -> list[Markup]:
    panels = [figures.learning_curve(logs, key, title, colours) for key, title in CURVES.items()]
    dev = ("dev_textual", "dev_visual")
    panels += [figures.learning_curve(logs, key, f"{CURVES[key]}, by time", colours, minutes=True) for key in dev]
    return [panel for panel in panels if panel]


def paired_tests(inputs: ReportInputs) -> dict:
    if not inputs.significance:
        return {"tests": [], "forests": []}
    tests = read_table(inputs.significance, SIGNIFICANCE_COLUMNS)
    # MRR stays in the table of all numbers: beside HR@1 it would say everything twice.
    shown = tests[tests["metric"] != "mrr"]
    rows = [
        row | {"verdict": summary.verdict(row), "separable": summary.separable(row)} for row in tests.to_dict("records")
    ]
    return {"tests": rows, "forests": [figures.forest(shown, narrow) for narrow in (False, True) if len(shown)]}
