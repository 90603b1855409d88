import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openai_client import CANARY, quick_server
from openai_server import Reply
from tiny_wordnet import tiny_inventory

from polclip.definitions import client
from polclip.definitions.cache import AnswerCache
from polclip.definitions.cost import Price, price_of
from polclip.definitions.glosses import fitting_gloss
from polclip.definitions.plan import plan_definitions
from polclip.definitions.write import write_definitions
from polclip.errors import UserError
from polclip.files import read_json, read_json_lines
from polclip.records import VisualInstance, write_records

SETTINGS = {
    "source": "openai",
    "model": "gpt-6-luna",
    "base_url": "",
    "system": "You define words.",
    "prompt": 'Define "{word}" in "{phrase}".',
    "parameters": {"max_completion_tokens": 60, "reasoning_effort": "none", "temperature": 0, "max_tokens": None},
    "language": "en",
    "requests_per_minute": 60_000,
    "at_once": 4,
    "batch": False,
    "max_usd": 5,
    "prices": {
        "gpt-6-luna": {"tokens_in": 1, "tokens_out": 2},
        "gpt-4o-mini-2024-07-18": {"tokens_in": 1, "tokens_out": 2, "training": 8},
        "ft:gpt-4o-mini-2024-07-18": {"tokens_in": 3, "tokens_out": 6},
    },
    "finetuning": {"corpus": "none"},
}
PHRASES = [("bat", f"bat {number}") for number in range(12)]


@pytest.fixture
def chat(monkeypatch):
    with quick_server(monkeypatch, timeout=60) as server:
        yield server


def _instances(folder, queries, language="en"):
    path = folder / "instances.parquet"
    ids = [f"p:{number}" for number in range(10)]
    write_records(
        path,
        VisualInstance,
        [VisualInstance(f"q.{at}", language, word, phrase, ids, ids[0]) for at, (word, phrase) in enumerate(queries)],
    )
    return path


def _write(folder, queries=PHRASES, language="en", released=None, run="paper", **settings):
    lines, cost = folder / "out.jsonl", folder / "out.cost.json"
    lines.unlink(missing_ok=True)
    settings, instances = SETTINGS | settings, _instances(folder, queries, language)
    if settings["source"] == "openai":
        plan_definitions(instances, VisualInstance, folder / "requests.jsonl", folder / "plan.json", settings)
    write_definitions(
        instances,
        VisualInstance,
        lines,
        cost,
        settings,
        inventory=tiny_inventory(folder),
        released=released,
        requests=folder / "requests.jsonl",
        cache=folder / "cache",
        run=run,
    )
    return list(read_json_lines(lines)), read_json(cost)


def _kept(folder):
    """How many answers are kept."""
    with sqlite3.connect(folder / "cache" / "answers.sqlite") as database:
        return database.execute("SELECT COUNT(*) FROM answers").fetchone()[0]


