"""`polclip serve`: a page on this machine to try a model with."""

import socket
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polclip.cli.common import Archives, Cache, Device, Mirror, Model, Offline, one_sentence, opened
from polclip.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from polclip.serve.limits import Hosts


def serve(
    model: Model,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures to show beside senses: a folder of them, or the results of a run, whose pictures and stored "
            "features are taken. Unless given: those of the run that the model lies in.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 lets everyone in who reaches this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name by which browsers may call this server, such as that of a proxy; may be given again. "
            "Always allowed: localhost, and with --host also this machine's name and its addresses.",
        ),
    ] = None,
    archives: Archives = None,
    cache: Cache = None,
    mirror: Mirror = None,
    offline: Offline = False,
    device: Device = "cpu",
) -> None:
    """Try a model in a browser: senses of the words of a sentence with the pictures that the model imagines of them,
    and pictures of your own, ranked by a phrase and described.

    Pictures are described where the glosses are indexed (polclip index). Nothing that is sent is kept or logged.
    At most 5,000 characters of text, 20 pictures and 50 MB a request, 16 requests at a time, 200 connections.

    What the page asks, anything else may ask too. Bodies are JSON or (f) forms as curl -F sends them; answers are those
    of the commands with --json. A status of 400 or more comes with {"error": why}; 503 says: try again in a moment.

    \b
    POST /api/words     {"text"}                              words with two senses or more
    POST /api/senses    {"text", "target", "pos", "lemma"}    target: a word, or its characters [start, end]
    POST /api/imagine   {"sense_key", "k"}                    each picture with its "url"
    POST /api/images    (f) phrase, word, pictures...         ranked; "place" counts the pictures as sent, from 0
    POST /api/describe  (f) pictures..., k                    {"pictures": [glosses of each]}

    \b
    Examples:
    polclip serve --model results/demo/models/main/seed-42
    curl localhost:8000/api/senses -d '{"text": "The bat flew off", "target": "bat"}'
    curl localhost:8000/api/images -F word=bat -F "phrase=bat mammal" -F pictures=@a.png -F pictures=@b.png
    """
    with one_sentence():
        listening = _listening(host, port)  # before the model is read, which takes longer
        disambiguator = opened(model, archives, cache, mirror, offline, device)
        from polclip.serve.app import make_app
        from polclip.serve.shown import shown_pictures

        shown = shown_pictures(disambiguator, model, pictures)
        # What is missing is to be said now, and the first answer to come as soon as the others.
        disambiguator.senses("a bat", "bat")
        _ = disambiguator.reader.image_encoder, disambiguator.lemmas
    own = listening.getsockname()
    app = make_app(disambiguator, shown, "/".join(model.resolve().parts[-2:]), _hosts(host, own, allow_host or []))
    listening.listen(128)
    typer.echo(f"{_address(own)}  (Ctrl-C ends it)")
    _run(app, listening)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that others cannot take any more."""
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}). Give another port: --port 0 takes a "
            "free one."
        ) from error
    return listening


def _address(own: tuple) -> str:
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(own[0], own[0])
    return f"http://{f'[{host}]' if ':' in host else host}:{own[1]}/"


def _hosts(host: str, own: tuple, allowed: list[str]) -> "Hosts":
    """By which names the server may be called; warns where others than this machine reach it."""
    from polclip.serve.limits import LOOPBACK, Hosts

    if ip_address(own[0].partition("%")[0]).is_loopback:
        return Hosts.of([*LOOPBACK, own[0], *allowed])
    names = [*LOOPBACK, socket.gethostname(), socket.getfqdn(), *allowed]
    if own[0] not in ("0.0.0.0", "::"):
        names.append(host)
    names = list(dict.fromkeys(names))
    typer.echo(
        f"Warning: everyone who reaches {own[0]} can use this page; it asks for no password and does not encrypt. "
        f"Browsers may call it by an IP address, {', '.join(names)}. Allow other names with --allow-host NAME.",
        err=True,
    )
    return Hosts.of(names, addresses=True)


def _run(app: "Starlette", listening: socket.socket) -> None:
    import uvicorn

    from polclip.serve.connections import server_config

    try:
        uvicorn.Server(server_config(app)).run(sockets=[listening])
    except KeyboardInterrupt:
        typer.echo("")
