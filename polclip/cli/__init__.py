"""The command `polclip`."""

import os
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from polclip import __version__
from polclip.cli import check, senses, serve, sights
from polclip.cli.score import score


class Commands(TyperGroup):
    """The commands of `polclip`; a reader that closes the pipe early, as `head` does, has what it wanted."""

    def invoke(self, context: typer.Context) -> object:
        try:
            return super().invoke(context)
        except BrokenPipeError:
            # Python flushes stdout at its end, which would print a second error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"polclip {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # brackets in the help are meant as such
    help="Word sense disambiguation with text and pictures, after PolCLIP.",
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("senses")(senses.senses)
app.command("images")(sights.images)
app.command("imagine")(sights.imagine)
app.command("describe")(sights.describe)
app.command("index")(sights.index)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.add_typer(score, name="score")