def test_none_needs_no_key_and_no_client(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    lines, cost = _write(tmp_path, PHRASES[:2], source="none")
    assert lines[1] == {"instance_id": "q.1", "definition": None, "source": "none", "model": None, "flag": None}
    assert (cost["source"], cost["instances"], cost["defined"], cost["flags"]) == ("none", 2, 0, {})
    assert cost["requests"] == cost["usd"] == 0
    program = (
        "import sys; sys.modules['openai'] = sys.modules['ijson'] = None\n"  # importing them would fail
        "from polclip.definitions.write import write_definitions\n"
        "from polclip.records import VisualInstance\n"
        "write_definitions(sys.argv[1], VisualInstance, *sys.argv[2:4], {'source': 'none'})"
    )
    again = tmp_path / "again.jsonl"
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "instances.parquet", again, tmp_path / "again.cost.json"],
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert again.read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def test_wordnet_gives_the_gloss_that_the_phrase_fits(tmp_path):
    queries = [
        ("bat", "bat hits balls"),  # in other forms than the gloss
        ("Bats", "flittermouse bats"),  # by a lemma of its synset
        ("bat", "bat with a"),  # function words do not count
        ("cave", "dark cave"),  # one sense
        ("zebra", "zebra animal"),
    ]
    lines, cost = _write(tmp_path, queries, source="wordnet")
    assert [(line["definition"], line["flag"]) for line in lines] == [
        ("a club for hitting a ball", None),
        ('a winged animal of the night (some say "a mouse with wings")', None),
        (None, "no_overlap"),
        ("a hollow under a hill", None),
        (None, "unknown_word"),
    ]
    assert cost["requests"] == 0 and lines[0]["source"] == "wordnet" and lines[0]["model"] is None
    inventory = tiny_inventory(tmp_path)
    inventory.synset_columns["lemmas"][0].append("living_creature")  # of animal, a hypernym
    query = VisualInstance("q", "en", "bat", "bat creatures", [], "")
    assert fitting_gloss(query, inventory) == (lines[1]["definition"], None)
    lines, _ = _write(tmp_path, [("bat", "bat ball")], "it", source="wordnet")
    assert lines[0]["flag"] == "not_english"


