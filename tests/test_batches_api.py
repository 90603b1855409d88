"""The Batch API: each answer paid for once at half the price, whatever ends the process, whoever asks beside it."""

import logging
import os
import re
import signal
from threading import Thread

import pytest
from openai_client import CANARY, quick_server, start_program, wait_until
from openai_server import Reply, random_trouble
from test_definitions import SETTINGS, _all_texts

from polclip.definitions import batch_files, client, server_jobs
from polclip.definitions.answers import answer_all
from polclip.definitions.cache import AnswerCache, key_of
from polclip.errors import UserError

# What a process does that may be killed: at the call of a function of that name, or never.
PROGRAM = """
import json, os, signal, sys
from polclip.definitions import batches, open_batches, server_jobs
from polclip.definitions.answers import answer_all
from polclip.definitions.cache import AnswerCache
given = json.loads(sys.argv[1])
server_jobs.FIRST_LOOK = server_jobs.LONGEST_LOOK = server_jobs.LOCK_WAIT = 0.02
batches.LINES_TOGETHER = 2
calls = 0
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def killed_at_the_fourth(self, *values, add=AnswerCache.add):
    global calls
    calls += 1
    killed() if calls == 4 else add(self, *values)
at = given.pop("kill_at")
if at == "submitted":
    open_batches.OpenBatches.submitted = killed
elif at == "forget":
    open_batches.OpenBatches.forget = killed
elif at == "collecting":
    AnswerCache.add = killed_at_the_fourth
with AnswerCache(given.pop("cache")) as cache:
    answer_all(cache=cache, **given)
"""


@pytest.fixture
def server(monkeypatch):
    with quick_server(monkeypatch) as running:
        yield running


@pytest.fixture
def cache(tmp_path):
    with AnswerCache(tmp_path / "cache") as kept:
        yield kept


def settings_of(server, **settings):
    return SETTINGS | {"base_url": server.url, "batch": True} | settings


def request_of(number, model=SETTINGS["model"]):
    messages = [{"role": "system", "content": "Define."}, {"role": "user", "content": f"bat {number}"}]
    return {"model": model, "messages": messages, "reasoning_effort": "none", "max_completion_tokens": 60}


def requests_of(server, numbers):
    return {key_of(request_of(number), server.url): request_of(number) for number in numbers}


def answered(cache, requests):
    return sum(cache.answer(key) is not None for key in requests)


def batches_made(server):
    return len(server.batches)


def submitted(server):
    """How many requests are in batches, whether or not those are over."""
    return sum(server.contents[batch["input_file_id"]].count(b"\n") for batch in server.batches.values())


def remembered(cache):
    """How many batches and requests of batches are remembered."""
    counts = [cache.execute(f"SELECT COUNT(*) FROM {table}")[0][0] for table in ("batches", "batch_requests")]
    return tuple(counts)


def paid_once(server, count):
    return server.paid == count and set(server.paid_by_question.values()) == {1}


def test_answers_come_at_half_the_price_and_a_rerun_asks_nothing(server, cache, monkeypatch):
    requests = requests_of(server, range(30))
    server.reply = lambda number, body: Reply(text=body["messages"][1]["content"] + "\u2028 x")
    answer_all(requests, cache, settings_of(server), "paper")
    for key, request in requests.items():
        answer = cache.answer(key)
        # By its custom_id: the lines come back in another order.
        assert answer["text"] == request["messages"][1]["content"] + "\u2028 x"
        assert (answer["tokens_in"], answer["tokens_out"]) == (50, 10) and answer["date"]
        assert answer["usd"] == pytest.approx((50 * 1 + 10 * 2) / 2e6)
    assert cache.paid_by("paper") == (30, pytest.approx(30 * 70 / 2e6))
    (batch,) = server.batches.values()
    assert batch["metadata"]["run"] == "paper" and re.fullmatch("[0-9a-f]{64}", batch["metadata"]["polclip"])
    assert paid_once(server, 30) and not server.requests and remembered(cache) == (0, 0)
    asked = len(server.others)
    monkeypatch.delenv("OPENAI_API_KEY")
    answer_all(requests, cache, settings_of(server), "paper")
    assert len(server.others) == asked
    assert sorted(path.name for path in cache.folder.iterdir() if "sqlite" not in path.name) == ["asking.lock"]


