"""The command `polclip`."""

import typer

from polclip.cli import check, senses, serve, sights
from polclip.cli.score import score

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # brackets in the help are meant as such
    help="Word sense disambiguation with text and pictures, after PolCLIP.",
)
app.command("senses")(senses.senses)
app.command("images")(sights.images)
app.command("imagine")(sights.imagine)
app.command("describe")(sights.describe)
app.command("index")(sights.index)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.add_typer(score, name="score")