def test_released_lines_are_matched_by_word_and_phrase(tmp_path):
    def line(user, assistant):
        messages = [("system", "bat 1"), ("user", user), ("assistant", assistant)]
        return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]})

    corpus = tmp_path / "released.jsonl"
    corpus.write_text(
        "\n".join(
            [
                line('What does "winged" mean in "winged bat"?', "of another word"),
                line('What does "bat" mean in "large winged bat"?', "of a longer phrase"),
                line('What is the meaning of "Bat" in "Winged Bat"?', " an  animal "),
                line('What does "bat" mean in "winged bat"?', "a second one"),
                line("Explain winged bat.", "does not name the word"),
            ]
        ),
        encoding="utf-8",
    )
    queries = [("bat", "winged bat"), ("bat", "large winged bat"), ("bat", "bat 1")]
    lines, _ = _write(tmp_path, queries, source="released", released=corpus)
    assert [(row["definition"], row["flag"]) for row in lines] == [
        ("an animal", None),
        ("of a longer phrase", None),
        (None, "not_released"),
    ]
    corpus.write_text('{"messages": [{"role": "user", "content": "x"}]}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 1: not a chat"):
        _write(tmp_path, queries, source="released", released=corpus)


def test_a_rerun_pays_nothing_and_needs_no_key(tmp_path, chat, monkeypatch):
    chat.reply = lambda number, body: Reply(text=f" about\n{body['messages'][1]['content']}")
    queries = [*PHRASES, PHRASES[0]]  # asked once
    lines, cost = _write(tmp_path, queries, base_url=chat.url)
    assert chat.paid == len(PHRASES) == _kept(tmp_path)
    assert (
        lines[3]["definition"] == 'about Define "bat" in "bat 3".' and lines[12]["definition"] == lines[0]["definition"]
    )
    assert (lines[0]["source"], lines[0]["model"], lines[0]["flag"]) == ("openai", "gpt-6-luna", None)
    usd = (50 * 1 + 10 * 2) / 1e6
    assert cost | {"seconds": 0} == {
        **{"corpus": tmp_path.name, "split": "instances", "source": "openai", "model": "gpt-6-luna"},
        **{"instances": 13, "defined": 13, "flags": {}, "requests": 12, "tokens_in": 600, "tokens_out": 120},
        "tokens_reasoning": 0,
        **{"usd": pytest.approx(12 * usd), "seconds": 0},
    }
    assert cost["seconds"] > 0
    about = {key: lines[3][key] for key in ("prompt", "text", "served_by", "tokens_in", "tokens_out", "usd")}
    assert about == {
        **{"prompt": 'Define "bat" in "bat 3".', "text": ' about\nDefine "bat" in "bat 3".'},
        **{"served_by": "gpt-6-luna", "tokens_in": 50, "tokens_out": 10, "usd": pytest.approx(usd)},
    }
    assert abs(datetime.now(UTC) - datetime.fromisoformat(lines[3]["date"])).seconds < 60 and lines[3]["seconds"] > 0
    assert chat.requests[0]["messages"][0] == {"role": "system", "content": "You define words."}
    sent = {name: value for name, value in chat.requests[0].items() if name not in ("model", "messages")}
    assert sent == {"max_completion_tokens": 60, "reasoning_effort": "none", "temperature": 0}

    monkeypatch.delenv("OPENAI_API_KEY")
    assert _write(tmp_path, queries, base_url=chat.url) == (lines, cost)
    assert len(chat.requests) == len(PHRASES)
    other = SETTINGS["parameters"] | {"temperature": 1}  # another parameter, another question
    _write(tmp_path, queries[:1], base_url=chat.url, parameters=other)
    assert len(chat.requests) == len(PHRASES) + 1


def test_passing_troubles_are_tried_again(tmp_path, chat):
    troubles = [
        Reply(status=429, headers={"Retry-After": "0.05"}),
        Reply(status=500),
        Reply(cut=True),
        Reply(status=503),
    ]
    chat.reply = lambda number, body: troubles[number] if number < len(troubles) else Reply()
    lines, cost = _write(tmp_path, PHRASES[:1], base_url=chat.url)
    assert lines[0]["definition"] == "a definition"
    assert (len(chat.requests), chat.paid, cost["requests"]) == (5, 1, 1)


def test_answers_of_no_use_are_kept_flagged(tmp_path, chat):
    replies = {
        "bat 0": Reply(text=None, refusal="I will not."),
        "bat 1": Reply(text="I'm sorry, but I cannot help with that."),
        "bat 2": Reply(text=" \n"),
        "bat 3": Reply(text="a winged animal of the", finish="length"),
        "bat 4": Reply(text="", finish="content_filter"),
        "bat 5": Reply(status=400, error={"message": "filtered", "code": "content_filter"}),
        "bat 6": Reply(usage=None),
    }
    chat.reply = lambda number, body: replies[body["messages"][1]["content"].split('"')[3]]
    lines, cost = _write(tmp_path, PHRASES[:7], base_url=chat.url)
    assert [line["flag"] for line in lines] == ["refused", "refused", "empty", "overlong", "refused", "refused", None]
    assert [line["definition"] for line in lines] == [None] * 6 + ["a definition"]
    assert cost["requests"] == 7 and cost["defined"] == 1
    assert cost["flags"] == {"refused": 4, "empty": 1, "overlong": 1}
    assert (lines[3]["text"], lines[1]["text"][:9]) == ("a winged animal of the", "I'm sorry")  # as they came
    assert lines[5]["usd"] == lines[5]["tokens_in"] == 0
    assert cost["tokens_out"] == 5 * 10 + 0 + 60  # uncounted ones at their most
    asked = len(chat.requests)
    _write(tmp_path, PHRASES[:7], base_url=chat.url)
    assert len(chat.requests) == asked


def test_a_run_cut_off_keeps_every_paid_answer(tmp_path, chat):
    chat.reply = lambda number, body: Reply(status=400) if number == 6 else Reply()
    with pytest.raises(UserError, match=r"does not take the request \(HTTP 400\)"):
        _write(tmp_path, base_url=chat.url)
    assert 6 <= chat.paid < 12 and _kept(tmp_path) == chat.paid
    assert not (tmp_path / "out.jsonl").exists()
    chat.reply = lambda number, body: Reply()
    assert len(_write(tmp_path, base_url=chat.url)[0]) == chat.paid == _kept(tmp_path) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_under_way_comes_in_when_the_run_is_stopped(tmp_path, chat, number):
    def stop_at_the_sixth(at, body):
        if at == 6:
            os.kill(os.getpid(), number)
            time.sleep(0.2)  # so that the answer comes in later
        return Reply()

    chat.reply = stop_at_the_sixth
    with pytest.raises(UserError, match=r"Stopped\. What was under way has come in"):
        _write(tmp_path, base_url=chat.url)
    assert 7 <= chat.paid == _kept(tmp_path) < 12
    _write(tmp_path, base_url=chat.url)
    assert chat.paid == _kept(tmp_path) == 12


def test_a_damaged_cache_is_named_and_nothing_is_paid(tmp_path, chat):
    _write(tmp_path, PHRASES[:2], base_url=chat.url)
    (tmp_path / "cache" / "answers.sqlite").write_bytes(b"not a database, whatever its name may say" * 100)
    with pytest.raises(UserError, match=r"answers.sqlite, where paid answers are kept, cannot be used"):
        _write(tmp_path, PHRASES[:2], base_url=chat.url)
    assert chat.paid == 2


def test_the_budget_is_that_of_all_jobs_of_a_run(tmp_path, chat):
    # About 80 bytes in (at most a token each) and 60 tokens out: 0.0002 USD at most, 0.00007 in truth.
    with pytest.raises(
        UserError, match=r"max_usd: 0.0006 USD do not suffice: this run has paid 0.000\d USD for \d ans"
    ):
        _write(tmp_path, base_url=chat.url, max_usd=0.0006)
    paid = chat.paid
    assert 1 <= paid <= 8 and _kept(tmp_path) == paid and not (tmp_path / "out.jsonl").exists()
    assert _write(tmp_path, base_url=chat.url, max_usd=5)[1]["requests"] == 12 and chat.paid == 12
    assert len(_write(tmp_path, base_url=chat.url, max_usd=0)[0]) == 12  # all paid for
    with pytest.raises(UserError, match=r"has paid 0\.0008 USD for 12 answers"):  # what was paid before counts
        _write(tmp_path, [*PHRASES, ("bat", "new")], base_url=chat.url, max_usd=0.00085)
    # Another run pays for what it asks anew, and only that.
    _, cost = _write(tmp_path, [*PHRASES, ("bat", "new")], base_url=chat.url, max_usd=0.00085, run="second")
    assert chat.paid == 13 and cost["requests"] == 13
    with AnswerCache(tmp_path / "cache") as cache:
        assert cache.paid_by("second") == (1, pytest.approx(0.00007))


def test_with_money_for_100_answers_at_most_100_are_asked_for(tmp_path, chat):
    queries = [("bat", f"bat {number:03}") for number in range(150)]
    usd = 100 * (50 * 1 + 10 * 2) / 1e6
    with pytest.raises(
        UserError, match=r"has paid 0.00\d+ USD for \d+ answers. They are kept .* raise max_usd, and run"
    ):
        _write(tmp_path, queries, base_url=chat.url, max_usd=usd, at_once=32)
    assert 80 < len(chat.requests) <= 100 and _kept(tmp_path) == len(chat.requests)
    _write(tmp_path, queries, base_url=chat.url)
    assert len(chat.requests) == chat.paid == 150


def test_prices(chat, tmp_path):
    prices = SETTINGS["prices"]
    assert price_of("ft:gpt-4o-mini-2024-07-18:someone::id", prices) == Price(3, 6)
    with pytest.raises(UserError, match=r"price of 'gpt-unheard-of' is not known.*Known: gpt-6-luna, gpt-4o-mini"):
        price_of("gpt-unheard-of", prices)
    _, cost = _write(tmp_path, PHRASES[:1], base_url=chat.url, model="own-model", max_usd=0)
    assert (cost["usd"], cost["requests"], cost["tokens_in"], cost["tokens_out"]) == (0, 1, 50, 10)


@pytest.mark.parametrize("key", [None, "  "])
def test_a_missing_key_is_one_sentence(tmp_path, monkeypatch, key):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match=r"OPENAI_API_KEY is not set: type `export .*no other step needs a key"):
        _write(tmp_path)


