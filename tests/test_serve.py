"""What `polclip serve` answers and refuses, asked over HTTP as anything may ask it."""

import io
import json
import re
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
import requests
from PIL import Image
from served_run import copy_of, memory_mb, served_here
from starlette.requests import Request
from test_cli_senses import rounded
from test_malformed_pictures import NOISE, png, written
from tiny_project import CONCEPTS, STYLES
from typer.testing import CliRunner

from polclip.answers import Reason, as_plain
from polclip.cli import app as command
from polclip.cli.serve import _hosts
from polclip.errors import UserError
from polclip.files import read_json, write_json
from polclip.records import Picture, read_records
from polclip.serve import limits, shown
from polclip.serve.app import make_app
from polclip.serve.limits import Refused, Turns

BAT = CONCEPTS[0].sense_key


@pytest.fixture
def run(run_in_use):
    return run_in_use


@pytest.fixture
def server(page_server):
    return page_server


@pytest.fixture
def ask(server):
    """POST to the interface: the status and the JSON of the answer."""

    def ask(name, asked=None, files=(), **fields):
        body = {"json": asked} if asked is not None else {"data": fields, "files": [("pictures", one) for one in files]}
        answer = requests.post(f"{server.url}/api/{name}", **body, timeout=60)
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code, answer.json()

    return ask


def pictures_of(run, count=3):
    return [(path.name, path.read_bytes()) for path in run.pictures[:count]]


# --- answers


def test_answers_are_those_of_the_commands(run, ask):
    text = "we saw the bat of the cave"
    expected = as_plain(run.opened.senses(text, "bat"))
    for target in ("bat", [11, 14]):
        assert rounded(ask("senses", {"text": text, "target": target})) == [200, rounded(expected)]
    lemma = {"text": "it flew", "target": "it", "lemma": "bat", "pos": "n"}
    assert {sense["lemma"] for sense in ask("senses", lemma)[1]["words"][0]["senses"]} == {"bat"}

    status, ranking = ask("images", word="bat", phrase="bat cave", files=pictures_of(run, 10))
    expected = run.opened.rank_images("bat", "bat cave", run.pictures[:10])
    assert status == 200 and len(ranking["images"]) == 10
    assert [one["image"] for one in ranking["images"]] == [image.image.rpartition("/")[2] for image in expected.images]
    names = [path.name for path in run.pictures]
    assert [one["place"] for one in ranking["images"]] == [names.index(one["image"]) for one in ranking["images"]]
    assert rounded([one["probability"] for one in ranking["images"]]) == rounded(
        [image.probability for image in expected.images]
    )

    status, told = ask("describe", files=pictures_of(run, 2), k=3)
    for one, path in zip(told["pictures"], run.pictures[:2], strict=True):
        assert rounded(one) == rounded(as_plain(run.opened.describe(path, 3)) | {"image": path.name})


def test_imagined_are_pictures_of_the_run_by_its_stored_features(run, ask, server):
    status, answer = ask("imagine", {"sense_key": BAT, "k": 4})
    # The same pictures run through the image encoder now; stored features are rounded to 16 bits.
    fresh = run.opened.imagine(BAT, 1000, run.results / "pictures")
    scores = {f"{Path(one.image).parent.name}:{Path(one.image).stem}": one.score for one in fresh.images}
    told = [one["score"] for one in answer["images"]]
    assert status == 200 and told == pytest.approx(sorted(scores.values(), reverse=True)[:4], abs=2e-3)
    assert told == pytest.approx([scores[one["image"]] for one in answer["images"]], abs=2e-3)
    first = answer["images"][0]
    (table,) = run.results.glob(f"pictures/{first['image'].partition(':')[0]}.parquet")
    (name,) = [one.name for one in read_records(table, Picture) if one.picture_id == first["image"]]
    assert first["name"] == name.replace("-", " ")
    seen = requests.get(server.url + first["url"], timeout=60)
    assert seen.headers["content-type"] == "image/png" and Image.open(io.BytesIO(seen.content)).size == (64, 64)
    assert ask("imagine", {"sense_key": "bat%9:99:99::"})[1]["reason"] == "there is no such sense key in WordNet"


