"""A thousand definitions from a server that fails, for processes that are killed: all complete, each paid for once."""

import json
import sqlite3
import time
from collections import Counter
from dataclasses import replace
from email.utils import formatdate

import pytest
from openai_client import quick_server, start_program
from openai_server import Reply, random_faults
from test_definitions import SETTINGS

from polclip.definitions import client
from polclip.definitions.plan import plan_definitions
from polclip.definitions.write import write_definitions
from polclip.errors import UserError
from polclip.files import read_json_lines
from polclip.records import VisualInstance, write_records

# Quick retries, so that the test is.
PROGRAM = """
import json, sys
import openai._base_client
from polclip.definitions import client
from polclip.definitions.write import write_definitions
from polclip.records import VisualInstance
openai._base_client.INITIAL_RETRY_DELAY, client.TIMEOUT_SECONDS, client.UNREADABLE_WAIT = 0.01, 1, 0.01
given = json.loads(sys.argv[1])
places = (given.pop(name) for name in ("definitions", "cost", "settings"))
write_definitions(given.pop("instances"), VisualInstance, *places, **given)
"""


@pytest.fixture
def server(monkeypatch):
    with quick_server(monkeypatch, timeout=0.5) as running:
        yield running


def part(folder, numbers, url, name="all", **settings):
    """What write_definitions is given for some of the queries: everything but the kind of instance."""
    settings = {**SETTINGS, "base_url": url, "at_once": 32, **settings}
    instances = folder / f"{name}.parquet"
    ids = [f"p:{number}" for number in range(10)]
    queries = [VisualInstance(f"q.{k}", "en", "bat", f"bat {k:04}", ids, ids[0]) for k in numbers]
    write_records(instances, VisualInstance, queries)
    plan_definitions(instances, VisualInstance, folder / f"{name}.requests.jsonl", folder / "plan.json", settings)
    return {
        **{"instances": str(instances), "settings": settings, "run": "paper"},
        **{"definitions": str(folder / f"{name}.jsonl"), "cost": str(folder / f"{name}.cost.json")},
        **{"requests": str(folder / f"{name}.requests.jsonl"), "cache": str(folder / "cache")},
    }


def define(given):
    given = dict(given)
    places = [given.pop(name) for name in ("definitions", "cost", "settings")]
    write_definitions(given.pop("instances"), VisualInstance, *places, **given)
    return [line["definition"] for line in read_json_lines(places[0])]


def kept(folder):
    """The questions of the answers that are kept."""
    with sqlite3.connect(folder / "cache" / "answers.sqlite") as database:
        return {json.loads(row[0])["messages"][1]["content"] for row in database.execute("SELECT request FROM answers")}


def asked(requests):
    return Counter(request["messages"][1]["content"] for request in requests)


def test_a_thousand_answers_of_a_failing_server_are_paid_for_once(tmp_path, server):
    faults = random_faults(seed=0, share=0.3)
    # Of every ninth failure the answer was made before it was lost: the second time it costs nothing.
    server.reply = lambda number, body: replace(faults(number, body), after=number % 9 == 0)
    definitions = define(part(tmp_path, range(1000), server.url))
    assert len(definitions) == 1000 and None not in definitions
    assert len(server.requests) > 1300 and server.paid == 1000 and set(server.paid_by_question.values()) == {1}
    assert server.repeated > 20
    before = len(server.requests)
    assert define(part(tmp_path, range(1000), server.url)) == definitions
    for jobs in (1, 3, 7):
        for job in range(jobs):
            define(part(tmp_path, range(job, 1000, jobs), server.url, name=f"{job}-of-{jobs}"))
    assert len(server.requests) == before


def test_five_kills_lose_nothing_that_is_kept(tmp_path, server):
    server.reply = random_faults(seed=1, share=0.3)
    given = part(tmp_path, range(1000), server.url)
    seen, finished = 0, set()
    for kill in range(1, 7):
        process = start_program(PROGRAM, given)
        while process.poll() is None and (kill == 6 or len(server.requests) < 220 * kill):
            time.sleep(0.005)
        process.kill()
        said = process.communicate()[1]
        assert (process.returncode == 0) == (kill == 6), said
        time.sleep(0.05)  # what the server was about to note
        # What is kept is never asked for again.
        assert not asked(server.requests[seen:]).keys() & finished
        seen, finished = len(server.requests), kept(tmp_path)
        assert kill == 6 or 100 * kill < len(finished) < 1000
    assert len(list(read_json_lines(given["definitions"]))) == len(finished) == 1000
    # What was under way at a kill was asked for again, under the same idempotency key: the server charges it once.
    assert set(server.paid_by_question.values()) == {1} and server.paid == 1000
    assert server.repeated <= 5 * 32


@pytest.mark.parametrize("form", ["Retry-After", "retry-after-ms", "date"])
def test_what_a_server_asks_to_wait_is_waited(tmp_path, server, form):
    asked_at = []

    def busy_at_first(number, body):
        asked_at.append(time.time())
        said = {"Retry-After": "0.6", "retry-after-ms": "600", "date": formatdate(int(time.time()) + 2, usegmt=True)}
        name = "Retry-After" if form == "date" else form
        return Reply() if number else Reply(status=429, headers={name: said[form]})

    server.reply = busy_at_first
    assert define(part(tmp_path, [0], server.url)) == ["a definition"]
    # Left to itself the client waits a hundredth of a second. A date has whole seconds: of two at least one is left.
    assert 0.58 < asked_at[1] - asked_at[0] < 10


@pytest.mark.parametrize("said", ["1800", "date", "inf", "tomorrow", "-3"])
def test_a_long_wait_is_told_and_not_waited(tmp_path, server, monkeypatch, said):
    monkeypatch.setattr(client, "RETRIES", 1)
    header = formatdate(time.time() + 1801, usegmt=True) if said == "date" else said
    server.reply = lambda number, body: Reply(status=429, headers={"Retry-After": header})
    long = said in ("1800", "date")
    message = r"left alone for 30 minutes \(HTTP 429\)\. Answers so far are kept" if long else "after 2 tries"
    with pytest.raises(UserError, match=message):
        define(part(tmp_path, [0], server.url))
    assert len(server.requests) == (1 if long else 2)


def test_retries_keep_to_the_rate_too(tmp_path, server):
    asked_at = []

    def busy_every_other_time(number, body):
        asked_at.append(time.monotonic())
        return Reply(status=500) if number % 2 else Reply()

    server.reply = busy_every_other_time
    define(part(tmp_path, range(12), server.url, requests_per_minute=1200))
    assert len(asked_at) > 20
    assert asked_at[-1] - asked_at[0] > 0.9 * (len(asked_at) - 1) * 60 / 1200


def test_processes_that_ask_at_once_pay_each_answer_once(tmp_path, server):
    server.reply = lambda number, body: Reply(headers={})
    parts = [
        part(tmp_path, numbers, server.url, f"part-{at}")
        for at, numbers in enumerate([range(0, 120), range(60, 180), range(180)])
    ]
    processes = [start_program(PROGRAM, given) for given in parts]
    for process in processes:
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 0, said
    assert [len(list(read_json_lines(given["definitions"]))) for given in parts] == [120, 120, 180]
    assert len(server.requests) == server.paid == 180
