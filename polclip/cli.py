"""The command `polclip`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from polclip.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # brackets in the help are meant as such
    help="Word sense disambiguation with text and pictures, after PolCLIP.",
)
score = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Score prediction files as the official scorers do."
)
app.add_typer(score, name="score")

Gold = Annotated[Path, typer.Argument(metavar="GOLD", help="Gold file (visual: or folder, a file a language).")]
Predictions = Annotated[list[Path], typer.Argument(metavar="PRED", help="Prediction files (visual: or folders).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a prediction file, one a line.")]


@contextmanager
def _one_sentence() -> Iterator[None]:
    """End with exit code 2 and the message alone when the user can mend what went wrong."""
    try:
        yield
    except UserError as error:
        typer.echo(f"polclip: {error}", err=True)
        raise typer.Exit(2) from error


@score.command()
def textual(gold: Gold, predictions: Predictions, as_json: AsJson = False) -> None:
    """Textual disambiguation: F1, precision and recall.

    Gold and predictions hold a line an instance: `instance_id sense_key [sense_key ...]`, spaces between.
    Leave an unanswered instance out: it lowers recall, not precision. Senses are sense keys of WordNet 3.0,
    or BabelNet ids in both files.

    Example: polclip score textual ALL.gold.key.txt results/paper/predictions/main/seed-42/ALL.key.txt
    """
    from polclip.evaluation.score_files import score_textual_file

    _print_scores(score_textual_file, gold, predictions, as_json)


@score.command()
def visual(gold: Gold, predictions: Predictions, as_json: AsJson = False) -> None:
    """Visual disambiguation: HR@1 and MRR.

    Gold holds the name of one picture a line; predictions hold in the same order the ten names, best first,
    tabs between. Give two folders (en.test.gold.v1.1.txt ..., prediction.en.txt ...) to score several
    languages: the overall figure is the mean over languages.

    Example: polclip score visual en.test.gold.v1.1.txt prediction.en.txt --json
    """
    from polclip.evaluation.score_files import score_visual_file

    _print_scores(score_visual_file, gold, predictions, as_json)


def _print_scores(score_file: Callable[[Path, Path], dict], gold: Path, predictions: list[Path], as_json: bool) -> None:
    from polclip.evaluation.score_files import as_table

    with _one_sentence():
        results = [score_file(gold, path) for path in predictions]
    if as_json:
        for result in results:
            typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        typer.echo(as_table(results))


if __name__ == "__main__":
    sys.exit(app())
