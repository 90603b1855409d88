"""Scores of prediction files in the official forms, for `polclip score`; figures are 0 to 100.

Textual gold and predictions: `instance_id sense_key [sense_key ...]` a line. Visual gold: one picture name a
line; predictions: the ten names of that line, best first, tab-separated; or folders of such files, one a
language.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from polclip.errors import UserError
from polclip.evaluation.answer_files import (
    in_other_notation,
    lemmas,
    of_other_lemma,
    read_answers,
    read_gold,
    read_lines,
)
from polclip.evaluation.subsets import TrainingSenses, ids_by_set, read_training_senses
from polclip.evaluation.textual import TextualScore, ids_by_pos, lemma_and_pos, macro_f1, score_textual
from polclip.evaluation.visual import VisualScore, mean_over_languages, score_visual

_GOLD_NAME = re.compile(r"([a-z]{2})\..*gold.*\.txt")
_PREDICTION_NAME = re.compile(r"prediction\.(?:.*\.)?([a-z]{2})\.txt")


def score_textual_file(
    gold_path: Path,
    predictions_path: Path,
    training: TrainingSenses | None = None,
    first_sense_path: Path | None = None,
    corrected_path: Path | None = None,
) -> dict:
    """F1, precision, recall, macro F1 over gold senses of an answer file; by part of speech and data set.

    training: what was seen in training, for the subsets seen_lemma, unseen_lemma, seen_sense and unseen_sense.
    first_sense_path: answers of the first sense, for first_sense (they are right) and other_sense.
    corrected_path: new gold keys of some instances, for amended (their old keys), corrected (the new ones) and
    corrected_same_lemma (the new ones, without the instances whose new keys are of another lemma or part of speech).

    `checks` of the result counts what is odd about the answers (see `Answers`; other_lemma: answers of another lemma or
    part of speech than the gold), `warnings` says it in sentences. Raises UserError for a file without an instance, and
    for one without an instance of the gold.
    """
    gold, warnings = read_gold(gold_path)
    found = read_answers(predictions_path, gold, gold_path)
    score = score_textual(gold, found.keys)
    other_lemma, lemma_warnings = of_other_lemma(predictions_path, found.keys, gold)
    warnings += [*found.warnings, *lemma_warnings, *_nothing_earned(predictions_path, found.keys, gold, score)]
    subsets = ids_by_pos(gold) | ids_by_set(gold)
    if training:
        subsets |= _ids_by_seen(gold, training)
        warnings += in_other_notation("--train", training.sense_keys, gold)[1]
    if first_sense_path:
        first = read_answers(first_sense_path, gold, gold_path)
        warnings += first.warnings
        right = [instance_id for instance_id in gold if set(first.keys.get(instance_id, ())) & set(gold[instance_id])]
        subsets |= {"first_sense": right, "other_sense": sorted(gold.keys() - right)}
    scores = {name: score.subset(ids) for name, ids in subsets.items() if ids}
    if corrected_path:
        new = read_answers(corrected_path, gold, gold_path)
        corrected = score_textual(new.keys, {name: keys for name, keys in found.keys.items() if name in new.keys})
        moved = [name for name, keys in new.keys.items() if _all_of_other_lemma(keys, gold[name])]
        same_lemma = corrected.subset(new.keys.keys() - moved)
        scores |= {"amended": score.subset(new.keys), "corrected": corrected}
        scores |= {"corrected_same_lemma": same_lemma} if moved and same_lemma.instance_ids else {}
        warnings += new.warnings
        if moved:
            warnings.append(
                f"{corrected_path}: {len(moved):,} of {len(new.keys):,} instances have keys of another lemma or part "
                f"of speech than in {gold_path}, such as {moved[0]}. A system given the old lemma cannot answer them: "
                "compare corrected_same_lemma, or score answers to the corrected benchmark itself."
            )
    return {
        "file": str(predictions_path),
        "task": "textual",
        **_textual_figures(score),
        "macro_f1": percent(macro_f1(gold, found.keys)),
        "subsets": {name: _textual_figures(part) for name, part in scores.items()},
        "checks": found.checks | {"other_lemma": other_lemma},
        "warnings": warnings,
    }


def read_textual(gold_path: Path, predictions_path: Path) -> TextualScore:
    """The score of an answer file against a gold file."""
    gold, _ = read_gold(gold_path)
    return score_textual(gold, read_answers(predictions_path, gold, gold_path).keys)


def _all_of_other_lemma(keys: Sequence[str], old: Sequence[str]) -> bool:
    return bool(lemmas(keys)) and bool(lemmas(old)) and lemmas(keys).isdisjoint(lemmas(old))


def _nothing_earned(
    path: Path, answers: Mapping[str, Sequence[str]], gold: Mapping[str, Sequence[str]], score: TextualScore
) -> list[str]:
    if score.earned.any():
        return []
    if not answers:
        return [f"{path}: no instance of the gold is answered."]
    instance_id, keys = next(iter(answers.items()))
    return [
        f"{path}: none of {len(answers):,} answers is right. The first is {' '.join(keys)} of {instance_id}, where the "
        f"gold is {' '.join(gold[instance_id])}."
    ]


def read_training_files(paths: Sequence[Path]) -> TrainingSenses:
    """What key files, or Parquet files of textual instances, hold; of a key file, lemmas are those of its keys."""
    lemmas: set[str] = set()
    sense_keys: set[str] = set()
    for path in paths:
        if path.suffix == ".parquet":
            found = read_training_senses([path])
            lemmas |= found.lemmas
            sense_keys |= found.sense_keys
        else:
            for keys in read_gold(path)[0].values():
                sense_keys.update(keys)
                lemmas.update("#".join(named) for named in map(lemma_and_pos, keys) if named)
    return TrainingSenses(frozenset(lemmas), frozenset(sense_keys))


def _ids_by_seen(gold: Mapping[str, Sequence[str]], training: TrainingSenses) -> dict[str, list[str]]:
    """The lemma is that of the first gold key; ids whose keys name no lemma are in neither subset of lemmas."""
    names = ("seen_lemma", "unseen_lemma", "seen_sense", "unseen_sense")
    ids: dict[str, list[str]] = {name: [] for name in names}
    for instance_id, keys in gold.items():
        if named := lemma_and_pos(keys[0]):
            ids["seen_lemma" if training.lemma_seen(*named) else "unseen_lemma"].append(instance_id)
        ids["seen_sense" if training.sense_seen(keys) else "unseen_sense"].append(instance_id)
    return {name: members for name, members in ids.items() if members}


def _textual_figures(score: TextualScore) -> dict:
    return {
        "f1": percent(score.f1),
        "precision": percent(score.precision),
        "recall": percent(score.recall),
        "n": len(score.instance_ids),
        "answered": int(score.answered.sum()),
    }


def score_visual_file(gold_path: Path, predictions_path: Path) -> dict:
    """HR@1 and MRR of one prediction file; of two folders, by language and the mean over languages.

    A folder of gold holds files such as `en.test.gold.v1.1.txt`, one of predictions `prediction.en.txt`.
    Raises UserError with file and line for a ranking that lacks the gold picture or names one twice.
    """
    scores = read_visual(gold_path, predictions_path)
    if not gold_path.is_dir():
        return {"file": str(predictions_path), "task": "visual", **_visual_figures(scores[""])}
    hit_rate, mrr = mean_over_languages(scores)
    return {
        "file": str(predictions_path),
        "task": "visual",
        "hr@1": percent(hit_rate),
        "mrr": percent(mrr),
        "n": sum(len(score.instance_ids) for score in scores.values()),
        "languages": {language: _visual_figures(score) for language, score in scores.items()},
    }


def read_visual(gold_path: Path, predictions_path: Path) -> dict[str, VisualScore]:
    """The scores of two folders by language; of two files, one score without a language ("")."""
    if gold_path.is_dir() != predictions_path.is_dir():
        raise UserError(f"{gold_path} and {predictions_path}: give two files, or two folders with a file a language.")
    if not gold_path.is_dir():
        return {"": _read_visual(gold_path, predictions_path)}
    gold_files = _by_language(gold_path, _GOLD_NAME, "en.test.gold.v1.1.txt")
    prediction_files = _by_language(predictions_path, _PREDICTION_NAME, "prediction.en.txt")
    unpaired = gold_files.keys() ^ prediction_files.keys()
    if unpaired:
        raise UserError(
            f"{gold_path} and {predictions_path}: only one of them has a file for "
            f"{', '.join(sorted(unpaired))}. Give both, or score the languages file by file."
        )
    return {language: _read_visual(gold_files[language], prediction_files[language]) for language in gold_files}


def _read_visual(gold_path: Path, predictions_path: Path) -> VisualScore:
    gold = [line.strip() for line in read_lines(gold_path)]
    rankings = [[name.strip() for name in line.split("\t")] for line in read_lines(predictions_path)]
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
    return {"hr@1": percent(score.hit_rate), "mrr": percent(score.mrr), "n": len(score.instance_ids)}


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


def percent(value: float) -> float:
    """0 to 1 -> 0 to 100, ten decimals: a figure is rounded for the eye once, where it is printed."""
    return round(100 * value, 10)


def as_table(results: list[Mapping]) -> str:
    """Results of `score_textual_file` or `score_visual_file` as lines for the eye, two decimals."""
    columns = [name for name in ("f1", "precision", "recall", "macro_f1", "hr@1", "mrr") if name in results[0]]
    rows = [("file", *columns, "n")]
    for result in results:
        rows.append(_row(result["file"], result, columns))
        for name, part in (result.get("subsets") or result.get("languages") or {}).items():
            rows.append(_row(f"  {name}", part, columns))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def _row(name: str, figures: Mapping, columns: list[str]) -> tuple[str, ...]:
    return (
        name,
        *(f"{figures[column]:.2f}" if column in figures else "" for column in columns),
        str(figures["n"]),
    )
