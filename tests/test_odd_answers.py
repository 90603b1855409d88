"""Answers of a form that no server should send: each is kept and paid for once, and judged when it is used."""

import json
import math
import sqlite3
from itertools import cycle
from random import Random

import pytest
from openai_client import quick_server
from openai_replies import DEEP, ODDITIES, changed
from openai_server import Reply, random_faults, random_trouble
from test_batches_api import answered, batches_made, paid_once, remembered, request_of, requests_of, settings_of
from test_definitions import SETTINGS
from test_definitions_faults import define, part

from polclip.definitions.answers import answer_all
from polclip.definitions.cache import AnswerCache, key_of
from polclip.definitions.completions import MOST_TOKENS, answer_in
from polclip.definitions.cost import Budget, Price, most_tokens_in
from polclip.definitions.prompts import definition_in
from polclip.errors import UserError
from polclip.files import read_json, read_json_lines

# What becomes of those that are no plain text with odd things around it.
FLAGGED = {
    **{name: "unreadable" for name in ODDITIES if name.startswith(("choices", "no choices", "message", "content"))},
    **{"content None": "empty", "content parts": None, "content half": None, "content refusal": "refused"},
    "refusal '\\ud83d'": "refused",
}
# Those whose tokens the server told, and told wrongly.
UNTOLD = [name for name in ODDITIES if name.startswith(("usage", "tokens"))]


@pytest.fixture
def server(monkeypatch):
    with quick_server(monkeypatch) as running:
        yield running


@pytest.fixture
def cache(tmp_path):
    with AnswerCache(tmp_path / "cache") as kept:
        yield kept


def odd_in_turn(number, body):
    """The oddities one after another, the same for the same question."""
    asked = int(body["messages"][1]["content"].split("bat ")[-1].strip('".'))
    return Reply(odd=list(ODDITIES.values())[asked % len(ODDITIES)])


@pytest.mark.parametrize("batch", [False, True])
def test_odd_answers_are_kept_paid_once_and_flagged(tmp_path, server, batch):
    server.reply = odd_in_turn
    given = part(tmp_path, range(len(ODDITIES)), server.url, batch=batch)
    define(given)
    lines = list(read_json_lines(given["definitions"]))
    assert paid_once(server, len(ODDITIES)) and len(lines) == len(ODDITIES)
    for name, line in zip(ODDITIES, lines, strict=True):
        assert line["flag"] == FLAGGED.get(name), name
        assert (line["definition"] is None) == (line["flag"] is not None)
        if line["flag"] == "unreadable":
            assert line["text"], name  # what was paid for can be looked at
        most = most_tokens_in({"messages": [{"content": "You define words."}, {"content": line["prompt"]}]})
        assert 0 < line["tokens_in"] <= most and 0 < line["tokens_out"] <= 600
        if name in UNTOLD and name != "tokens of 5,000 digits":
            assert line["tokens_in"] == most, name
        if name in UNTOLD and name != "tokens 1e999":
            assert line["tokens_out"] == 60, name
    parts = dict(zip(ODDITIES, lines, strict=True))["content parts"]
    assert (parts["definition"], parts["text"]) == ("a meaning", "a meaning")
    assert dict(zip(ODDITIES, lines, strict=True))["ten times the limit"]["tokens_out"] == 600
    cost = read_json(given["cost"])
    assert math.isfinite(cost["usd"]) and cost["requests"] == len(ODDITIES)
    asked = len(server.requests) + len(server.others)
    define(given)
    assert len(server.requests) + len(server.others) == asked


def test_a_thousand_odd_answers_of_a_failing_server_are_paid_for_once(tmp_path, server):
    server.reply = random_faults(seed=3, share=0.2, answer=odd_in_turn)
    given = part(tmp_path, range(1000), server.url)
    define(given)
    lines = list(read_json_lines(given["definitions"]))
    assert paid_once(server, 1000) and len(lines) == 1000
    flags = [FLAGGED.get(name) for name, _ in zip(cycle(ODDITIES), range(1000), strict=False)]
    assert [line["flag"] for line in lines] == flags


