"""Fine-tuning: one job for the same data and settings, whatever ends the process, whoever starts beside it."""

import json
import logging
import os
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from threading import Thread

import pytest
from openai_client import CANARY, quick_server, start_program, wait_until
from openai_server import Reply, random_trouble
from test_definitions import SETTINGS, _all_texts
from test_dgpt_corpus import FINETUNING, TUNABLE
from tiny_project import command, make_mirror, make_project, planned, surroundings, write_yaml

from polclip.definitions import client, finetuning, server_jobs
from polclip.definitions.cache import AnswerCache
from polclip.definitions.cost import price_of
from polclip.definitions.finetuning import finetune
from polclip.definitions.known_models import FINETUNING_ENDS
from polclip.errors import UserError
from polclip.files import read_json, sha256

# What a process does that may be killed when it has started a job, or never.
PROGRAM = """
import json, os, signal, sys
from polclip.definitions import finetuning, server_jobs
from polclip.definitions.cache import AnswerCache
given = json.loads(sys.argv[1])
server_jobs.FIRST_LOOK = server_jobs.LONGEST_LOOK = server_jobs.LOCK_WAIT = 0.02
if given.pop("killed"):
    async def start_once(*values, start=finetuning.start_once):
        await start(*values)
        os.kill(os.getpid(), signal.SIGKILL)
    finetuning.start_once = start_once
with AnswerCache(given.pop("cache")) as cache:
    finetuning.finetune(cache=cache, **given)
"""


@pytest.fixture
def server(monkeypatch):
    with quick_server(monkeypatch) as running:
        running.fine_tuning_open = True
        yield running


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl", 12)


@pytest.fixture
def cache(tmp_path):
    with AnswerCache(tmp_path / "cache") as kept:
        yield kept


def write_corpus(path, lines):
    def chat(number):
        said = ("system", "Define."), ("user", f"bat {number}"), ("assistant", "an animal of the night")
        return {"messages": [{"role": role, "content": content} for role, content in said]}

    path.write_text("".join(json.dumps(chat(number)) + "\n" for number in range(lines)), encoding="utf-8")
    return path


def settings_of(server, **finetuning):
    return SETTINGS | {"model": TUNABLE, "base_url": server.url, "finetuning": FINETUNING | finetuning}


def tune(server, corpus, cache, **finetuning):
    """What `finetune` writes."""
    model = corpus.with_name("model.json")
    model.unlink(missing_ok=True)
    finetune(corpus, model, settings_of(server, **finetuning), cache)
    return read_json(model)


def start(server, corpus, cache, killed=False):
    given = {"corpus": str(corpus), "model": str(corpus.with_name("started.json")), "settings": settings_of(server)}
    given |= {"cache": str(cache.folder), "killed": killed}
    return start_program(PROGRAM, given)


def uploads(server):
    return server.others.count(("POST", "/v1/files"))


def test_a_model_is_fine_tuned_once_and_written_again_for_nothing(server, corpus, cache, monkeypatch):
    written = tune(server, corpus, cache, epochs=2, seed=7)
    (job,) = server.jobs.values()
    assert written["model"] == job["fine_tuned_model"] and written["model"].startswith(
        "ft:gpt-4o-mini-2024-07-18:org:dgpt:"
    )
    assert (written["job_id"], written["base"], written["corpus"]) == (job["id"], job["model"], sha256(corpus))
    assert (written["epochs"], written["seed"]) == (2, 7) and job["hyperparameters"]["n_epochs"] == 2
    assert job["seed"] == 7 and server.contents[job["training_file"]] == corpus.read_bytes()
    assert written["trained_tokens"] == job["trained_tokens"]
    assert written["usd"] == pytest.approx(job["trained_tokens"] * 8 / 1e6, abs=1e-4)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(written["date"])).seconds < 60
    assert written["seconds"] == job["finished_at"] - job["created_at"]
    assert price_of(written["model"], SETTINGS["prices"]).tokens_in == 3
    asked = len(server.others)
    monkeypatch.delenv("OPENAI_API_KEY")
    # The results were deleted; the file lies elsewhere; the budget is another.
    moved = corpus.rename(corpus.with_name("moved.jsonl"))
    assert tune(server, moved, cache, epochs=2, seed=7, max_usd=0) == written
    assert len(server.others) == asked


def test_where_fine_tuning_is_closed_the_file_is_uploaded_once(server, corpus, cache, monkeypatch):
    server.fine_tuning_open = False
    for _ in range(3):
        with pytest.raises(UserError, match=r"\(HTTP 403, fine_tuning_unavailable\)\. OpenAI closed") as caught:
            tune(server, corpus, cache)
        assert CANARY not in _all_texts(caught.value)
    assert uploads(server) == 1 and not server.jobs
    server.files.clear()  # somebody deleted it there
    with pytest.raises(UserError, match="HTTP 403"):
        tune(server, corpus, cache)
    assert uploads(server) == 2
    server.fine_tuning_open = True
    assert tune(server, corpus, cache)["model"].startswith("ft:") and uploads(server) == 2
    with AnswerCache(cache.folder) as other, pytest.raises(UserError, match="HTTP 403"):
        server.fine_tuning_open = False
        tune(server, write_corpus(corpus.with_name("other.jsonl"), 11), other)
    assert uploads(server) == 3  # another corpus