def test_requests_are_cut_into_batches_that_the_server_takes(server, cache, monkeypatch):
    monkeypatch.setattr(batch_files, "MOST_REQUESTS", 10)
    server.batch_limit = 10
    answer_all(requests_of(server, range(23)), cache, settings_of(server), "paper")
    assert batches_made(server) == 3 and paid_once(server, 23)
    line = len(batch_files.line_of("0" * 64, request_of(100)))
    monkeypatch.setattr(batch_files, "MOST_BYTES", 4 * line + 1)
    answer_all(requests_of(server, range(100, 110)), cache, settings_of(server), "paper")
    assert batches_made(server) == 6 and paid_once(server, 33)
    monkeypatch.setattr(batch_files, "FILE_BYTES", 3 * (4096 + 32 * 60))  # what comes back has a size, too
    assert [len(chunk) for chunk in batch_files.chunks_of(requests_of(server, range(8)))] == [3, 3, 2]
    assert max(len(content) for file, content in server.contents.items() if server.files[file]["purpose"] == "batch")


def start(server, cache, numbers, kill_at="", run="paper", **settings):
    given = {"requests": requests_of(server, numbers), "settings": settings_of(server, **settings), "run": run}
    given |= {"cache": str(cache.folder), "kill_at": kill_at}
    return start_program(PROGRAM, given)


@pytest.mark.parametrize("moment", ["submitted", "polling", "collecting", "forget"])
def test_a_killed_process_is_taken_up_by_the_next(server, cache, moment):
    if moment == "polling":
        server.polls_until_done = 1_000_000
    process = start(server, cache, range(12), kill_at=moment)
    if moment == "polling":
        wait_until(lambda: sum(server.polls.values()) >= 2, process)
        process.kill()
    said = process.communicate(timeout=30)[1]
    assert process.returncode == -signal.SIGKILL, said
    assert batches_made(server) == 1 and CANARY not in said
    before = {"submitted": 0, "polling": 0, "collecting": 2, "forget": 12}[moment]
    assert answered(cache, requests_of(server, range(12))) == before
    server.polls_until_done = 1
    # What else is asked for meanwhile changes nothing.
    answer_all(requests_of(server, range(15)), cache, settings_of(server), "paper")
    assert batches_made(server) == 2 and submitted(server) == 15
    assert paid_once(server, 15) and remembered(cache) == (0, 0)


def test_a_batch_is_found_by_what_it_holds_where_nothing_is_remembered(server, cache, tmp_path):
    process = start(server, cache, range(12), kill_at="submitted")
    process.communicate(timeout=30)
    for number in range(150):  # those of others, newer
        metadata = {"polclip": "0" * 64} if number % 2 else None
        server.batches[f"batch_other{number}"] = {
            **next(iter(server.batches.values())),
            **{"id": f"batch_other{number}", "metadata": metadata},
        }
    with AnswerCache(tmp_path / "another") as another:
        answer_all(requests_of(server, range(12)), another, settings_of(server), "paper")
        assert answered(another, requests_of(server, range(12))) == 12
    assert batches_made(server) == 151 and paid_once(server, 12)


def test_a_start_whose_answer_is_lost_is_looked_for(server, cache):
    lost = [Reply(hang_up=True, after=True), Reply(status=500, after=True), Reply(truncated=True, after=True)]
    for at, reply in enumerate(lost):
        server.trouble = lambda method, path, number, reply=reply: (
            reply if method == "POST" and path.endswith("batches") else None
        )
        answer_all(requests_of(server, range(5 * at, 5 * at + 5)), cache, settings_of(server), "paper")
        assert batches_made(server) == at + 1 and submitted(server) == server.paid and paid_once(server, 5 * at + 5)


