"""Servers that send slowly or without end, and a user who wants to stop."""

import asyncio
import gzip
import signal
import time

import pytest
from openai_client import quick_server, start_program, wait_until
from openai_server import Reply
from test_batches_api import answered, batches_made, paid_once, requests_of, settings_of
from test_definitions_faults import PROGRAM, kept, part

from polclip.definitions import client, limits, server_jobs
from polclip.definitions.answers import answer_all
from polclip.definitions.cache import AnswerCache
from polclip.definitions.limits import OverLimit
from polclip.errors import UserError

GIGABYTE, MEGABYTE = 10**9, 2**20


@pytest.fixture
def server(monkeypatch):
    for module in (client, server_jobs):
        monkeypatch.setattr(module, "UNREADABLE_TRIES", 3)
    monkeypatch.setattr(limits, "ANSWER_BYTES", MEGABYTE)
    monkeypatch.setattr(limits, "FILE_BYTES", MEGABYTE)
    with quick_server(monkeypatch, timeout=5) as running:
        yield running


@pytest.fixture
def cache(tmp_path):
    with AnswerCache(tmp_path / "cache") as kept:
        yield kept


def ask(server, cache, numbers=range(5), **settings):
    answer_all(requests_of(server, numbers), cache, settings_of(server, **{"batch": False} | settings), "paper")


def test_a_trickling_server_is_left_and_asked_again(server, cache, monkeypatch):
    monkeypatch.setattr(limits, "ANSWER_SECONDS", 0.3)
    server.reply = lambda number, body: Reply(trickle=0.05) if number in (1, 3) else Reply()
    ask(server, cache)
    assert paid_once(server, 5) and server.repeated == 2
    server.reply = lambda number, body: Reply(trickle=0.05)
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"http.* did not end its response within 0 seconds\. .* Answers so far are kept"
    ):
        ask(server, cache, range(5, 10), at_once=5)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("flood", [Reply(flood=GIGABYTE), "gzip"])
def test_an_answer_without_end_is_not_read(server, cache, flood):
    if flood == "gzip":
        flood = Reply(body=gzip.compress(bytes(50 * MEGABYTE)), headers={"Content-Encoding": "gzip"})
    server.reply = lambda number, body: flood if number == 1 else Reply()
    ask(server, cache)
    assert paid_once(server, 5) and server.flooded < 100 * MEGABYTE
    server.reply = lambda number, body: flood
    with pytest.raises(UserError, match=r"http.* sent more than 1 MiB in one response"):
        ask(server, cache, range(5, 10))
    assert server.flooded < 200 * MEGABYTE


def test_compressed_answers_are_read(server, cache):
    content = b'{"choices": [{"message": {"content": "a definition"}}]}'
    server.reply = lambda number, body: Reply(body=gzip.compress(content), headers={"Content-Encoding": "gzip"})
    ask(server, cache)
    assert answered(cache, requests_of(server, range(5))) == 5


def test_a_redirect_is_followed(server, cache):
    def moved(number, body):
        return Reply() if number % 2 else Reply(status=307, headers={"Location": server.url + "/chat/completions"})

    server.reply = moved
    ask(server, cache, at_once=1)
    assert paid_once(server, 5) and len(server.requests) == 10


@pytest.mark.parametrize("path", ["content", "batches", "batch_", "/files"])
def test_files_and_lists_of_batches_without_end(server, cache, path):
    server.trouble = lambda method, at, number: Reply(flood=GIGABYTE) if at.endswith(path) or path in at else None
    with pytest.raises(UserError, match=r"http.* (sent more than 1 MiB in one response|does not answer as OpenAI's)"):
        ask(server, cache, batch=True)
    assert server.flooded < 1000 * MEGABYTE
    server.trouble = lambda method, at, number: None
    ask(server, cache, batch=True)
    assert paid_once(server, 5) and batches_made(server) == 1


@pytest.mark.parametrize("reply", [Reply(flood=GIGABYTE), Reply(trickle=0.05)])
def test_all_lists_have_limits(server, monkeypatch, reply):
    monkeypatch.setattr(limits, "ANSWER_SECONDS", 0.3)
    server.trouble = lambda method, path, number: reply

    async def files():
        async with client.connect(server.url) as connected:
            return await connected.files.list()

    with pytest.raises(OverLimit):
        asyncio.run(files())


def test_the_second_ctrl_c_ends_at_once(tmp_path, server):
    server.reply = lambda number, body: Reply() if number < 40 else Reply(trickle=1)
    process = start_program(PROGRAM, part(tmp_path, range(100), server.url, at_once=4))
    wait_until(lambda: len(server.requests) >= 42, process)
    process.send_signal(signal.SIGINT)
    while "Ctrl-C again" not in (line := process.stderr.readline()):
        assert line
    assert process.poll() is None
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert time.monotonic() - start < 10
    assert "UserError: Stopped at once. Answers that were under way are lost, and may have been paid for." in said
    assert len(kept(tmp_path)) >= 38 and max(server.paid_by_question.values()) == 1
