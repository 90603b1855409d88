"""OpenAI's API as it is today: models that are shut down, parameters that are refused, reasons for which it says no."""

import asyncio
import json
import logging
from datetime import timedelta

import pytest
from openai_client import CANARY, quick_server
from openai_server import Reply
from test_batches_api import requests_of
from test_definitions import PHRASES, SETTINGS, _all_texts, _kept, _write
from test_definitions_plan import plan, visual

from polclip.definitions import client, known_models
from polclip.definitions.answers import answer_all, budget_of
from polclip.definitions.cache import AnswerCache
from polclip.definitions.cost import Price, limit_of, price_of
from polclip.definitions.known_models import is_openai, known_model
from polclip.definitions.model_check import model_report
from polclip.definitions.plan import write_plan_table
from polclip.errors import UserError

TODAY = known_models.today()


@pytest.fixture
def chat(monkeypatch):
    with quick_server(monkeypatch, timeout=60) as server:
        yield server


def days_from_now(days):
    return (TODAY + timedelta(days=days)).isoformat()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"max_tokens": 60, "max_completion_tokens": None},
            r"parameters\.max_tokens: .*unsupported_parameter.*write max_c",
        ),
        ({"reasoning_effort": "low"}, r"parameters\.temperature: .*unsupported_value.*set reasoning_effort to none"),
        ({"reasoning_effort": None}, r"parameters\.temperature: .*\(temperature: null\)"),
        ({"reasoning_effort": "little"}, r"parameters\.reasoning_effort: .*write an effort that the model knows"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_a_parameter_that_the_model_refuses_is_named(tmp_path, chat, parameters, said, batch):
    settings = {"base_url": chat.url, "parameters": SETTINGS["parameters"] | parameters, "batch": batch}
    if batch:
        said = r"does not take 2 of the requests \(HTTP 400, unsupported_.*definitions\.parameters"
    with pytest.raises(UserError, match=said):
        _write(tmp_path, PHRASES[:2], **settings)
    assert chat.paid == 0


def test_reasoning_is_paid_for_and_may_use_up_the_limit(tmp_path, chat, caplog):
    parameters = {"max_completion_tokens": 1000, "reasoning_effort": "low"}
    lines, cost = _write(tmp_path, PHRASES[:1], base_url=chat.url, parameters=parameters)
    assert (lines[0]["tokens_out"], lines[0]["flag"]) == (210, None)
    assert lines[0]["tokens_reasoning"] == cost["tokens_reasoning"] == 200
    assert cost["usd"] == pytest.approx((50 * 1 + 210 * 2) / 1e6)
    lines, cost = _write(
        tmp_path, PHRASES[:1], base_url=chat.url, parameters=parameters | {"max_completion_tokens": 60}
    )
    assert (lines[0]["tokens_out"], lines[0]["flag"], cost["tokens_out"]) == (60, "overlong", 60)
    assert "1 answers are empty, since reasoning used up the limit" in caplog.text


def test_the_limit_bounds_the_cost_with_reasoning(tmp_path):
    parameters = {"max_completion_tokens": 3000, "reasoning_effort": "high"}
    _, planned = plan(tmp_path, [visual(0, "bat", "bat club")], parameters=parameters)
    assert planned["most_tokens_out"] == 3000
    assert planned["usd"]["gpt-6-luna"]["most"] == (planned["most_tokens_in"] * 1 + 3000 * 2) / 1e6
    text = write_plan_table([tmp_path / "vwsd.plan.json"], tmp_path / "t.tsv", tmp_path / "t.txt")
    assert "With reasoning, the limit of 3000 tokens may be used up" in text.splitlines()[0]
    assert limit_of({"max_tokens": 5, "max_completion_tokens": 9}) == 9 and limit_of({"max_tokens": None}) is None
    with pytest.raises(UserError, match=r"nothing limits the length .*parameters: \{max_completion_tokens: 60\}"):
        plan(tmp_path, [visual(0, "bat", "bat club")], parameters={})


def test_a_server_of_ones_own_may_be_asked_without_a_limit(tmp_path, chat):
    own = {"base_url": chat.url, "model": "own-model", "prices": {}, "parameters": {"temperature": 0.2}}
    lines, _ = _write(tmp_path, PHRASES[:1], **own)
    assert lines[0]["definition"] == "a definition"
    assert {*chat.requests[0]} == {"model", "messages", "temperature"}
    text = write_plan_table([tmp_path / "plan.json"], tmp_path / "t.tsv", tmp_path / "t.txt")
    assert "No price is known: its tokens count as 0 USD, so definitions.max_usd does not hold them." in text


@pytest.mark.parametrize(
    ("model", "parameters", "warned"),
    [
        ("gpt-6-luna", {"max_completion_tokens": 60, "reasoning_effort": "none"}, False),
        ("gpt-6-luna", {"max_completion_tokens": 60}, True),  # it reasons unless it is told not to
        ("gpt-6-luna", {"max_completion_tokens": 8000, "reasoning_effort": "low"}, False),
        ("gpt-4o-mini", {"max_completion_tokens": 60}, False),
        ("gpt-4o-mini", {"max_completion_tokens": 60, "reasoning_effort": "low"}, True),
    ],
)
def test_the_plan_warns_where_reasoning_has_no_room(tmp_path, model, parameters, warned):
    plan(tmp_path, [visual(0, "bat", "bat club")], model=model, parameters=parameters)
    text = write_plan_table([tmp_path / "vwsd.plan.json"], tmp_path / "t.tsv", tmp_path / "t.txt")
    assert ("With reasoning, the limit of 60 tokens" in text) == warned


def test_a_price_that_is_not_known_elsewhere_is_warned_of(tmp_path, caplog):
    settings = SETTINGS | {"model": "some/model", "base_url": "https://llm.invalid/v1"}
    with AnswerCache(tmp_path / "cache") as cache:
        budget_of(cache, settings | {"base_url": "http://localhost:1/v1"}, "paper")
        budget_of(cache, SETTINGS, "paper")
        assert not caplog.text
        budget_of(cache, settings, "paper")
    assert "no price of some/model is known, so definitions.max_usd does not hold" in caplog.text


@pytest.mark.parametrize(
    "model", ["gpt-3.5-turbo-1106", "ft:gpt-3.5-turbo-1106:someone::id", "gpt-4.1-nano-2025-04-14"]
)
@pytest.mark.parametrize("batch", [False, True])
def test_a_model_that_is_shut_down_is_not_asked(tmp_path, monkeypatch, model, batch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)  # not even the key is looked for
    prices = {"prices": {} if "nano" in model or model.startswith("ft") else SETTINGS["prices"]}
    with pytest.raises(UserError, match=r"OpenAI shut '.*' down on 2026-.* Set definitions\.model to .*gpt-6-luna"):
        _write(tmp_path, PHRASES[:1], model=model, batch=batch, **prices)
    text = write_plan_table([tmp_path / "plan.json"], tmp_path / "t.tsv", tmp_path / "t.txt")
    assert "It cannot be asked: OpenAI shut it down on 2026-" in text.splitlines()[0]


def test_answers_of_a_model_that_is_gone_are_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(known_models, "today", lambda: TODAY - timedelta(days=400))
    old = {"model": "gpt-3.5-turbo-1106", "parameters": {"max_tokens": 60}}

    async def answered(*_):
        return {"text": "a definition", "refusal": None, "finish_reason": "stop", "tokens_in": 1, "tokens_out": 1} | {
            "served_by": "x", "date": "2025-01-01", "seconds": 1.0, "tokens_reasoning": 0
        }  # fmt: skip

    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setattr("polclip.definitions.answers.ask", answered)

    async def no_check(*_):
        pass

    monkeypatch.setattr("polclip.definitions.answers.check_model", no_check)
    _write(tmp_path, PHRASES[:1], **old)
    monkeypatch.setattr(known_models, "today", lambda: TODAY)
    assert _write(tmp_path, PHRASES[:1], **old)[0][0]["definition"] == "a definition"


def test_the_server_is_asked_for_the_day_of_the_shutdown(tmp_path, chat, caplog):
    caplog.set_level(logging.WARNING)
    chat.shutdown_dates["gpt-6-luna"] = days_from_now(400)
    _write(tmp_path, PHRASES[:1], base_url=chat.url)
    assert chat.listings == 1 and not caplog.messages
    chat.shutdown_dates["gpt-6-luna"] = days_from_now(20)
    _write(tmp_path, PHRASES[:2], base_url=chat.url)
    assert caplog.messages == [
        f"definitions.model: 'gpt-6-luna' will be shut down on {days_from_now(20)}, in 20 days; no new answers come "
        "after that."
    ]
    chat.shutdown_dates["gpt-6-luna"] = days_from_now(-1)
    with pytest.raises(UserError, match=rf"shut 'gpt-6-luna' down on {days_from_now(-1)}"):
        _write(tmp_path, PHRASES[:3], base_url=chat.url)
    assert len(chat.requests) == 2
    _write(tmp_path, PHRASES[:2], base_url=chat.url)  # kept
    assert chat.listings == 3


def test_a_server_without_a_list_of_models_is_not_complained_of(tmp_path, chat, caplog):
    caplog.set_level(logging.WARNING)
    chat.lists_models = False
    assert _write(tmp_path, PHRASES[:1], base_url=chat.url)[0][0]["definition"] == "a definition"
    for odd in ({"data": None}, {"data": [None]}, [], {"data": [{"id": "gpt-6-luna", "shutdown_date": 7}]}):
        chat.lists_models, chat.odd_listing = True, odd
        _write(tmp_path, [("bat", f"bat {json.dumps(odd)}")], base_url=chat.url)
    assert not caplog.messages


def test_the_setup_says_whether_the_model_answers(chat, monkeypatch):
    def report(model, base_url=chat.url):
        return model_report({"model": model, "base_url": base_url})

    assert report("gpt-6-luna") == f"gpt-6-luna: {chat.url} has it, and names no day of its shutdown"
    assert report("gpt-5-nano") == f"gpt-5-nano: {chat.url} has it, until 2026-12-11"
    assert "not in the list of models" in report("gpt-unheard-of")
    chat.shutdown_dates["gpt-6-luna"] = days_from_now(-3)
    assert f"shut 'gpt-6-luna' down on {days_from_now(-3)}" in report("gpt-6-luna")
    assert "has no list of models: definitions.base_url" in report("x", chat.url.removesuffix("/v1"))
    chat.lists_models = False
    assert report("x") == f"x: {chat.url} has no list of models"
    assert "cannot be reached" in report("x", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert report("gpt-6-luna", "").startswith("gpt-6-luna: no day of its shutdown is known (looked up on 2026-")
    assert report("gpt-4o", "").startswith("gpt-4o: shut down on 2027-01-14 (looked up on 2026-")
    assert "OpenAI shut 'gpt-3.5-turbo-1106' down" in report("gpt-3.5-turbo-1106", "")
    assert "not in the table of models" in report("gpt-unheard-of", "")


def test_what_is_known_of_a_model():
    assert price_of("gpt-6-luna", {}) == price_of("gpt-6-luna-2026-09-22", {}) == Price(0.1, 0.5)
    assert price_of("gpt-6-luna", {"gpt-6-luna": {"tokens_in": 7, "tokens_out": 8}}) == Price(7, 8)
    assert price_of("gpt-6-luna", {}, "http://localhost:1/v1") == Price()
    assert price_of("gpt-6-luna", {}, "https://eu.api.openai.com/v1") == Price(0.1, 0.5)
    assert known_model("gpt-6-luna").shutdown is None and known_model("gpt-6-luna", "http://localhost:1/v1") is None
    assert known_model("ft:gpt-4o-2024-08-06:me::x").shutdown.isoformat() == "2027-01-14"
    assert known_model("gpt-unheard-of") is None
    with pytest.raises(UserError, match=r"OpenAI shut 'o1' down on 2026-10-23"):
        price_of("o1", {})
    with pytest.raises(UserError, match=r"prices: \{ft:gpt-4o-2024-08-06: \{tokens_in: \.\.\., tokens_out: \.\.\.\}\}"):
        price_of("ft:gpt-4o-2024-08-06:me::x", {})
    for model in known_models.known_models().values():
        assert model.source.startswith("https://developers.openai.com/") and model.looked_up.year == 2026
    assert is_openai("") and is_openai("https://api.openai.com/v1") and not is_openai("https://api.openai.com.x.org/v1")


@pytest.mark.parametrize("code", ["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"])
def test_without_credit_nothing_is_tried_again(tmp_path, chat, code):
    chat.reply = lambda number, body: Reply(status=429, error={"message": CANARY, "code": code})
    with pytest.raises(UserError, match=rf"no credit left \(HTTP 429, {code}\)"):
        _write(tmp_path, base_url=chat.url, at_once=1)
    assert len(chat.requests) == 1


def test_a_rate_limit_is_tried_again(tmp_path, chat):
    busy = Reply(status=429, error={"message": "insufficient_quota is not it", "code": "rate_limit_exceeded"})
    chat.reply = lambda number, body: busy if number < 3 else Reply()
    _write(tmp_path, PHRASES[:1], base_url=chat.url)
    assert len(chat.requests) == 4


def test_a_batch_without_credit_is_not_submitted_again(tmp_path, chat):
    chat.reply = lambda number, body: Reply(status=429, error={"message": CANARY, "code": "insufficient_quota"})
    settings = SETTINGS | {"base_url": chat.url, "batch": True}
    with AnswerCache(tmp_path / "cache") as cache, pytest.raises(UserError, match="HTTP 429, insufficient_quota"):
        answer_all(requests_of(chat, range(3)), cache, settings, "paper")
    assert len(chat.batches) == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "",
            r"base_url: http.* probably lacks the end of its path, mostly /v1; write http://127\.0\.0\.1:\d+/v1\.",
        ),
        ("/", r"write http://127\.0\.0\.1:\d+/v1\."),
        ("/api", r"mostly /v1; compare it with the server's manual"),
        ("/v2", r"/v2 may be a wrong address, or 'gpt-6-luna' \(definitions\.model\) not be there"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_an_address_without_its_end_is_named(tmp_path, chat, path, said, batch):
    address = chat.url.removesuffix("/v1") + path
    if batch and path == "/v2":
        said = "has no Batch API"
    with pytest.raises(UserError, match=said):
        _write(tmp_path, PHRASES[:1], base_url=address, batch=batch)


def test_a_model_that_is_not_there_is_not_blamed_on_the_address(tmp_path, chat):
    for error in (
        {"message": "The model `gpt-6-luna` does not exist.", "code": 404, "type": "NotFoundError", "param": None},
        {"message": "no such thing", "code": "model_not_found"},
        {"message": "no such thing", "code": None, "param": "model"},
    ):
        chat.reply = lambda number, body, error=error: Reply(status=404, error=error)
        with pytest.raises(UserError, match=r"has no model 'gpt-6-luna' for this key"):
            _write(tmp_path, PHRASES[:1], base_url=chat.url)


def test_a_page_where_the_api_should_be_names_the_address(tmp_path, chat, monkeypatch):
    chat.reply = lambda number, body: Reply(body=b"<html></html>")
    monkeypatch.setattr(client, "UNREADABLE_WAIT", 0)
    with pytest.raises(UserError, match="does not answer as OpenAI's API does"):
        _write(tmp_path, PHRASES[:1], base_url=chat.url)


def test_a_code_that_holds_the_key_is_not_shown(tmp_path, chat, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret_word")
    chat.reply = lambda number, body: Reply(status=403, error={"message": "no", "code": "no_secret_word_here"})
    with pytest.raises(UserError, match=r"\(HTTP 403\)") as caught:
        _write(tmp_path, PHRASES[:1], base_url=chat.url)
    assert "secret_word" not in _all_texts(caught.value) and _kept(tmp_path) == 0


def test_a_closed_address_names_the_proxy(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "RETRIES", 0)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("http_proxy", raising=False)
    with pytest.raises(UserError, match=r"cannot be reached through the proxy that HTTP_PROXY names"):
        _write(tmp_path, PHRASES[:1], base_url="http://localhost.invalid:1/v1")


def test_nothing_is_left_open_by_a_check(chat):
    async def look():
        async with client.connect(chat.url) as asking:
            return await known_day(asking)

    async def known_day(asking):
        from polclip.definitions.model_check import shutdown_at_server

        return await shutdown_at_server(asking, "gpt-5-nano")

    assert asyncio.run(look()).isoformat() == "2026-12-11"