def test_nothing_is_uploaded_when_openai_has_closed_fine_tuning_to_all(server, corpus, cache, monkeypatch):
    monkeypatch.setattr(finetuning, "is_openai", lambda base_url: True)
    monkeypatch.setattr(finetuning, "today", lambda: FINETUNING_ENDS)
    with pytest.raises(UserError, match=r"since 2027-01-06, for everybody.*corpus to none"):
        tune(server, corpus, cache)
    assert not uploads(server)


def test_a_model_that_cannot_be_fine_tuned_is_one_sentence(server, corpus, cache):
    prices = {"gpt-6-luna": {"tokens_in": 1, "tokens_out": 2, "training": 3}}
    settings = settings_of(server) | {"model": "gpt-6-luna", "prices": prices}
    with pytest.raises(UserError, match=r"does not take the request \(HTTP 400\): look at definitions\.model"):
        finetune(corpus, corpus.with_name("model.json"), settings, cache)


def test_other_data_or_settings_are_another_job(server, corpus, cache, tmp_path):
    models = [
        tune(server, corpus, cache)["model"],
        tune(server, corpus, cache, epochs=4)["model"],
        tune(server, corpus, cache, seed=1)["model"],
        tune(server, corpus, cache, suffix="other")["model"],
        tune(server, write_corpus(tmp_path / "other.jsonl", 11), cache)["model"],
    ]
    assert len(set(models)) == len(server.jobs) == 5
    assert tune(server, corpus, cache, max_usd=3)["model"] == models[0] and len(server.jobs) == 5


@pytest.mark.parametrize("moment", ["started", "polling"])
def test_a_killed_process_is_taken_up_by_the_next(server, corpus, cache, moment):
    server.polls_until_done = 1_000_000
    process = start(server, corpus, cache, killed=moment == "started")
    if moment == "polling":
        wait_until(lambda: sum(server.polls.values()) >= 2, process)
        process.kill()
    said = process.communicate(timeout=30)[1]
    assert process.returncode == -signal.SIGKILL and CANARY not in said
    server.polls_until_done = 1
    assert tune(server, corpus, cache)["job_id"] in server.jobs
    assert len(server.jobs) == 1 and uploads(server) == 1


def test_a_job_is_found_at_the_server_where_nothing_is_remembered(server, corpus, cache, tmp_path):
    written = tune(server, corpus, cache)
    for number in range(120):  # newer ones, of others
        server.jobs[f"ftjob-{number}"] = next(iter(server.jobs.values())) | {"id": f"ftjob-{number}", "metadata": None}
    with AnswerCache(tmp_path / "another") as another:
        assert tune(server, corpus, another) == written
    assert len(server.jobs) == 121 and uploads(server) == 1


def test_a_start_whose_answer_is_lost_is_looked_for(server, corpus, cache):
    for at, lost in enumerate([Reply(hang_up=True, after=True), Reply(status=500, after=True), Reply(body=b"<html>")]):
        troubles = [lost]
        server.trouble = lambda method, path, number, troubles=troubles: (
            troubles.pop() if troubles and (method, path) == ("POST", "/v1/fine_tuning/jobs") else None
        )
        tune(server, corpus, cache, seed=at)
        assert not troubles and len(server.jobs) == at + 1


def test_every_kind_of_trouble_starts_no_second_job(server, corpus, cache):
    server.trouble = random_trouble(seed=3, share=0.3, stall=1.2)
    for seed in range(5):
        assert tune(server, corpus, cache, seed=seed)["model"].startswith("ft:")
    assert len(server.jobs) == 5


def test_two_processes_share_one_job(server, corpus, cache):
    second_started: list[float] = []

    def trouble(method, path, number):
        """No upload gets through before the second has had the time to look for the job of the first."""
        looks = server.others.count(("GET", "/v1/fine_tuning/jobs"))
        late = second_started and time.monotonic() > second_started[0] + 2.5
        return None if path != "/v1/files" or looks > 1 or late else Reply(status=503)

    server.trouble = trouble
    first = start(server, corpus, cache)
    wait_until(lambda: uploads(server), first)
    second_started.append(time.monotonic())
    second = start(server, corpus, cache)
    for process in (first, second):
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 0, said
    assert len(server.jobs) == 1 and len(server.files) == 1


def test_a_price_above_the_limit_uploads_nothing(server, corpus, cache):
    with pytest.raises(UserError, match=r"finetuning.max_usd: 0.005 USD do not suffice for 12 lines in 3 epochs"):
        tune(server, corpus, cache, max_usd=0.005)
    assert uploads(server) == 0 and not server.jobs and not corpus.with_name("model.json").exists()
    tune(server, corpus, cache, max_usd=0.01)


def test_a_wrong_corpus_uploads_nothing(server, corpus, cache):
    corpus.write_text(corpus.read_text() + '{"messages": []}\n')
    with pytest.raises(UserError, match=r"corpus\.jsonl, line 13: not a chat"):
        tune(server, corpus, cache)
    assert not server.others