def odd_lines(line):
    """What may be in the place of a line of a batch's file of answers. All were paid for."""
    entry = json.loads(line)
    custom_id = entry.pop("custom_id")
    return {
        "no JSON": b"one moment, please\n",
        "an array": b"[1, 2]\n",
        "null": b"null\n",
        "a number": b"7\n",
        "half": line[: len(line) // 2] + b"\n",
        "deep": DEEP + b"\n",
        "no UTF-8": line.replace(b"a definition", b"\xff\xfe"),
        "no custom_id": json.dumps(entry).encode() + b"\n",
        "custom_id of another": json.dumps(entry | {"custom_id": "f" * 64}).encode() + b"\n",
        "odd custom_id": json.dumps(entry | {"custom_id": ["x"]}).encode() + b"\n",
        "half a custom_id": json.dumps(entry | {"custom_id": "\ud83d"}).encode() + b"\n",
        "response null": json.dumps(entry | {"custom_id": custom_id, "response": None}).encode() + b"\n",
        "no response": json.dumps({"id": "x", "custom_id": custom_id}).encode() + b"\n",
        "odd response": json.dumps(entry | {"custom_id": custom_id, "response": [7]}).encode() + b"\n",
        "body null": json.dumps(
            entry | {"custom_id": custom_id, "response": {"status_code": 200, "body": None}}
        ).encode()
        + b"\n",
        "body a text": json.dumps(
            entry | {"custom_id": custom_id, "response": {"status_code": 200, "body": "a definition"}}
        ).encode()
        + b"\n",
        "no status": json.dumps(entry | {"custom_id": custom_id, "response": {"body": {"usage": 7}}}).encode() + b"\n",
    }


KINDS = list(odd_lines(b'{"custom_id": "x"}\n'))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [[4], [9]])
def test_an_odd_line_costs_no_other_and_is_not_asked_again(server, cache, kind, numbers):
    server.odd_line = lambda number, line: odd_lines(line)[kind] if number in numbers else line
    requests = requests_of(server, range(10))
    answer_all(requests, cache, settings_of(server), "paper")
    assert batches_made(server) == 1 and paid_once(server, 10) and remembered(cache) == (0, 0)
    answers = [cache.answer(key) for key in requests]
    flags = sorted(str(definition_in(answer, SETTINGS)[1]) for answer in answers)
    assert flags == ["None"] * 9 + ["unreadable"]
    odd = next(answer for answer in answers if answer["unread"])
    assert (odd["tokens_in"], odd["tokens_out"]) == (most_tokens_in(request_of(1)), 60)
    answer_all(requests, cache, settings_of(server), "paper")
    assert batches_made(server) == 1


def test_a_line_that_comes_twice_is_kept_once_and_the_one_that_it_hides_is_unreadable(server, cache):
    first = []

    def twice(number, line):
        first.append(line)
        return first[0]

    server.odd_line = lambda number, line: twice(number, line) if number in (2, 5) else line
    requests = requests_of(server, range(10))
    answer_all(requests, cache, settings_of(server), "paper")
    assert batches_made(server) == 1 and paid_once(server, 10)
    assert sum(bool(cache.answer(key)["unread"]) for key in requests) == 1


def test_all_lines_odd_is_no_reason_to_pay_again(server, cache):
    server.odd_line = lambda number, line: b"null\n"
    requests = requests_of(server, range(3))
    answer_all(requests, cache, settings_of(server), "paper")
    assert paid_once(server, 3) and all(cache.answer(key)["unread"] for key in requests)


def test_a_file_that_stays_cut_off_is_named_and_its_batch_left_open(server, cache):
    server.trouble = lambda method, path, number: (
        Reply(truncated=True, after=True) if path.endswith("content") else None
    )
    requests = requests_of(server, range(10))
    with pytest.raises(UserError, match=r"cannot be read to its end\. Answers so far .* delete the file file-\w+ at"):
        answer_all(requests, cache, settings_of(server), "paper")
    assert 0 < answered(cache, requests) < 10
    server.trouble = lambda method, path, number: None
    answer_all(requests, cache, settings_of(server), "paper")
    assert (server.paid, batches_made(server)) == (10, 1) and paid_once(server, 10)


def test_a_thousand_odd_lines_of_failing_batches_are_paid_for_once(server, cache):
    random = Random(5)
    kinds = cycle(KINDS)
    server.reply = odd_in_turn
    server.odd_line = lambda number, line: (
        odd_lines(line)[next(kinds)] if random.random() < 0.1 and len(line) < 3000 else line
    )
    server.trouble = random_trouble(seed=4, share=0.2, stall=1.2)
    for start in range(0, 1000, 250):
        requests = requests_of(server, range(start, start + 250))
        answer_all(requests, cache, settings_of(server, max_usd=50), "paper")
        assert answered(cache, requests) == 250
    assert batches_made(server) == 4 and paid_once(server, 1000) and remembered(cache) == (0, 0)
    assert cache.paid_by("paper")[0] == 1000


@pytest.mark.parametrize(
    "counts", [None, [], {"completed": "ten", "failed": None}, {"completed": -3, "failed": 10**30}]
)
def test_odd_counts_and_metadata_of_batches_are_passed_over(server, cache, counts):
    def odd(method, path, number):
        for batch in server.batches.values():
            batch["request_counts"] = {"total": 5, "completed": 0, "failed": 0}
            if batch["status"] == "completed":
                batch["request_counts"] = counts
        return None

    server.batches["batch_other"] = {"id": "batch_other", "object": "batch", "metadata": ["x"], "status": None}
    server.trouble = odd
    answer_all(requests_of(server, range(5)), cache, settings_of(server), "paper")
    assert paid_once(server, 5)


