"""`polclip score`: prediction files of any system, scored as the official scorers do."""

import json
from pathlib import Path
from typing import Annotated

import typer

from polclip.cli.common import one_sentence
from polclip.errors import UserError

score = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Score prediction files as the official scorers do."
)

Gold = Annotated[Path, typer.Argument(metavar="GOLD", help="Gold file (visual: or folder, a file a language).")]
Predictions = Annotated[list[Path], typer.Argument(metavar="PRED", help="Prediction files (visual: or folders).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a prediction file, one a line.")]
Train = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Training corpus: its gold key file, or its Parquet file of the workflow. May be given several times.",
    ),
]
FirstSense = Annotated[
    Path | None,
    typer.Option(
        "--first-sense",
        metavar="FILE",
        help="Answers of WordNet's first sense, as the workflow's baseline of that name writes them.",
    ),
]
Corrected = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Gold file with new keys of some instances: ALLamended's, where GOLD is ALL's.",
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Test each prediction file against the first: paired bootstrap and McNemar (JSON: key `compared`).",
    ),
]


@score.command()
def textual(
    gold: Gold,
    predictions: Predictions,
    as_json: AsJson = False,
    train: Train = None,
    first_sense: FirstSense = None,
    corrected: Corrected = None,
    compare: Compare = False,
) -> None:
    """Textual disambiguation: F1, precision, recall, and the macro F1 over gold senses.

    Gold and predictions hold a line an instance: `instance_id sense_key [sense_key ...]`, spaces between.
    Files are read as by the scorer of Raganato et al. 2017: an instance that is left out, or whose line has no key, is
    unanswered and lowers recall, not precision; an answer to an instance that GOLD does not have is passed over, so
    that answers to ALL can be scored on ALLamended or a single set, and the reverse. Of several answers each right one
    earns its share. Senses are sense keys of WordNet 3.0, or BabelNet ids in both files; only the markers (a), (p)
    and (ip) are stripped. stderr says how many answers were passed over, are in another notation or of another lemma
    (JSON: `checks` and `warnings`).

    Printed for all, by part of speech (n v a r), by data set where the ids name several (senseval2.d000...),
    and with --train by what training has seen: seen_lemma and unseen_lemma (the lemma with its part of speech),
    seen_sense and unseen_sense (one of the gold keys, or none). --first-sense adds first_sense (it is right) and
    other_sense; --corrected adds amended (its instances with their keys in GOLD), corrected (with the new keys) and
    corrected_same_lemma (without the instances whose new keys are of another lemma or part of speech).
    The figures are those of the official scorers: of macro_f1, the one published with ALLamended.

    Example: polclip score textual ALL.gold.key.txt results/paper/predictions/main/seed-42/ALL.key.txt
    """
    from polclip.evaluation.score_files import read_training_files, score_textual_file

    with one_sentence():
        training = read_training_files(train) if train else None
        results = [score_textual_file(gold, path, training, first_sense, corrected) for path in predictions]
        _print_scores("textual", results, gold, predictions, as_json, compare)


@score.command()
def visual(gold: Gold, predictions: Predictions, as_json: AsJson = False, compare: Compare = False) -> None:
    """Visual disambiguation: HR@1 and MRR.

    Gold holds the name of one picture a line; predictions hold in the same order the ten names, best first,
    tabs between. Give two folders (en.test.gold.v1.1.txt ..., prediction.en.txt ...) to score several
    languages: the overall figure is the mean over languages.

    Example: polclip score visual en.test.gold.v1.1.txt prediction.en.txt --json
    """
    from polclip.evaluation.score_files import score_visual_file

    with one_sentence():
        results = [score_visual_file(gold, path) for path in predictions]
        _print_scores("visual", results, gold, predictions, as_json, compare)


def _print_scores(
    task: str, results: list[dict], gold: Path, predictions: list[Path], as_json: bool, compare: bool
) -> None:
    from polclip.evaluation.compare_files import compare_with_first, comparison_table
    from polclip.evaluation.score_files import as_table

    if compare and len(predictions) < 2:
        raise UserError("--compare tests each prediction file against the first: give two or more.")
    if compare:
        for result, compared in zip(results, compare_with_first(task, gold, predictions), strict=True):
            result["compared"] = compared
    # A sentence about the gold is in every result, and is printed once.
    for warning in dict.fromkeys(warning for result in results for warning in result.get("warnings", [])):
        typer.echo(f"polclip: {warning}", err=True)
    if as_json:
        for result in results:
            typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        typer.echo(as_table(results) + (f"\n\n{comparison_table(results)}" if compare else ""))
