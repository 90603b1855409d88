"""The routes: the page with what it is made of, and the answers of a `Disambiguator` as JSON.

Whatever is asked ends in JSON: an answer of `polclip.answers`, or {"error": why} with a status of 400 or more.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jinja2
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from polclip.answers import Answer, as_plain
from polclip.disambiguator import Disambiguator
from polclip.serve import limits
from polclip.serve.limits import LOOPBACK, Guard, Hosts, Refused, Turns, arriving, limited
from polclip.serve.shown import ShownPictures, as_png_or_jpeg

PAGE = Path(__file__).parent / "page"
LOOPBACK_HOSTS = Hosts.of(LOOPBACK)
MOST_NEAREST = 20  # pictures of a sense, glosses of a picture
EXAMPLES = (  # a sentence, and the word to look at
    ("The bat flew out of the cave at dusk.", "bat"),
    ("He swung the bat and ran.", "bat"),
    ("A crane lifted the beams off the bank of the river.", "crane"),
    ("She moved the mouse over the picture and clicked.", "mouse"),
    ("The star of the film waved to her fans.", "star"),
)


@dataclass(frozen=True)
class Served:
    """What the routes answer from."""

    disambiguator: Disambiguator
    shown: ShownPictures
    name: str  # of the model, for people
    model: Turns  # one at a time: torch uses all its threads for each
    small: Turns  # pictures made small

    @property
    def imagines(self) -> bool:
        return self.shown.read.vectors is not None and self.disambiguator.model.settings.sig

    @property
    def describes(self) -> bool:
        return self.disambiguator.index is not None and self.disambiguator.model.settings.isg


def make_app(disambiguator: Disambiguator, shown: ShownPictures, name: str, hosts: Hosts = LOOPBACK_HOSTS) -> Starlette:
    """The whole of the server, for requests that call it by one of the `hosts`."""
    served = Served(disambiguator, shown, name, Turns(), Turns(at_once=2, waiting=200))
    app = Starlette(
        routes=[
            Route("/", page),
            Route("/pictures/{place}", picture),
            Route("/api/words", words, methods=["POST"]),
            Route("/api/senses", senses, methods=["POST"]),
            Route("/api/imagine", imagine, methods=["POST"]),
            Route("/api/images", images, methods=["POST"]),
            Route("/api/describe", describe, methods=["POST"]),
            Mount("/page", StaticFiles(directory=PAGE)),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={Refused: _refused, HTTPException: _no_such_thing, Exception: _failed},
    )
    app.state.served = served
    return app


# --- the page


def page(request: Request) -> HTMLResponse:
    served = _served(request)
    loader = jinja2.FileSystemLoader(PAGE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    html = environment.get_template("index.html.j2").render(
        served=served, model=served.disambiguator.model.settings, limits=limits, examples=EXAMPLES
    )
    return HTMLResponse(html, headers={"cache-control": "no-cache"})


async def picture(request: Request) -> Response:
    served, number = _served(request), request.path_params["place"]
    # Python refuses to read a number of thousands of digits.
    place = int(number) if re.fullmatch("[0-9]{1,9}", number) else len(served.shown.files)
    if place >= len(served.shown.files):
        raise HTTPException(404)
    async with served.small.place():
        found = await served.small.run(as_png_or_jpeg, served.shown.files[place])
    if found is None:
        raise HTTPException(404)
    return Response(found[0], media_type=found[1], headers={"cache-control": "max-age=3600"})


# --- answers


async def words(request: Request) -> Response:
    """The ambiguous words of a text: {"text"}."""
    return await _of_json(request, lambda served, asked: served.disambiguator.ambiguous_words(_text(asked)))


async def senses(request: Request) -> Response:
    """The senses of one word of a text: {"text", "target"}, and where known "pos" and "lemma"."""

    def answer(served: Served, asked: dict) -> Answer:
        target = asked.get("target")
        if isinstance(target, list) and len(target) == 2 and all(type(at) is int for at in target):
            target = tuple(target)
        elif not isinstance(target, str):
            raise Refused(400, '"target": a word of the text, or its characters as [start, end].')
        pos, lemma = (_optional(asked, name) for name in ("pos", "lemma"))
        return served.disambiguator.senses(_text(asked), target, pos, lemma)

    return await _of_json(request, answer)


async def imagine(request: Request) -> Response:
    """The pictures nearest to what the model imagines of a sense: {"sense_key"}, and "k"."""

    def answer(served: Served, asked: dict) -> dict:
        ranking = served.disambiguator.imagine(_string(asked, "sense_key"), _k(asked.get("k", 5)), served.shown.read)
        plain, places = as_plain(ranking), {image: at for at, image in enumerate(served.shown.read.images)}
        for image in plain["images"]:
            at = places[image["image"]]
            image |= {"name": served.shown.names[at], "url": f"/pictures/{at}"}
        return plain

    return await _of_json(request, answer)


async def images(request: Request) -> Response:
    """Pictures ranked by a phrase: a form with `phrase`, and where known `word` and `definition`, and `pictures`."""

    def answer(served: Served, form: FormData, files: list[UploadFile]) -> dict:
        phrase, word, definition = (_field(form, name) for name in ("phrase", "word", "definition"))
        given = [file.file for file in files]
        ranking = served.disambiguator.rank_images(word or phrase, phrase, given, definition or None, strict=True)
        return _with_places(as_plain(ranking), files)

    return await _of_form(request, answer)


async def describe(request: Request) -> Response:
    """What pictures say: a form with `pictures`, and `k`."""

    def answer(served: Served, form: FormData, files: list[UploadFile]) -> dict:
        k = _k(_field(form, "k") or 5)
        told = [as_plain(served.disambiguator.describe(file.file, k, strict=True)) for file in files]
        return {"pictures": [one | {"image": _name(files[at])} for at, one in enumerate(told)]}

    return await _of_form(request, answer)


async def _of_json(request: Request, answer: Callable[[Served, dict], Answer | dict]) -> Response:
    served = _served(request)
    async with served.model.place():
        async with arriving():
            body = await limited(request, limits.LARGEST_JSON).body()
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, "The request is no JSON in UTF-8.") from error
        if not isinstance(asked, dict):
            raise Refused(400, "The request is no JSON object.")
        return _as_json(await served.model.run(answer, served, asked))


async def _of_form(request: Request, answer: Callable[[Served, FormData, list[UploadFile]], dict]) -> Response:
    served = _served(request)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refused(400, "The request is no form with pictures (multipart/form-data).")
    async with served.model.place():
        async with arriving():
            whole = limited(request, limits.LARGEST_PICTURES)
            # One more than allowed, so that it is told in our words.
            form = await whole.form(max_files=limits.MOST_PICTURES + 1, max_fields=8, max_part_size=limits.LARGEST_JSON)
        async with _closing(form):
            files = [file for file in form.getlist("pictures") if isinstance(file, UploadFile)]
            if len(files) > limits.MOST_PICTURES:
                raise Refused(413, f"At most {limits.MOST_PICTURES} pictures at once.")
            return _as_json(await served.model.run(answer, served, form, files))


# --- parts of requests and answers


def _served(request: Request) -> Served:
    return request.app.state.served


def _text(asked: dict) -> str:
    text = _string(asked, "text")
    if len(text) > limits.LONGEST_TEXT:
        raise Refused(413, f"The text has {len(text):,} characters; at most {limits.LONGEST_TEXT:,} are read here.")
    return text


def _string(asked: dict, name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise Refused(400, f'"{name}" is missing, or no text.')
    return value


def _optional(asked: dict, name: str) -> str | None:
    return None if asked.get(name) is None else _string(asked, name)


def _field(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def _k(value: object) -> int:
    try:
        return min(max(int(value), 1), MOST_NEAREST)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(400, '"k" is no number.') from error


def _name(file: UploadFile) -> str:
    return (file.filename or "")[:200]


def _with_places(ranking: dict, files: list[UploadFile]) -> dict:
    """Pictures by the names that they were sent with, which may be alike, and their places among those sent."""
    for one in ranking["images"] + ranking["skipped"]:
        at = int(one["image"].removeprefix("picture ")) - 1
        one |= {"image": _name(files[at]), "place": at}
    return ranking


def _as_json(answer: Answer | dict, status: int = 200, headers: dict | None = None) -> Response:
    plain = answer if isinstance(answer, dict) else as_plain(answer)
    # In ASCII, since a text may hold what UTF-8 cannot.
    return Response(json.dumps(plain), status, {"cache-control": "no-store", **(headers or {})}, "application/json")


class _closing:
    """The temporary files of a form, until it is answered."""

    def __init__(self, form: FormData) -> None:
        self.form = form

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None:
        await self.form.close()


# --- errors


async def _refused(_: Request, error: Refused) -> Response:
    headers = {"retry-after": "1"} if error.status == 503 else {}
    return _as_json({"error": error.why}, error.status, headers)


async def _no_such_thing(_: Request, error: HTTPException) -> Response:
    return _as_json({"error": str(error.detail)}, error.status_code, dict(error.headers or {}))


async def _failed(_: Request, error: Exception) -> Response:
    return _as_json({"error": "Something went wrong; where the server was started its log says what."}, 500)