def overcharge(number, body):
    return Reply(odd=changed("usage", to={"prompt_tokens": 500, "completion_tokens": 600}))


@pytest.mark.parametrize("at_once", [1, 8])
def test_answers_above_their_reservation_do_not_pass_the_budget_by_more_than_is_under_way(server, cache, at_once):
    server.reply = overcharge
    each = (500 * 1 + 600 * 2) / 1e6
    settings = settings_of(server, batch=False, max_usd=20.5 * each, at_once=at_once)
    with pytest.raises(UserError, match="max_usd"):
        answer_all(requests_of(server, range(100, 200)), cache, settings, "paper")
    count, usd = cache.paid_by("paper")
    assert usd == pytest.approx(count * each) and count == server.paid
    # After the first ones the reservation is right, so that nothing passes the sum.
    assert 20 - at_once <= count <= 20
    with pytest.raises(UserError, match="max_usd"):  # the next job knows it from the answers that are kept
        answer_all(requests_of(server, range(200, 220)), cache, settings, "paper")
    assert cache.paid_by("paper")[1] <= settings["max_usd"]


def test_batches_of_answers_above_their_reservation(server, cache):
    server.reply = overcharge
    each = (500 * 1 + 600 * 2) / 2e6
    settings = settings_of(server, max_usd=10.5 * each)
    answer_all(requests_of(server, range(100, 105)), cache, settings, "paper")
    with pytest.raises(UserError, match="max_usd"):
        answer_all(requests_of(server, range(105, 200)), cache, settings, "paper")
    assert cache.paid_by("paper") == (10, pytest.approx(10 * each))


@pytest.mark.parametrize("tokens", [math.nan, math.inf, -1, MOST_TOKENS + 1])
def test_a_budget_is_not_changed_by_what_is_no_count(tokens):
    request = request_of(1)
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
    budget = Budget(Price(1, 2), max_usd=1)
    most = budget.most(request)
    completion = {"choices": [{"message": {"content": "a definition"}}], "usage": usage}
    assert budget.pay(request, answer_in(completion, request)) == pytest.approx(most) == budget.most(request)


def test_a_cost_that_is_no_number_is_not_lost_in_silence(cache):
    with pytest.raises(UserError, match="cannot be used"):
        cache.add("key", {}, {"text": "paid for"}, math.nan, "paper")


def test_parts_that_were_kept_as_they_came_are_read(tmp_path, server):
    """An earlier version kept a list of parts as it was, which ended every later run."""
    given = part(tmp_path, range(3), server.url)
    define(given)
    with sqlite3.connect(tmp_path / "cache" / "answers.sqlite") as database:
        for number, text in enumerate((["a ", {"type": "text", "text": "bat"}], {"a": 1}, 7)):
            row = f"SELECT key FROM answers ORDER BY request LIMIT 1 OFFSET {number}"
            key, answer = database.execute(f"SELECT key, answer FROM answers WHERE key = ({row})").fetchone()
            old = {name: value for name, value in json.loads(answer).items() if name != "unread"} | {"text": text}
            database.execute("UPDATE answers SET answer = ? WHERE key = ?", (json.dumps(old), key))
    define(given)
    lines = list(read_json_lines(given["definitions"]))
    assert sorted((line["definition"] or "", line["flag"] or "") for line in lines) == [
        ("", "unreadable"),
        ("", "unreadable"),
        ("a bat", ""),
    ]


def test_an_answer_with_thinking_is_kept_as_it_came(server, cache):
    text = "<think>A bat is an animal.</think>\n**bat** (noun): an animal that flies at night"
    server.reply = lambda number, body: Reply(text=text)
    requests = requests_of(server, [1])
    answer_all(requests, cache, settings_of(server, batch=False), "paper")
    answer = cache.answer(key_of(request_of(1), server.url))
    assert answer["text"] == text
    assert definition_in(answer, SETTINGS, "bat") == ("an animal that flies at night", None)


def test_messages_without_a_text_say_why():
    request = request_of(1)

    def flag_of(**message):
        finish = message.pop("finish", "stop")
        completion = {"choices": [{"message": message, "finish_reason": finish}]}
        return definition_in(answer_in(completion, request), SETTINGS)[1]

    assert flag_of(content=None, reasoning_content="hm", finish="length") == "overlong"
    assert flag_of(content="", tool_calls=[]) == "empty"
    assert flag_of(content="<think>so") == "empty"
    assert flag_of(content="- an animal\n- a club") == "several"
    assert flag_of(content="I'm unable to define it.") == "refused"
    assert flag_of(content="<think>x</think>I'm sorry, no.") == "refused"