def test_a_server_without_keys_is_asked_without(tmp_path, chat, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert _write(tmp_path, PHRASES[:1], base_url=chat.url)[0][0]["definition"] == "a definition"
    chat.reply = lambda number, body: Reply(status=401)
    with pytest.raises(UserError, match=r"OPENAI_API_KEY is not set, and http.*wants one"):
        _write(tmp_path, PHRASES[1:2], base_url=chat.url)


def _all_texts(error):
    """Everything an error could say in a log: itself, its causes, what it was raised during."""
    texts, waiting = [], [error]
    while waiting:
        one = waiting.pop()
        texts += [str(one), repr(one), repr(vars(one)), "".join(traceback.format_exception(one))]
        waiting += [other for other in (one.__cause__, one.__context__) if other]
    return "\n".join(texts)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(status=401, error={"message": f"Incorrect API key provided: {CANARY}", "code": CANARY}),
            "is refused by",
        ),
        (Reply(status=403, error={"message": CANARY}), r"does not allow the request \(HTTP 403\): its project"),
        (
            Reply(status=403, error={"message": CANARY, "code": "unsupported_country_region_territory"}),
            r"does not serve the country .*\(HTTP 403, unsupported_country_region_territory\)",
        ),
        (Reply(status=404, error={"message": CANARY, "code": "model_not_found"}), "has no model 'gpt-6"),
        (Reply(status=400, error={"message": CANARY, "code": CANARY}), "does not take the request .HTTP 400.:"),
        (Reply(status=429, error={"message": CANARY, "code": "insufficient_quota"}), "no credit left"),
        (Reply(status=500, error={"message": CANARY}), r"still does not answer after 2 tries \(HTTP 500\)"),
        (Reply(cut=True), "cannot be reached"),
        (Reply(body=b"<html>" + CANARY.encode()), "does not answer as OpenAI's API does"),
    ],
)
def test_the_key_appears_nowhere(tmp_path, chat, caplog, capsys, monkeypatch, reply, message):
    monkeypatch.setattr(client, "RETRIES", 1)
    caplog.set_level(logging.DEBUG)
    chat.reply = lambda number, body: Reply() if number == 0 else reply
    _write(tmp_path, PHRASES[:1], base_url=chat.url)
    with pytest.raises(UserError, match=message) as caught:
        _write(tmp_path, PHRASES[1:2], base_url=chat.url)
    assert chat.keys[0] == f"Bearer {CANARY}"  # it is used
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(CANARY.encode() in content for content in files)
    assert CANARY not in _all_texts(caught.value)
    assert CANARY not in caplog.text + "".join(capsys.readouterr())


def test_keys_that_no_header_can_hold_are_not_shown(tmp_path, chat, monkeypatch):
    monkeypatch.setattr(client, "RETRIES", 0)
    for key in (CANARY + "\u00e9\u4e2d", CANARY + "\n" + CANARY):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(UserError) as caught:
            _write(tmp_path, PHRASES[:1], base_url=chat.url)
        assert CANARY not in _all_texts(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "babelnet"}, "Allowed: none, openai, released, wordnet"),
        ({"prompt": "Define {word} in {sentence}"}, r"Allowed: a text with {word} and {phrase}"),
        ({"prompt": "Define {word}"}, "definitions.prompt"),
        ({"prompt": "Define {word} in {phrase"}, "definitions.prompt"),
        ({"base_url": f"http://me:{CANARY}@localhost/v1"}, "leave out name and password"),
        ({"source": "released"}, "dgpt_corpus"),
    ],
)
def test_wrong_settings_are_named(tmp_path, chat, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        _write(tmp_path, **settings)
    assert CANARY not in _all_texts(caught.value) and not chat.requests