def test_ambiguous_words_are_found_and_counted(run, ask):
    text = "\U0001f987 The bats\u202e, \ud800 a STAR and an animal"
    status, answer = ask("words", {"text": text})
    assert status == 200 and answer == rounded(as_plain(run.opened.ambiguous_words(text)))
    assert [(text[one["start"] : one["end"]], one["senses"]) for one in answer["words"]] == [("bats", 2), ("STAR", 2)]
    assert ask("words", {"text": "of an animal"})[1]["reason"].startswith("no word of the text has two senses")
    assert ask("words", {"text": " "})[1]["reason"] == "the text is empty"


# --- refusals


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("words", b"{", 400, "no JSON"),
        ("words", b"\xff\xfe{}", 400, "no JSON"),
        ("words", b"[" * 50_000, 400, "no JSON"),
        ("words", b"[]", 400, "no JSON object"),
        ("words", b"{}", 400, '"text" is missing'),
        ("words", b'{"text": ["bat"]}', 400, '"text" is missing, or no text'),
        ("senses", b'{"text": "a bat"}', 400, '"target": a word'),
        ("senses", b'{"text": "a bat", "target": [1]}', 400, '"target": a word'),
        ("senses", b'{"text": "a bat", "target": "bat", "pos": 1}', 400, '"pos" is missing, or no text'),
        ("imagine", b'{"sense_key": "bat%1:05:00::", "k": "x"}', 400, '"k" is no number'),
        ("imagine", b'{"sense_key": "bat%1:05:00::", "k": 1e999}', 400, '"k" is no number'),
        ("images", b"word=bat", 400, "no form with pictures"),
        ("words", json.dumps({"text": "x" * 5_001}).encode(), 413, "5,001 characters; at most 5,000"),
        ("words", b'{"text": "' + b"bat " * 250_000 + b'"}', 413, "at most 100 kB"),
        ("nothing", b"{}", 404, "Not Found"),
    ],
)  # fmt: skip
def test_wrong_requests_are_told_why(server, name, body, status, message):
    answer = requests.post(f"{server.url}/api/{name}", body, timeout=60)
    assert answer.status_code == status and message in answer.json()["error"]


def test_a_body_of_unknown_length_ends_where_it_is_too_large(server):
    def pieces():
        for _ in range(2_000):
            yield b"x" * 100_000

    before = memory_mb(server.process)
    with suppress(requests.ConnectionError):  # the server may have hung up first
        assert requests.post(f"{server.url}/api/words", pieces(), timeout=60).status_code == 413
    assert requests.get(server.url, timeout=60).ok and memory_mb(server.process) - before < 50


def test_forms_that_are_broken_or_too_large_are_refused(run, server, ask):
    url = f"{server.url}/api/images"
    broken = requests.post(url, b"--x\r\n", headers={"content-type": "multipart/form-data; boundary=y"}, timeout=60)
    assert broken.status_code == 400 and broken.json()["error"]
    assert ask("images", word="bat", files=pictures_of(run, 1) * 21) == (413, {"error": "At most 20 pictures at once."})
    assert ask("images", word="bat", files=pictures_of(run, 1) * 40)[0] == 400
    status, answer = ask("images", word="bat", files=[("large.png", b"x" * 50_000_001)])
    assert status == 413 and "at most 50,000 kB" in answer["error"]
    status, answer = ask("images", word="x" * 50_000, files=pictures_of(run, 1))
    assert (status, answer["reason"]) == (200, str(Reason.PHRASE_TOO_LONG))
    assert ask("images", phrase=" ", files=pictures_of(run, 1))[1]["reason"] == "the text is empty"
    assert ask("images", word="bat", files=[("none", b"")])[1]["reason"] == "none of the pictures can be read"


def test_only_this_machines_pages_may_ask(server):
    def status(**headers):
        return requests.post(f"{server.url}/api/words", json={"text": "a bat"}, headers=headers, timeout=60).status_code

    assert status(Host="evil.example") == status(Host="127.0.0.1.evil.example:80") == status(Host="192.0.2.1") == 400
    assert status(Host="localhost:9999") == status(Host="[::1]:80") == status(Origin=server.url) == 200
    assert status(Host="LOCALHOST") == status(Host="localhost.") == 200
    assert status(Origin="http://evil.example") == status(Origin="null") == 403
    host = server.url.removeprefix("http://")
    for odd in (
        "http://[::1",
        "http://[x]",
        "//",
        "::",
        "http://\xe9",
        f"ftp://{host}",
        host,
        f"http://evil@{host}",
        "",
    ):
        assert status(Origin=odd.encode("latin-1")) == 403, odd
    for odd in (
        "[::1",
        "[x]:80",
        "localhost:x",
        "localhost:80:80",
        "a@localhost",
        "localhost/x",
        "\xe9",
        "localhost:999999",
    ):
        assert status(Host=odd.encode("latin-1")) == 400, odd