def test_every_kind_of_trouble_costs_nothing(server, cache):
    server.trouble = random_trouble(seed=1, share=0.3, stall=1.2)
    for start in range(0, 100, 20):
        answer_all(requests_of(server, range(start, start + 20)), cache, settings_of(server), "paper")
    assert batches_made(server) == 5 and submitted(server) == 100
    assert paid_once(server, 100) and remembered(cache) == (0, 0)


def test_two_processes_submit_what_both_ask_for_once(server, cache):
    server.polls_until_done = 1_000_000
    first = start(server, cache, range(0, 20))
    wait_until(lambda: server.polls, first)
    second = start(server, cache, range(10, 30), run="second")
    wait_until(lambda: len(server.polls) == 2, second)
    server.polls_until_done = 1
    for process in (first, second):
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 0, said
    assert batches_made(server) == 2 and submitted(server) == 30
    assert paid_once(server, 30) and remembered(cache) == (0, 0)
    # The one that submitted a request pays for it, whoever collects it.
    assert (cache.paid_by("paper")[0], cache.paid_by("second")[0]) == (20, 10)


def test_what_expires_is_submitted_again(server, cache):
    server.expire_after = 7

    def answers(number, body):
        server.expire_after = None
        return Reply()

    server.reply = answers
    answer_all(requests_of(server, range(20)), cache, settings_of(server), "paper")
    assert batches_made(server) == 2 and paid_once(server, 20)


def test_what_fails_again_and_again_is_given_up_when_all_else_is_kept(server, cache):
    def reply(number, body):
        if body["messages"][1]["content"] in ("bat 3", "bat 4"):
            return Reply(status=500, error={"message": CANARY, "code": CANARY})
        return Reply()

    server.reply = reply
    requests = requests_of(server, range(10))
    with pytest.raises(UserError, match=r"in 4 batches did not answer 2 of the requests \(HTTP 500\)\. The other answ"):
        answer_all(requests, cache, settings_of(server), "paper")
    assert batches_made(server) == 4 and answered(cache, requests) == 8 and paid_once(server, 8)
    server.reply = lambda number, body: Reply()
    answer_all(requests, cache, settings_of(server), "paper")
    assert paid_once(server, 10) and remembered(cache) == (0, 0)


def test_what_is_refused_is_named_when_all_else_is_kept_and_filtered_is_an_answer(server, cache):
    def reply(number, body):
        about = body["messages"][1]["content"]
        if about == "bat 3":
            return Reply(status=400, error={"message": CANARY, "code": "context_length_exceeded"})
        if about == "bat 4":
            return Reply(status=400, error={"message": CANARY, "code": "content_filter"})
        if about == "bat 5":
            return Reply(status=400, error={"message": CANARY, "code": CANARY})
        return Reply(status=429) if about == "bat 6" and batches_made(server) < 2 else Reply()

    server.reply = reply
    requests = requests_of(server, range(10))
    message = r"does not take 2 of the requests \(HTTP 400; HTTP 400, context_length_exceeded\)"
    with pytest.raises(UserError, match=message) as caught:
        answer_all(requests, cache, settings_of(server), "paper")
    assert answered(cache, requests) == 8 and CANARY not in _all_texts(caught.value)
    filtered = cache.answer(key_of(request_of(4), server.url))
    assert (filtered["finish_reason"], filtered["tokens_out"], filtered["text"]) == ("content_filter", 0, None)


def test_a_batch_that_is_not_accepted_is_named(server, cache):
    server.batch_errors = [{"code": "token_limit_exceeded", "message": CANARY, "line": None, "param": None}]
    requests = requests_of(server, range(10))
    with pytest.raises(UserError, match=r"does not accept batch batch_\w+ \(token_limit_exceeded\)") as caught:
        answer_all(requests, cache, settings_of(server), "paper")
    assert CANARY not in _all_texts(caught.value) and server.paid == 0 and remembered(cache) == (0, 0)
    server.batch_errors = []
    answer_all(requests, cache, settings_of(server), "paper")
    assert batches_made(server) == 2 and paid_once(server, 10)


