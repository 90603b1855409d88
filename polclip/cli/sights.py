"""`polclip images`, `imagine`, `describe`, `index`: a model's pictures of words and words for pictures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polclip.cli.common import (
    Archives,
    AsJson,
    Cache,
    Device,
    Mirror,
    Model,
    Offline,
    finish,
    one_sentence,
    opened,
    prints_utf8,
)

if TYPE_CHECKING:
    from polclip.disambiguator import Disambiguator
    from polclip.reading import PictureSet

Pictures = Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Files, or one folder of pictures.")]
HowMany = Annotated[int, typer.Option("-k", min=1, metavar="K", help="How many to print, best first.")]


def images(
    model: Model,
    word: Annotated[str, typer.Argument(metavar="WORD", help="The ambiguous word.")],
    phrase: Annotated[str, typer.Argument(metavar="PHRASE", help='The word with a cue: "bat mammal".')],
    pictures: Pictures,
    definition: Annotated[str | None, typer.Option(metavar="TEXT", help="Of what is meant, where you know it.")] = None,
    as_json: AsJson = False,
    archives: Archives = None,
    cache: Cache = None,
    mirror: Mirror = None,
    offline: Offline = False,
    device: Device = "cpu",
) -> None:
    """Rank pictures by how well they show what a word means in a phrase.

    Pictures that cannot be used are told with the reason (with --json under "skipped"). Exit code 1: none can.

    Example: polclip images bat "bat mammal" a.png b.jpg --model results/demo/models/main/seed-42
    """
    with one_sentence():
        disambiguator = opened(model, archives, cache, mirror, offline, device)
        answer = disambiguator.rank_images(word, phrase, _read(disambiguator, pictures), definition)
        _print_images(answer, as_json)


def imagine(
    model: Model,
    sense_key: Annotated[str, typer.Argument(metavar="SENSE_KEY", help="A sense of WordNet 3.0: bat%1:05:00::")],
    pictures: Pictures,
    k: HowMany = 5,
    as_json: AsJson = False,
    archives: Archives = None,
    cache: Cache = None,
    mirror: Mirror = None,
    offline: Offline = False,
    device: Device = "cpu",
) -> None:
    """Find the pictures nearest to what the model imagines of a sense: SIG's implicit image of its gloss.

    For pictures of a run (results/NAME/pictures, or a style in it) the features that the run stored are used.

    Example: polclip imagine bat%1:05:00:: results/demo/pictures/noto --model results/demo/models/main/seed-42
    """
    with one_sentence():
        disambiguator = opened(model, archives, cache, mirror, offline, device)
        _print_images(disambiguator.imagine(sense_key, k, _read(disambiguator, pictures)), as_json)


def describe(
    model: Model,
    pictures: Pictures,
    k: HowMany = 5,
    as_json: AsJson = False,
    archives: Archives = None,
    cache: Cache = None,
    mirror: Mirror = None,
    offline: Offline = False,
    device: Device = "cpu",
) -> None:
    """Find the glosses nearest to what the model reads in a picture: ISG's implicit gloss, among all of WordNet.

    The glosses of the model have to be indexed, once: polclip index --model FOLDER, or snakemake index. An answer a
    picture; exit code 1: none could be described.

    Example: polclip describe bat.png --model results/demo/models/main/seed-42
    """
    from polclip.reading import files_of

    with one_sentence():
        disambiguator = opened(model, archives, cache, mirror, offline, device)
        answered = False
        for file in (file for given in pictures for file in files_of(given)):
            answer = disambiguator.describe(file, k)
            answered = answered or answer.reason is None
            if as_json:
                _print_json(answer)
                continue
            typer.echo(f"{answer.image}" + (f": {answer.reason}" if answer.reason else ""))
            for one in answer.glosses:
                typer.echo(f"  {one.score:6.3f}  {', '.join(one.lemmas).replace('_', ' ')}: {one.gloss}")
        finish(answered)


def index(
    model: Model,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to; unless given into the cache, where it is found.")
    ] = None,
    archives: Archives = None,
    cache: Cache = None,
    mirror: Mirror = None,
    offline: Offline = False,
    device: Device = "cpu",
) -> None:
    """Compute the vectors of all 117,659 glosses of WordNet once: describe needs them, senses starts to answer sooner.

    Minutes on a laptop; some hundred MB of disk, of which what is asked for is read. For models of a run:
    snakemake index --cores 2 --configfile presets/demo.yaml
    """
    with one_sentence():
        typer.echo(opened(model, archives, cache, mirror, offline, device).build_index(output))


def _read(disambiguator: "Disambiguator", pictures: list[Path]) -> "PictureSet":
    """Pictures for questions; those of a run by their stored features."""
    if len(pictures) > 1:
        return disambiguator.read_pictures(pictures)
    from polclip.stored_pictures import pictures_of

    return pictures_of(disambiguator, pictures[0])


def _print_images(answer, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
    else:
        for one in answer.images:
            typer.echo(f"{one.probability:6.1%}  {one.score:6.3f}  {one.image}")
        for one in answer.skipped:
            typer.echo(f"skipped  {one.image}: {one.reason}", err=True)
        if answer.reason:
            typer.echo(f"{answer.query}: {answer.reason}", err=True)
    finish(answer.reason is None)


def _print_json(answer) -> None:
    from polclip.answers import as_plain

    typer.echo(json.dumps(as_plain(answer), ensure_ascii=not prints_utf8()))