def test_listening_for_others_allows_its_names_and_addresses_and_warns(capsys):
    hosts = _hosts("0.0.0.0", ("0.0.0.0", 8000), ["proxy.example"])
    assert "everyone who reaches 0.0.0.0" in (said := capsys.readouterr().err) and "--allow-host" in said
    for name in (socket.gethostname(), "localhost:8000", "192.0.2.7:8000", "[2001:db8::1]", "Proxy.Example"):
        assert hosts.allow(name), name
    for name in ("evil.example", "192.0.2.7.evil.example", "", None):
        assert not hosts.allow(name), name
    alone = _hosts("127.0.0.1", ("127.0.0.1", 8000), ["proxy.example"])
    assert capsys.readouterr().err == "" and alone.allow("proxy.example:80") and not alone.allow("192.0.2.7")
    assert alone.allow("127.0.0.1:8000") and not alone.allow(socket.gethostname() + ".example")


ODD_PATHS = (
    "/pictures/99999999999999999999", "/pictures/" + "9" * 5_000, "/pictures/x", "/pictures/%00", "/pictures/-1",
    "/pictures/%D9%A1", "/pictures/1.5", "/page/%00", "/page/" + "a" * 3_000, "/page/%ff", "//", "/%2e%2e/%2e%2e/x",
)  # fmt: skip