def test_batches_that_are_gone_are_forgotten(server, cache):
    process = start(server, cache, range(10), kill_at="collecting")
    process.communicate(timeout=30)
    (batch,) = server.batches.values()
    del server.files[batch["output_file_id"]]  # its answers were deleted
    requests = requests_of(server, range(10))
    answer_all(requests, cache, settings_of(server), "paper")
    assert batches_made(server) == 2 and answered(cache, requests) == 10
    server.polls_until_done = 1_000_000
    process = start(server, cache, range(10, 20))
    wait_until(lambda: len(server.polls) == 3, process)
    process.kill()
    process.communicate()
    server.batches.clear()
    server.polls_until_done = 1
    answer_all(requests_of(server, range(10, 20)), cache, settings_of(server), "paper")
    assert answered(cache, requests_of(server, range(20))) == 20


def test_a_batch_that_somebody_cancels_is_collected_and_not_submitted_again(server, cache):
    server.polls_until_done = 1_000_000

    def cancel():
        wait_until(lambda: server.polls)
        batch = next(iter(server.batches.values()))
        with server.lock:
            batch["status"], batch["request_counts"]["total"] = "cancelling", 10

    thread = Thread(target=cancel)
    thread.start()
    requests = requests_of(server, range(10))
    with pytest.raises(UserError, match=r"was cancelled at http.*Its answers until then are kept"):
        answer_all(requests, cache, settings_of(server), "paper")
    thread.join()
    assert batches_made(server) == 1 and answered(cache, requests) == 5
    server.polls_until_done = 1
    answer_all(requests, cache, settings_of(server), "paper")
    assert batches_made(server) == 2 and paid_once(server, 10)


def test_a_file_that_cannot_be_read_whole_is_fetched_again(server, cache):
    broken = [Reply(body=b"<html>"), Reply(body=b""), Reply(truncated=True)]

    def trouble(method, path, number):
        return broken.pop() if path.endswith("content") and broken else None

    server.trouble = trouble
    answer_all(requests_of(server, range(10)), cache, settings_of(server), "paper")
    assert not broken and batches_made(server) == 1 and paid_once(server, 10)
    server.trouble = lambda method, path, number: Reply(body=b"<html>") if path.endswith("content") else None
    with pytest.raises(UserError, match=r"gave a file of batch batch_\w+ that cannot be read"):
        answer_all(requests_of(server, range(10, 20)), cache, settings_of(server), "paper")
    server.trouble = lambda method, path, number: None
    answer_all(requests_of(server, range(10, 20)), cache, settings_of(server), "paper")
    assert batches_made(server) == 2 and paid_once(server, 20)


def test_the_budget_holds_for_batches_that_are_still_under_way(server, cache):
    # Each at most 0.000083 USD by batch (14 bytes and 32 around them in, 60 tokens out); 0.000035 in truth.
    most = (46 * 1 + 60 * 2) / 2e6
    requests = requests_of(server, range(100, 130))
    server.polls_until_done = 1_000_000
    process = start(server, cache, range(100, 120), max_usd=21.5 * most)
    wait_until(lambda: server.polls, process)
    process.kill()
    process.communicate()
    assert cache.execute("SELECT COUNT(*) FROM batch_requests")[0][0] == 20
    server.polls_until_done = 1
    others = {key: request for key, request in requests.items() if key not in requests_of(server, range(100, 120))}
    # One of the others fits before the first batch is in; then all do, in one batch.
    answer_all(others, cache, settings_of(server, max_usd=21.5 * most), "paper")
    assert answered(cache, requests) == 30 and paid_once(server, 30)
    assert sorted(batch["request_counts"]["total"] for batch in server.batches.values()) == [10, 20]


