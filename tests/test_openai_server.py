"""The server that other tests ask for definitions, driven by OpenAI's own client."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from urllib.request import urlopen

import openai
import pytest
from openai_server import Reply, every_fault, openai_server, question_of, random_faults, random_trouble
from tiny_wordnet import tiny_inventory

PROGRAM = Path(__file__).parent / "openai_server.py"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with openai_server(polls_until_done=3, fine_tuning_open=True) as running:
        yield running


@pytest.fixture
def client(server):
    with connected(server.url) as client:
        yield client


def connected(url, **settings):
    return openai.OpenAI(api_key="canary", base_url=url, **({"max_retries": 0, "timeout": 5} | settings))


def chat(text):
    messages = [{"role": "user", "content": text}]
    return {"model": "gpt-6-luna", "messages": messages, "reasoning_effort": "none"}


def tuned_chat(model):
    return {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 60, "temperature": 0}


def batch_file(client, *lines, **changes):
    requests = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": chat(name)} | changes
        for name in lines
    ]
    content = "".join(json.dumps(request) + "\n" for request in requests).encode()
    return client.files.create(file=("in.jsonl", content), purpose="batch").id


def start_batch(client, file_id, **settings):
    return client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", **settings
    )


def statuses(get, record):
    """Ask until a batch or a job has ended: its statuses, and how it ended."""
    seen = []
    while record.status not in ("completed", "succeeded", "failed", "expired", "cancelled"):
        record = get(record.id)
        seen.append(record.status)
    return seen, record


def lines_of(client, file_id):
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def training_file(client, count=10, last="assistant"):
    roles = [{"role": "user", "content": "What is a bat?"}, {"role": last, "content": "An animal."}]
    content = (json.dumps({"messages": roles}) + "\n") * count
    return client.files.create(file=("train.jsonl", content.encode()), purpose="fine-tune").id


def test_chats_are_counted_as_they_are_paid_for(server, client):
    server.reply = lambda number, body: Reply(text=f"answer {number}")
    answer = client.chat.completions.create(**chat("one"))
    assert answer.choices[0].message.content == "answer 0" and answer.usage.total_tokens == 60
    key = {"Idempotency-Key": "k"}
    first, again = (client.chat.completions.create(**chat("two"), extra_headers=key) for _ in range(2))
    assert first == again and (server.paid, server.repeated) == (2, 1)
    with pytest.raises(openai.BadRequestError, match="another question"):
        client.chat.completions.create(**chat("three"), extra_headers=key)
    server.idempotent = False
    client.chat.completions.create(**chat("two"), extra_headers=key)
    assert server.paid_by_question == {question_of(chat("one")): 1, question_of(chat("two")): 2}
    assert set(server.keys) == {"Bearer canary"} and len(server.requests) == 5
    counts = json.load(urlopen(server.url.removesuffix("/v1") + "/counts"))
    assert (counts["paid"], counts["repeated"], counts["requests"]) == (3, 1, 5)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(hang_up=True), openai.APIConnectionError),
        (Reply(cut=True), openai.APIConnectionError),
        (Reply(stall=5), openai.APITimeoutError),
        *((Reply(status=status), openai.APIStatusError) for status in (408, 409, 429, 500, 502, 503, 504)),
        (Reply(truncated=True), ValueError),
        (Reply(body=b""), ValueError),
    ],
)
def test_a_failed_answer_is_not_paid_for_unless_it_was_made(server, reply, error):
    server.reply = lambda number, body: reply
    with connected(server.url, timeout=0.2) as client:
        with pytest.raises(error):
            client.chat.completions.create(**chat("x"), extra_headers={"Idempotency-Key": "k"})
        assert server.paid == 0
        reply.after = True
        with pytest.raises(error):
            client.chat.completions.create(**chat("x"), extra_headers={"Idempotency-Key": "k"})
        server.reply = lambda number, body: Reply()
        assert client.chat.completions.create(**chat("x"), extra_headers={"Idempotency-Key": "k"}).choices
    assert (server.paid, server.repeated) == (1, 1)


def test_waits_are_asked_for_in_three_forms_and_pages_come_for_answers(server, client):
    failed = [kind(Random(0)) for kind in every_fault()]
    assert all(reply.fails for reply in failed)
    waits = [reply.headers for reply in failed if reply.headers]
    assert [list(headers) for headers in waits] == [["Retry-After"], ["Retry-After"], ["retry-after-ms"]]
    assert 0 < float(waits[0]["Retry-After"]) <= 0.05 and waits[1]["Retry-After"].endswith("GMT")
    server.reply = lambda number, body: Reply(body=b"<html>")
    assert client.chat.completions.create(**chat("x")) == "<html>" and server.paid == 0


def test_many_chats_through_every_fault(server):
    server.reply = random_faults(seed=3, share=0.3, stall=0.3)

    async def ask(client, number):
        while True:
            try:
                response = await client.chat.completions.create(**chat(f"bat {number}"))
            except ValueError:
                continue
            if isinstance(response, openai.types.chat.ChatCompletion) and response.choices:
                return response

    async def ask_all():
        async with openai.AsyncOpenAI(api_key="k", base_url=server.url, max_retries=20, timeout=2) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(100)))

    assert len(asyncio.run(ask_all())) == 100
    assert len(server.requests) > 120 and server.paid == 100 and set(server.paid_by_question.values()) == {1}


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"model": "gpt-3.5-turbo-1106"}, 404, "model_not_found", None),
        ({"model": "ft:gpt-3.5-turbo-1106:org::x"}, 404, "model_not_found", None),
        ({"max_tokens": 60}, 400, "unsupported_parameter", "max_tokens"),
        ({"reasoning_effort": "low", "temperature": 0}, 400, "unsupported_value", "temperature"),
        ({"reasoning_effort": "high", "top_p": 0.5}, 400, "unsupported_value", "top_p"),
        ({"reasoning_effort": "low", "logprobs": True}, 400, "unsupported_value", "logprobs"),
        ({"reasoning_effort": "minimal"}, 400, "unsupported_value", "reasoning_effort"),
        ({"model": "gpt-4o-mini-2024-07-18"}, 400, "unsupported_parameter", "reasoning_effort"),
    ],
)
def test_what_openai_refuses_is_refused(server, client, changes, status, code, param):
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(**chat("x") | changes)
    assert (error.value.status_code, error.value.code, error.value.param) == (status, code, param)
    assert server.paid == 0


def test_reasoning_is_counted_and_models_are_listed(server, client):
    asked = chat("x") | {"reasoning_effort": "low", "max_completion_tokens": 300}
    usage = client.chat.completions.create(**asked).usage
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (210, 200)
    cut = client.chat.completions.create(**asked | {"max_completion_tokens": 60})
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason, cut.usage.completion_tokens) == (
        "",
        "length",
        60,
    )
    plain = client.chat.completions.create(**chat("x") | {"temperature": 0})
    assert (plain.usage.completion_tokens, plain.usage.completion_tokens_details.reasoning_tokens) == (10, 0)
    anything = {"model": "of-ones-own", "max_tokens": 5, "temperature": 0, "reasoning_effort": "low"}
    assert client.chat.completions.create(**chat("x") | anything).usage.completion_tokens == 10
    days = {model.id: model.shutdown_date for model in client.models.list()}
    assert days["gpt-6-luna"] is None and days["gpt-5-nano"] == "2026-12-11"
    server.fine_tuning_open = False
    with pytest.raises(openai.PermissionDeniedError):
        client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=training_file(client))


def test_files_keep_every_byte(server, client):
    content = bytes(range(256)) + b"\r\n--x\r\n\r\n\n"
    file = client.files.create(file=("caf\u00e9.jsonl", content), purpose="batch")
    assert (file.bytes, file.purpose, file.object) == (len(content), "batch", "file")
    assert client.files.content(file.id).read() == content and client.files.retrieve(file.id) == file
    others = [client.files.create(file=b"{}", purpose="fine-tune").id for _ in range(4)]
    assert [one.id for one in client.files.list(limit=2)] == [*reversed(others), file.id]
    assert [one.id for one in client.files.list(purpose="batch")] == [file.id]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=b"{}", purpose="vision")


def test_a_batch_is_answered_line_by_line(server, client):
    server.reply = lambda number, body: Reply(status=400) if number == 1 else Reply(text=body["messages"][0]["content"])
    batch = start_batch(client, batch_file(client, "a", "b", "c"), metadata={"part": "1"})
    assert (batch.status, batch.metadata, server.paid) == ("validating", {"part": "1"}, 0)
    seen, batch = statuses(client.batches.retrieve, batch)
    assert seen == ["in_progress", "finalizing", "completed"] and server.paid == 2
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (3, 2, 1)
    assert batch.usage.total_tokens == 120 and batch.completed_at
    lines = lines_of(client, batch.output_file_id)
    assert [line["custom_id"] for line in lines] == ["c", "a"]  # in another order
    assert lines[0]["response"]["status_code"] == 200 and lines[0]["error"] is None
    body = openai.types.chat.ChatCompletion.model_validate(lines[0]["response"]["body"])
    assert body.choices[0].message.content == "c"
    (failed,) = lines_of(client, batch.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("b", 400)
    assert server.paid_by_question == {question_of(chat(name)): 1 for name in "ac"}
    with pytest.raises(openai.ConflictError, match="completed"):
        client.batches.cancel(batch.id)


def test_a_batch_expires_is_cancelled_or_refused(server, client):
    server.expire_after = 1
    _, batch = statuses(client.batches.retrieve, start_batch(client, batch_file(client, "a", "b", "c")))
    assert (batch.status, server.paid, batch.completed_at) == ("expired", 1, None)
    assert [line["custom_id"] for line in lines_of(client, batch.output_file_id)] == ["a"]
    errors = lines_of(client, batch.error_file_id)
    assert {line["error"]["code"] for line in errors} == {"batch_expired"} and len(errors) == 2
    batch = start_batch(client, batch_file(client, "a", "b"))
    assert client.batches.retrieve(batch.id).status == "in_progress"
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.batches.retrieve(batch.id).status == "cancelled" and server.paid == 2
    server.batch_limit = 2
    for lines, changes, code in [
        (["a", "a"], {}, "duplicate_custom_id"),
        (["a", "b", "c"], {}, "too_many_tasks"),
        (["a"], {"url": "/v1/embeddings"}, "invalid_url"),
        ([], {}, "empty_file"),
    ]:
        seen, batch = statuses(client.batches.retrieve, start_batch(client, batch_file(client, *lines, **changes)))
        assert seen == ["failed"] and batch.errors.data[0].code == code and batch.output_file_id is None
    server.batch_errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
    _, batch = statuses(client.batches.retrieve, start_batch(client, batch_file(client, "a")))
    assert (batch.status, batch.errors.data[0].code) == ("failed", "token_limit_exceeded")
    with pytest.raises(openai.BadRequestError, match="invalid input_file_id"):
        start_batch(client, training_file(client))


def test_a_job_makes_a_model(server, client):
    file = training_file(client)
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18",
        training_file=file,
        suffix="dgpt",
        seed=7,
        metadata={"data": "abc"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert (job.status, job.fine_tuned_model) == ("validating_files", None)
    assert (job.hyperparameters.n_epochs, job.seed) == (2, 7)
    server.check_models = True
    seen, job = statuses(client.fine_tuning.jobs.retrieve, job)
    assert seen == ["queued", "running", "succeeded"] and job.trained_tokens > 0 and job.finished_at
    assert job.fine_tuned_model.startswith("ft:gpt-4o-mini-2024-07-18:org:dgpt:") and job.metadata == {"data": "abc"}
    assert client.fine_tuning.jobs.list_events(job.id).data[0].message == "The job is in status succeeded"
    assert client.chat.completions.create(**tuned_chat(job.fine_tuned_model)).choices
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(**tuned_chat("ft:gpt-4o-mini-2024-07-18:org::other"))
    assert error.value.code == "model_not_found" and server.paid == 1
    other = client.fine_tuning.jobs.create(model="m", training_file=file, hyperparameters={"n_epochs": 4})
    assert (other.hyperparameters.n_epochs, other.method.supervised.hyperparameters.n_epochs) == (4, 4)
    assert client.fine_tuning.jobs.cancel(other.id).status == "cancelled"
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"data": "abc"})] == [job.id]


@pytest.mark.parametrize(
    ("count", "last", "code"), [(9, "assistant", "invalid_n_examples"), (10, "user", "invalid_training_file")]
)
def test_a_job_fails_on_its_data(server, client, count, last, code):
    file = training_file(client, count, last)
    _, job = statuses(client.fine_tuning.jobs.retrieve, client.fine_tuning.jobs.create(model="m", training_file=file))
    assert (job.status, job.error.code, job.fine_tuned_model) == ("failed", code, None)


def test_a_job_fails_while_it_runs(server, client):
    server.job_error = {"code": "exceeded_quota", "message": "no credit", "param": None}
    job = client.fine_tuning.jobs.create(model="m", training_file=training_file(client))
    seen, job = statuses(client.fine_tuning.jobs.retrieve, job)
    assert seen == ["queued", "failed"] and job.error.code == "exceeded_quota"


def test_an_async_client_pages_through_lists(server, client):
    batches = [start_batch(client, batch_file(client, "a")).id for _ in range(5)]
    jobs = [client.fine_tuning.jobs.create(model="m", training_file=training_file(client)).id for _ in range(5)]

    async def listed():
        async with openai.AsyncOpenAI(api_key="k", base_url=server.url) as client:
            file = await client.files.create(file=b"{}", purpose="batch")
            assert (await client.files.content(file.id)).content == b"{}"
            batches = [batch.id async for batch in client.batches.list(limit=2)]
            jobs = [job.id async for job in client.fine_tuning.jobs.list(limit=2)]
            assert (await client.batches.retrieve(batches[0])).status == "in_progress"
            return batches, jobs

    assert asyncio.run(listed()) == (batches[::-1], jobs[::-1])
    assert [batch.id for batch in client.batches.list(limit=2)] == batches[::-1]
    pages = Counter(server.others)
    assert pages[("GET", "/v1/batches")] == 6 and pages[("GET", "/v1/fine_tuning/jobs")] == 3


def test_trouble_comes_before_the_work_or_after_it(server, client):
    server.trouble = lambda method, path, number: [Reply(status=500), Reply(hang_up=True, after=True), None][number]
    with pytest.raises(openai.InternalServerError):
        client.files.create(file=b"{}", purpose="batch")
    assert not server.files
    with pytest.raises(openai.APIConnectionError):
        client.files.create(file=b"{}", purpose="batch")
    assert [file.id for file in client.files.list()] == list(server.files) and len(server.files) == 1


def test_a_program_of_its_own_answers_with_glosses(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    inventory, port_file = tmp_path / "inventory", tmp_path / "port"
    command = [sys.executable, PROGRAM, "--inventory", inventory, "--port-file", port_file, "--latency", "0.01"]
    with subprocess.Popen(
        command, env={"PYTHONPATH": str(PROGRAM.parents[1])}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().strip()
            assert url == f"http://127.0.0.1:{int(port_file.read_text())}/v1"
            with connected(url) as client:
                with pytest.raises(openai.InternalServerError):  # the run has yet to make its inventory
                    client.chat.completions.create(**chat("x"))
                inventory.mkdir()
                tiny_inventory(inventory)
                questions = ['As in "cave": what is the "bat" of "bat hits balls"?', 'What is "bat"?', "x"]
                answers = [client.chat.completions.create(**chat(text)).choices[0].message for text in questions]
            counts = json.load(urlopen(url.removesuffix("/v1") + "/counts"))
        finally:
            process.terminate()
        assert process.communicate() == ("", "")  # no log
    assert answers[0].content == "a club for hitting a ball"
    assert answers[1].content == answers[2].content == "I'm sorry, but I cannot define this word."
    assert (counts["paid"], counts["requests"]) == (3, 4)


def test_what_a_test_does_wrong_is_raised(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with (
        pytest.raises(KeyError, match="no such"),
        openai_server(reply=lambda number, body: body["no such"]) as server,
        connected(server.url) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(**chat("x"))


def test_faults_are_drawn_anew_from_the_same_seed():
    plans = [list(map(random_faults(seed, 0.5), range(300), [{}] * 300)) for seed in (5, 5, 6)]
    hits = [[reply.fails for reply in plan] for plan in plans]
    assert hits[0] == hits[1] != hits[2] and 120 < sum(hits[0]) < 180
    trouble = random_trouble(5, 0.5)
    assert [bool(trouble("GET", "/v1/files", number)) for number in range(300)] == hits[0]