@pytest.mark.parametrize(
    ("code", "shown"), [("invalid_training_file", "failed, invalid_training_file"), (CANARY, "failed")]
)
def test_a_failed_job_is_named_and_the_next_starts_anew(server, corpus, cache, code, shown):
    server.job_error = {"code": code, "message": CANARY, "param": None}
    with pytest.raises(UserError, match=rf"did not finish fine-tuning job ftjob-\w+ \({shown}\)") as caught:
        tune(server, corpus, cache)
    assert CANARY not in _all_texts(caught.value) and not corpus.with_name("model.json").exists()
    server.job_error = None
    assert tune(server, corpus, cache)["model"].startswith("ft:") and len(server.jobs) == 2


def test_a_job_that_was_deleted_is_started_anew(server, corpus, cache):
    server.polls_until_done = 1_000_000
    process = start(server, corpus, cache)
    wait_until(lambda: server.polls, process)
    process.kill()
    process.communicate()
    server.jobs.clear()
    server.polls_until_done = 1
    assert tune(server, corpus, cache)["model"].startswith("ft:") and len(server.jobs) == 1


def test_the_workflow_asks_the_model_that_it_fine_tuned(server, tmp_path):
    project = make_project(tmp_path / "project", make_mirror(tmp_path / "mirror"))
    finetuning = FINETUNING | {"lines": 20, "epochs": 2}
    asked = {"source": "openai", "base_url": server.url, "requests_per_minute": 60_000, "finetuning": finetuning}
    asked |= {"model": TUNABLE, "parameters": {"reasoning_effort": None}}
    write_yaml(project / "tuned.yaml", {"definitions": asked})
    presets = ("tiny.yaml", "tuned.yaml")
    server.check_models = True

    def run(target, environment):
        return subprocess.run(
            command(f"results/tiny/{target}", presets=presets),
            cwd=project,
            env=surroundings(project) | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"} | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    done = run("definitions/hard.test.jsonl", {"OPENAI_API_KEY": CANARY})
    assert done.returncode == 0, done.stdout + done.stderr
    results = project / "results" / "tiny"
    model, about = read_json(results / "dgpt" / "model.json"), read_json(results / "dgpt" / "corpus.json")
    (job,) = server.jobs.values()
    assert server.contents[job["training_file"]] == (results / "dgpt" / "corpus.jsonl").read_bytes()
    assert about["lines"] == 20 and model["epochs"] == 2 and server.requests
    assert {request["model"] for request in server.requests} == {model["model"]}
    # Nothing of it is paid again when the results are gone; not even a key is needed.
    counts = len(server.others), len(server.requests)
    shutil.rmtree(results / "dgpt")
    done = run("dgpt/model.json", {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(results / "dgpt" / "model.json") == model
    assert (len(server.others), len(server.requests)) == counts
    released = asked | {"finetuning": finetuning | {"corpus": "released"}}
    write_yaml(project / "tuned.yaml", {"definitions": released})
    jobs = planned(project, "results/tiny/dgpt/model.json", presets=presets)
    assert "build_dgpt_corpus" not in jobs and jobs["finetune_dgpt"] == jobs["download"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_that_the_job_goes_on(server, corpus, cache, number):
    server.polls_until_done = 1_000_000

    def stop():
        wait_until(lambda: server.polls)
        os.kill(os.getpid(), number)

    thread = Thread(target=stop)
    thread.start()
    with pytest.raises(UserError, match=r"Stopped\. The fine-tuning goes on at the server: the same command takes"):
        tune(server, corpus, cache)
    thread.join()
    server.polls_until_done = 1
    tune(server, corpus, cache)
    assert len(server.jobs) == 1


@pytest.mark.parametrize("absent", ["/v1/files", "/v1/fine_tuning/jobs"])
def test_a_server_that_does_not_fine_tune_is_named(server, corpus, cache, absent):
    gone = Reply(status=404, error={"message": "no", "code": None})
    server.trouble = lambda method, path, number: gone if path == absent else None
    with pytest.raises(UserError, match=r"does not fine-tune models \(HTTP 404\).*finetuning.corpus to none"):
        tune(server, corpus, cache)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/fine_tuning/jobs", "ftjob-"])
def test_the_key_appears_nowhere(server, corpus, cache, monkeypatch, caplog, capsys, tmp_path, path, status):
    monkeypatch.setattr(client, "RETRIES", 1)
    monkeypatch.setattr(server_jobs, "START_WAITS", (0, 0))
    caplog.set_level(logging.DEBUG)
    refusal = Reply(status=status, error={"message": f"Incorrect key {CANARY}", "code": CANARY, "type": CANARY})
    server.trouble = lambda method, at, number: refusal if path in at else None
    with pytest.raises(UserError) as caught:
        tune(server, corpus, cache)
    assert CANARY not in _all_texts(caught.value)
    assert set(server.keys) == {f"Bearer {CANARY}"}
    assert CANARY not in caplog.text + "".join(capsys.readouterr())
    assert not any(CANARY.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