def test_what_the_budget_does_not_suffice_for_is_told(server, cache):
    requests = requests_of(server, range(100, 200))
    usd = 50 * 70 / 2e6
    with pytest.raises(
        UserError, match=r"max_usd: 0.00175 USD do not suffice: this run has paid 0.001\d USD for \d+ ans"
    ):
        answer_all(requests, cache, settings_of(server, max_usd=usd), "paper")
    assert 40 < server.paid <= 50 and answered(cache, requests) == server.paid and remembered(cache) == (0, 0)
    with pytest.raises(UserError, match="max_usd"):
        answer_all(requests, cache, settings_of(server, max_usd=usd), "paper")
    answer_all(requests, cache, settings_of(server), "paper")
    assert paid_once(server, 100)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_that_the_batch_goes_on(server, cache, number):
    server.polls_until_done = 1_000_000

    def stop():
        wait_until(lambda: server.polls)
        os.kill(os.getpid(), number)

    thread = Thread(target=stop)
    thread.start()
    with pytest.raises(UserError, match=r"Stopped\. What was submitted goes on at the server: the same command coll"):
        answer_all(requests_of(server, range(10)), cache, settings_of(server), "paper")
    thread.join()
    server.polls_until_done = 1
    answer_all(requests_of(server, range(10)), cache, settings_of(server), "paper")
    assert batches_made(server) == 1 and paid_once(server, 10)


def test_a_file_of_requests_is_uploaded_once_though_the_batch_is_refused(server, cache):
    refusal = Reply(status=403, error={"message": CANARY, "code": "no_batches"})
    server.trouble = lambda method, path, number: refusal if (method, path) == ("POST", "/v1/batches") else None
    for _ in range(2):
        with pytest.raises(UserError, match=r"does not allow the request \(HTTP 403, no_batches\)"):
            answer_all(requests_of(server, range(5)), cache, settings_of(server), "paper")
    server.trouble = lambda method, path, number: None
    answer_all(requests_of(server, range(5)), cache, settings_of(server), "paper")
    assert server.others.count(("POST", "/v1/files")) == 1 and paid_once(server, 5)


def test_a_server_without_batches_is_named(server, cache):
    server.trouble = lambda method, path, number: Reply(status=404, error={"message": "no", "code": None})
    with pytest.raises(UserError, match=r"has no Batch API \(HTTP 404\): set definitions.batch to false"):
        answer_all(requests_of(server, range(10)), cache, settings_of(server), "paper")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches", "content", "batch_"])
def test_the_key_appears_nowhere(server, cache, monkeypatch, caplog, capsys, tmp_path, path, status):
    monkeypatch.setattr(client, "RETRIES", 1)
    monkeypatch.setattr(server_jobs, "START_WAITS", (0, 0))
    caplog.set_level(logging.DEBUG)
    refusal = Reply(status=status, error={"message": f"Incorrect key {CANARY}", "code": CANARY, "type": CANARY})
    server.trouble = lambda method, at, number: refusal if path in at else None
    try:
        answer_all(requests_of(server, range(3)), cache, settings_of(server), "paper")
    except UserError as error:
        assert CANARY not in _all_texts(error)
    else:
        raise AssertionError("an error was expected")
    assert set(server.keys) == {f"Bearer {CANARY}"}
    assert CANARY not in caplog.text + "".join(capsys.readouterr())
    assert not any(CANARY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_what_is_in_a_batch_is_not_asked_for_beside_it_and_counts_in_the_budget(server, cache):
    server.polls_until_done = 1_000_000
    process = start(server, cache, range(10))
    wait_until(lambda: server.polls, process)
    process.kill()
    process.communicate()
    alone = settings_of(server, batch=False)
    with pytest.raises(
        UserError, match=r"10 of 12 questions are in a batch under way .* set definitions\.batch to true"
    ):
        answer_all(requests_of(server, range(12)), cache, alone, "paper")
    with pytest.raises(UserError, match=r"max_usd"):
        answer_all(requests_of(server, range(10, 12)), cache, alone | {"max_usd": 0.0005}, "paper")
    assert not server.requests
    answer_all(requests_of(server, range(10, 12)), cache, alone | {"max_usd": 0.0005}, "another")
    assert len(server.requests) == 2
    server.polls_until_done = 1
    answer_all(requests_of(server, range(12)), cache, settings_of(server), "paper")
    assert batches_made(server) == 1 and paid_once(server, 12)
