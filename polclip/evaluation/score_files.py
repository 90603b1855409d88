"""Scores of prediction files in the official forms, for `polclip score`; figures are 0 to 100.

Textual gold and predictions: `instance_id sense_key [sense_key ...]` a line. Visual gold: one picture name a
line; predictions: the ten names of that line, best first, tab-separated; or folders of such files, one a
language.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from polclip.corpora.key_files import read_keys
from polclip.corpora.text_lines import text_lines
from polclip.errors import UserError
from polclip.evaluation.textual import TextualScore, ids_by_pos, macro_f1, score_textual
from polclip.evaluation.visual import VisualScore, mean_over_languages, score_visual

_ID_IN_SET = re.compile(r"([^.]+)\.d\d+\.s\d+\.t\d+")  # senseval2.d000.s000.t000
_GOLD_NAME = re.compile(r"([a-z]{2})\..*gold.*\.txt")
_PREDICTION_NAME = re.compile(r"prediction\.(?:.*\.)?([a-z]{2})\.txt")


def score_textual_file(gold_path: Path, predictions_path: Path) -> dict:
    """F1, precision, recall, macro F1 over gold senses of an answer file; by part of speech and data set.

    Raises UserError with file and line for an unknown instance, one given twice and a line of another form.
    """
    gold = read_keys(_lines(gold_path), str(gold_path))
    answers = read_keys(_lines(predictions_path), str(predictions_path), known=gold.keys())
    score = score_textual(gold, answers)
    sets: dict[str, list[str]] = {}
    for instance_id in gold:
        in_set = _ID_IN_SET.fullmatch(instance_id)
        if in_set:
            sets.setdefault(in_set[1], []).append(instance_id)
    subsets = ids_by_pos(gold) | (sets if len(sets) > 1 else {})
    return {
        "file": str(predictions_path),
        "task": "textual",
        **_textual_figures(score),
        "macro_f1": _percent(macro_f1(gold, answers)),
        "subsets": {name: _textual_figures(score.subset(ids)) for name, ids in subsets.items()},
    }


def _textual_figures(score: TextualScore) -> dict:
    return {
        "f1": _percent(score.f1),
        "precision": _percent(score.precision),
        "recall": _percent(score.recall),
        "n": len(score.instance_ids),
        "answered": int(score.answered.sum()),
    }


def score_visual_file(gold_path: Path, predictions_path: Path) -> dict:
    """HR@1 and MRR of one prediction file; of two folders, by language and the mean over languages.

    A folder of gold holds files such as `en.test.gold.v1.1.txt`, one of predictions `prediction.en.txt`.
    Raises UserError with file and line for a ranking that lacks the gold picture or names one twice.
    """
    if gold_path.is_dir() != predictions_path.is_dir():
        raise UserError(f"{gold_path} and {predictions_path}: give two files, or two folders with a file a language.")
    if not gold_path.is_dir():
        score = _read_visual(gold_path, predictions_path)
        return {"file": str(predictions_path), "task": "visual", **_visual_figures(score)}
    gold_files = _by_language(gold_path, _GOLD_NAME, "en.test.gold.v1.1.txt")
    prediction_files = _by_language(predictions_path, _PREDICTION_NAME, "prediction.en.txt")
    unpaired = gold_files.keys() ^ prediction_files.keys()
    if unpaired:
        raise UserError(
            f"{gold_path} and {predictions_path}: only one of them has a file for "
            f"{', '.join(sorted(unpaired))}. Give both, or score the languages file by file."
        )
    scores = {language: _read_visual(gold_files[language], prediction_files[language]) for language in gold_files}
    hit_rate, mrr = mean_over_languages(scores)
    return {
        "file": str(predictions_path),
        "task": "visual",
        "hr@1": _percent(hit_rate),
        "mrr": _percent(mrr),
        "n": sum(len(score.instance_ids) for score in scores.values()),
        "languages": {language: _visual_figures(score) for language, score in scores.items()},
    }


def _read_visual(gold_path: Path, predictions_path: Path) -> VisualScore:
    gold = [line.strip() for line in _lines(gold_path)]
    rankings = [[name.strip() for name in line.split("\t")] for line in _lines(predictions_path)]
    if len(gold) != len(rankings) or not gold:
        raise UserError(f"{predictions_path} has {len(rankings)} lines, {gold_path} {len(gold)}; one for one is asked.")
    for number, (picture, ranking) in enumerate(zip(gold, rankings, strict=True), start=1):
        if not picture:
            raise UserError(f"{gold_path}:{number}: a blank line. A line of the gold is the name of one picture.")
        if len(ranking) != 10 or len(set(ranking)) != 10 or picture not in ranking:
            raise UserError(
                f"{predictions_path}:{number}: the ranking is of {len(ranking)} names, names a picture twice or lacks "
                f"the gold {picture}. A line is all ten picture names, best first, separated by tabs."
            )
    lines = [str(number) for number in range(1, 1 + len(gold))]
    return score_visual(dict(zip(lines, gold, strict=True)), dict(zip(lines, rankings, strict=True)))


def _visual_figures(score: VisualScore) -> dict:
    return {"hr@1": _percent(score.hit_rate), "mrr": _percent(score.mrr), "n": len(score.instance_ids)}


def _by_language(folder: Path, name: re.Pattern[str], example: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        named = name.fullmatch(path.name)
        if named and named[1] in files:
            raise UserError(f"{folder} has two files for {named[1]}: {files[named[1]].name} and {path.name}.")
        if named:
            files[named[1]] = path
    if not files:
        raise UserError(f"{folder} has no file named like {example}.")
    return files


def _lines(path: Path) -> list[str]:
    try:
        return text_lines(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read as a text file ({error}).") from error


def _percent(value: float) -> float:
    return round(100 * value, 4)


def as_table(results: list[Mapping]) -> str:
    """Results of `score_textual_file` or `score_visual_file` as lines for the eye, two decimals."""
    columns = [name for name in ("f1", "precision", "recall", "macro_f1", "hr@1", "mrr") if name in results[0]]
    rows = [("file", *columns, "n")]
    for result in results:
        rows.append(_row(result["file"], result, columns))
        for name, part in (result.get("subsets") or result.get("languages") or {}).items():
            rows.append(_row(f"  {name}", part, columns))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    )


def _row(name: str, figures: Mapping, columns: list[str]) -> tuple[str, ...]:
    return (
        name,
        *(f"{figures[column]:.2f}" if column in figures else "" for column in columns),
        str(figures["n"]),
    )