def raw(server, *lines, body=b""):
    """The status of the answer to a request written by hand; 0 where the server hangs up."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = b"\r\n".join(line.encode("latin-1") for line in lines)
        connection.sendall(head + b"\r\n\r\n" + body)
        answer = connection.recv(100)
    return int(answer.split()[1]) if answer else 0


@pytest.mark.parametrize("path", ODD_PATHS)
def test_odd_addresses_are_not_found(server, path):
    assert raw(server, f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close") == 404


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: " + "9" * 5_000,), ("Content-Length: x",), ("Content-Length: -1",),
        ("Content-Length: 5", "Content-Type: multipart/form-data"),
        ("Content-Length: 5", "Content-Type: multipart/form-data; boundary="),
        ("Content-Length: 5", "Content-Type: multipart/form-data; boundary=\xe9\xff"),
        ("Content-Length: 5", "Content-Type: multipart/form-data; boundary=" + "x" * 10_000),
        ("Host: other", "Content-Length: 0"), ("X: " + "x" * 100_000, "Content-Length: 0"),
    ],
)  # fmt: skip
def test_odd_headers_are_refused(server, headers):
    status = raw(server, "POST /api/images HTTP/1.1", "Host: localhost", "Connection: close", *headers, body=b"--x--")
    assert 400 <= status < 500


def test_a_form_in_an_unknown_encoding_is_no_failure(server):
    form = ("Content-Length: 5", "Content-Type: multipart/form-data; boundary=x; charset=none")
    assert raw(server, "POST /api/images HTTP/1.1", "Host: localhost", "Connection: close", *form, body=b"--x--") == 200


ODD_TEXTS = ("", "\0", "\ud800", "\ud800\udc00", "%" * 50, "x" * 90_000)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        *(("imagine", {"sense_key": key}) for key in (*ODD_TEXTS, "bat%1:05:00", "../x", None, 5, [], {}, True)),
        *(("imagine", {"sense_key": BAT, "k": k}) for k in (0, -5, 10**30, "7", "x", None, [], {}, 1.5, True)),
        *(("senses", {"text": "a bat", "target": at}) for at in ([-1, 2], [2, 1], [0, 10**30], [5, 5], [1.0, 2])),
        *(("senses", {"text": "a bat", "target": at}) for at in (*ODD_TEXTS, {}, None, True, ["bat"], [0, True])),
        *(("senses", {"text": "a bat", "target": "bat", "pos": pos}) for pos in ODD_TEXTS),
        *(("senses", {"text": "a bat", "target": "bat", "lemma": it}) for it in ODD_TEXTS),
        *(("words", {"text": text}) for text in (*ODD_TEXTS, None, 5)),
    ],
    ids=lambda one: repr(one)[:60],
)  # fmt: skip
def test_odd_ids_and_targets_get_a_reason_and_never_500(ask, name, asked):
    status, answer = ask(name, asked)
    assert status == 200 or (400 <= status < 500 and answer["error"])


@pytest.mark.parametrize(
    "fields", [{"k": "x"}, {"k": "9" * 5_000}, {"k": "nan"}, {"k": "\0"}, {"k": "\u0661"}], ids=str
)
def test_odd_fields_of_forms_are_no_failure(run, ask, fields):
    assert ask("describe", files=pictures_of(run, 1), **fields)[0] in (200, 400)


# --- connections


def half_sent(url, count, sent=b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
    """Connections whose headers never end."""
    host, port = url.removeprefix("http://").split(":")
    found = []
    for _ in range(count):
        found.append(socket.create_connection((host, int(port)), timeout=60))
        found[-1].sendall(sent)
    return found


def test_six_hundred_half_sent_requests_do_not_shut_the_page(server):
    held = half_sent(server.url, 600)
    try:
        assert requests.get(server.url, timeout=60).ok
        assert len(server.process.net_connections()) <= limits.MOST_CONNECTIONS + 2
        assert requests.post(f"{server.url}/api/words", json={"text": "a bat"}, timeout=60).ok
    finally:
        for connection in held:
            connection.close()


def test_headers_that_do_not_arrive_end_the_connection(run, monkeypatch):
    monkeypatch.setattr(limits, "LONGEST_HEADERS", 0.2)
    with served_here(make_app(run.opened, shown.NOTHING, "model")) as url:
        whole = b"GET /page/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n"
        # Nothing at all; a part; a whole request, and a part of another.
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", whole + b"GET / HTTP/1.1\r\nHost:"):
            (connection,) = half_sent(url, 1, sent)
            with connection, connection.makefile("rb") as received:
                answer = received.read()
            assert answer.count(b"HTTP/1.1 408") == 1 and answer.count(b"HTTP/1.1 200") == (whole in sent)
        assert requests.get(f"{url}/page/icon.svg", timeout=60).ok


def test_nothing_but_the_pages_own_files_and_pictures_is_served(run, server):
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/pictures/999", "/pictures/-1", "/x"):
        answer = requests.Request("GET", server.url).prepare()
        answer.url = server.url + path
        with requests.Session() as session:
            found = session.send(answer, timeout=60)
        assert found.status_code == 404 and set(found.json()) == {"error"}, path
    page = requests.get(server.url, timeout=60)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff" and "server" not in page.headers
    assert not re.search(r"<style|\son\w+=|\sstyle=|<script(?![^>]*src=\"/)|https?://", page.text)
    assert str(run.results.parent) not in page.text


def test_a_failure_inside_tells_the_caller_nothing_of_it():
    def fail(_):
        raise RuntimeError("/secret/place")

    told = []

    async def request():
        messages = iter([{"type": "http.request", "body": b'{"text": "a"}', "more_body": False}])
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/api/words", "headers": headers, "query_string": b""}

        async def receive():
            return next(messages)

        async def send(message):
            told.append(message)

        app = make_app(SimpleNamespace(ambiguous_words=fail), shown.NOTHING, "model")
        with pytest.raises(RuntimeError):  # for the server's log
            await app(scope, receive, send)

    anyio.run(request)
    assert told[0]["status"] == 500 and b"secret" not in told[1]["body"] and b"its log" in told[1]["body"]


# --- hostile and many


HOSTILE = {
    "control characters": "\x00\x01 the\x07 bat \x1b[31m flew\x7f",
    "right to left": "\u202e\u05d4\u05e2\u05d8\u05dc\u05e3 bat \u0639\u0637\u0641\u202c",
    "emoji": "\U0001f469\u200d\U0001f467 bat \U0001f987",
    "lone surrogates": "a \ud800 bat \udfff",
    "markup": "<script>alert(1)</script> bat &amp;",
    "a word without end": "bat " + "x" * 4_900,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_answered(ask, text):
    status, answer = ask("words", {"text": text})
    assert status == 200 and answer["text"] == text
    (bat,) = [word for word in answer["words"] if word["target"] == "bat"]
    status, answer = ask("senses", {"text": text, "target": [bat["start"], bat["end"]]})
    assert status == 200 and len(answer["words"][0]["senses"]) == 2


def bombs():
    """Small files of very many pixels, and what is no picture."""
    large = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(large, "PNG")
    return [
        ("bomb.png", large.getvalue()),
        ("claims.png", png(60_000, 60_000, 8, 2, b"")),
        ("program.png", b"\x7fELF" + bytes(range(256)) * 400),
        ("../../escape.png", b"MZ" + bytes(1_000_000)),
        ("cut.png", large.getvalue()[:500]),
        # What the workflow reads of its corpora: by halves, and scaled down.
        ("half.jpg", written("JPEG", NOISE)[:2000]),
        ("sixty.png", written("PNG", Image.new("1", (10_000, 6_000)))),
    ]


def test_hostile_pictures_are_left_out_with_the_reason_and_cost_no_memory(run, ask, server):
    before = memory_mb(server.process)
    files = [*bombs(), ("good.png", run.pictures[0].read_bytes())]
    for _ in range(3):
        status, answer = ask("images", word="bat", phrase="bat cave", files=files)
        assert status == 200 and [one["image"] for one in answer["images"]] == ["good.png"]
        assert [(one["image"], one["reason"]) for one in answer["skipped"]] == [
            ("bomb.png", "too large"), ("claims.png", "too large"), ("program.png", "cannot be decoded"),
            ("../../escape.png", "cannot be decoded"), ("cut.png", "too large"),
            ("half.jpg", "cannot be decoded"), ("sixty.png", "too large"),
        ]  # fmt: skip
    described = ask("describe", files=[files[0], files[5]])[1]["pictures"]
    assert [one["reason"] for one in described] == ["too large", "cannot be decoded"]
    largest = io.BytesIO()
    Image.new("L", (7_000, 7_000)).save(largest, "PNG")  # just what is allowed
    for _ in range(3):
        assert len(ask("images", word="bat", files=[("p.png", largest.getvalue())] * 2)[1]["images"]) == 2
    assert memory_mb(server.process) - before < 600


def test_a_hundred_at_once_are_answered_or_told_to_come_again(run, ask, server):
    before, files = memory_mb(server.process), [("noise.png", bytes(5_000_000)), *pictures_of(run, 2)]
    with ThreadPoolExecutor(100) as many:
        texts = many.map(lambda at: ask("senses", {"text": f"bat {at}", "target": "bat"}), range(100))
        for status, answer in [*texts, *many.map(lambda _: ask("images", word="bat", files=files), range(100))]:
            assert status == 200 or (status == 503 and "try again" in answer["error"])
    assert ask("words", {"text": "a bat"})[0] == 200
    assert memory_mb(server.process) - before < 400


def test_who_comes_when_many_wait_is_refused_at_once_and_who_waits_too_long_later():
    async def seen():
        turns, refused = Turns(waiting=2, longest=0.1), []

        async def one(seconds):
            try:
                async with turns.place():
                    await turns.run(time.sleep, seconds)
            except Refused as error:
                refused.append((seconds, error.status))

        async with anyio.create_task_group() as group:
            for seconds in (0.3, 0.2, 0.1):
                group.start_soon(one, seconds)
        async with turns.place():
            assert await turns.run(lambda: 5) == 5
        return refused

    assert anyio.run(seen) == [(0.1, 503), (0.2, 503)]


def test_a_request_that_does_not_arrive_is_ended(monkeypatch):
    monkeypatch.setattr(limits, "LONGEST_SENDING", 0.05)

    async def read():
        request = Request({"type": "http", "method": "POST", "headers": []}, anyio.sleep_forever)
        async with limits.arriving():
            await limits.limited(request, 10).body()

    with pytest.raises(Refused, match="did not arrive") as error:
        anyio.run(read)
    assert error.value.status == 408


# --- which pictures are shown


def test_a_finished_run_shows_its_pictures_and_four_of_its_hard_queries(run):
    ids = {p.picture_id for style in STYLES for p in read_records(run.results / f"pictures/{style}.parquet", Picture)}
    assert set(run.shown.read.images) == ids - set(run.broken.values()) and len(ids) == 3 * len(CONCEPTS)
    assert all(file.is_file() for file in run.shown.files)
    hard = {(query.word, query.phrase): query.candidates for query in run.queries}
    assert len({query.word for query in run.shown.queries}) == 4
    for query in run.shown.queries:
        assert [run.shown.read.images[place] for place in query.places] == hard[query.word, query.phrase]
    given = shown.shown_pictures(run.opened, run.archives, run.results)  # a model elsewhere
    assert (given.files, given.queries) == (run.shown.files, run.shown.queries)


def test_a_folder_of_pictures_shows_what_a_run_shows(run):
    of_folder = shown.shown_pictures(run.opened, run.model, run.results / "pictures" / "emojione")
    assert of_folder.files == tuple(run.pictures) and of_folder.queries == ()
    assert (of_folder.read.images[3], of_folder.names[3]) == ("1F003.png", "1F003")
    places = [run.shown.read.images.index(f"emojione:{path.stem}") for path in run.pictures]
    difference = (of_folder.read.vectors.plain - run.shown.read.vectors.plain[places]).abs().max()
    assert difference < 2e-3


def test_a_model_outside_of_any_run_shows_nothing_and_says_so(run, capsys):
    assert shown.shown_pictures(run.opened, run.archives, None) == shown.NOTHING
    assert "Give --pictures FOLDER" in capsys.readouterr().err


def test_of_very_many_pictures_a_sample_is_shown_with_those_of_the_queries(run, monkeypatch, capsys):
    monkeypatch.setattr(shown, "MOST", 45)
    some = shown.shown_pictures(run.opened, run.model, None)
    assert len(some.read.images) == len(some.files) == 45 and len(set(some.files)) == 45
    assert [asked(some, query) for query in some.queries] == [asked(run.shown, query) for query in run.shown.queries]
    assert f"45 of {len(run.shown.files)} pictures are shown" in capsys.readouterr().err


def asked(pictures, query):
    return query.phrase, [pictures.read.images[place] for place in query.places]


def test_pictures_of_the_report_s_size_are_sent_as_they_are_and_large_ones_small(tmp_path):
    Image.new("RGB", (2_000, 1_000), "red").save(tmp_path / "large.tiff")
    content, kind = shown.as_png_or_jpeg(tmp_path / "large.tiff")
    assert kind == "image/jpeg" and Image.open(io.BytesIO(content)).size == (320, 160)
    (tmp_path / "large.tiff").write_text("no more")
    assert shown.as_png_or_jpeg(tmp_path / "large.tiff") is None


# --- the command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pictures", "nowhere"), "nowhere is not a folder"),
        (("--pictures", "{archives}"), "holds no picture that can be read"),
        (("--host", "256.1.1.1"), "cannot be listened at"),
        (("--port", "{taken}"), "--port 0 takes a free one"),
    ],
)
def test_what_is_wrong_is_said_before_the_page_is_there(run, server, options, message):
    given = {"archives": run.archives, "taken": server.url.rpartition(":")[2]}
    assert message in refusal(run, *(option.format(**given) for option in options))


@pytest.mark.parametrize(
    ("lost", "options", "message"),
    [
        ("embeddings/pictures/*/shard-*", (), "has pictures, but no stored features of them"),
        ("embeddings/pictures/*/shard-*/index.parquet", (), "has pictures, but no stored features of them"),
        ("embeddings", (), "has pictures, but no stored features of them"),
        ("pictures/*/*.png", (), "but none of these files is in"),
        ("pictures/*/*.png", ("--pictures", "{results}"), "but none of these files is in"),
        ("pictures/*/*.png", ("--pictures", "{results}/pictures"), "holds no picture that can be read"),
    ],
)
def test_a_run_that_gives_no_picture_is_refused(run, tmp_path, lost, options, message):
    damaged = copy_of(run, tmp_path)
    for path in damaged.results.glob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = refusal(damaged, *(option.format(results=damaged.results) for option in options))
    assert message in said and "--pictures" in said


def refusal(run, *options):
    """What the command says that does not start."""
    arguments = ["serve", "--model", run.model, "--archives", run.archives, "--offline", "--port", "0", *options]
    result = CliRunner().invoke(command, [*map(str, arguments)])
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    return result.stderr


def test_features_of_other_towers_are_refused(run, tmp_path):
    other = copy_of(run, tmp_path)
    told = other.results / "embeddings" / "pictures" / "noto" / "shard-0" / "encoder.json"
    write_json(told, read_json(told) | {"grid": 7})
    with pytest.raises(UserError, match=r"embedded by other encoders than the model's .grid: 7, the model's 2"):
        shown.shown_pictures(run.opened, other.model, None)
