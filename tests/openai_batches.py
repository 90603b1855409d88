"""Batches of the server of tests/openai_server.py, with the shapes and codes of errors of OpenAI's API."""

import json
from collections import Counter
from uuid import uuid4

from openai_files import (
    ENDED,
    Jobs,
    check_model,
    given_file,
    keep_file,
    new_id,
    now,
    pay,
    status_reached,
)
from openai_models import Refused, check_parameters
from openai_replies import completion_of, content_of

CHATS = "/v1/chat/completions"
STATUSES = ("validating", "in_progress", "finalizing", "completed")


def start_batch(state: Jobs, body: dict) -> dict:
    if body.get("endpoint") != CHATS or body.get("completion_window") != "24h":
        raise Refused(400, f"Here are batches for {CHATS} within 24h alone.", param="endpoint")
    later = ("output_file_id", "error_file_id", "errors", "in_progress_at", "finalizing_at", "completed_at")
    later += ("failed_at", "expired_at", "cancelling_at", "cancelled_at", "usage", "model")
    batch = {"id": new_id("batch_"), "object": "batch", "endpoint": CHATS, "completion_window": "24h"}
    batch |= {"input_file_id": given_file(state, body, "input_file_id", "batch"), "status": STATUSES[0]}
    batch |= {"created_at": now(), "expires_at": now() + 24 * 3600, "metadata": body.get("metadata")}
    batch |= {"request_counts": {"total": 0, "completed": 0, "failed": 0}} | dict.fromkeys(later)
    state.batches[batch["id"]] = batch
    return batch


def go_on_with_batch(state: Jobs, batch: dict) -> dict:
    if batch["status"] in ENDED:
        return batch
    if batch["status"] == "cancelling":
        # As far as it had come: half of its lines.
        done = batch["request_counts"]["total"] // 2
        _end_batch(state, batch, "cancelled", done, "batch_cancelled", "The batch was cancelled before this request.")
        return batch
    reached = status_reached(state, batch, STATUSES)
    if reached and batch["status"] == STATUSES[0]:
        errors = state.batch_errors or _wrong_lines(state, state.contents[batch["input_file_id"]])
        if errors:
            batch.update(status="failed", failed_at=now(), errors={"object": "list", "data": errors})
            return batch
        lines = _lines(state, batch)
        batch["request_counts"]["total"], batch["model"] = len(lines), lines[0]["body"]["model"]
    for status in STATUSES[1 : reached + 1]:
        batch[f"{status}_at"] = batch[f"{status}_at"] or now()
    batch["status"] = STATUSES[reached]
    if batch["status"] == "completed" and state.expire_after is not None:
        batch["completed_at"] = None
        late = "This request could not be executed before the completion window expired."
        _end_batch(state, batch, "expired", state.expire_after, "batch_expired", late)
    elif batch["status"] == "completed":
        _end_batch(state, batch, "completed", batch["request_counts"]["total"])
    return batch


def cancel_batch(state: Jobs, batch: dict) -> dict:
    if batch["status"] in ENDED:
        raise Refused(409, f"Cannot cancel a batch with status '{batch['status']}'.")
    batch.update(status="cancelling", cancelling_at=batch["cancelling_at"] or now())
    return batch


def _lines(state: Jobs, batch: dict) -> list[dict]:
    return [json.loads(line) for line in state.contents[batch["input_file_id"]].splitlines()]


def _line_of(entry: dict) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _end_batch(state: Jobs, batch: dict, status: str, done: int, code: str = "", message: str = "") -> None:
    """Answer the first `done` lines; the others fail with the code. Files are in the opposite order of the input."""
    answered, failed, used = [], [], Counter()
    lines = _lines(state, batch) if batch["request_counts"]["total"] else []  # not validated before: none
    for number, line in enumerate(lines):
        entry = {"id": new_id("batch_req_"), "custom_id": line["custom_id"], "response": None, "error": None}
        if number >= done:
            failed.append(_line_of(entry | {"error": {"code": code, "message": message}}))
            continue
        try:
            check_parameters(line["body"])
        except Refused as refused:
            body = {"error": refused.error}
            response = {"status_code": refused.status, "request_id": "r", "body": body}
            failed.append(_line_of(entry | {"response": response}))
            continue
        reply = state.reply(number, line["body"])
        if reply.fails and reply.status == 200:
            error = {"code": "server_error", "message": "The server had an error."}
            failed.append(_line_of(entry | {"error": error}))
            continue
        entry["response"] = {"status_code": reply.status, "request_id": uuid4().hex, "body": "BODY"}
        content = json.dumps(entry).encode().replace(b'"BODY"', content_of(reply, line["body"])) + b"\n"
        (failed if reply.fails else answered).append(content if reply.fails else state.odd_line(number, content))
        if not reply.fails:
            pay(state, line["body"])
            usage = completion_of(reply, line["body"])["usage"] or {}
            used.update({name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")})
    for name, entries in (("output", answered), ("error", failed)):
        if entries:
            content = b"".join(reversed(entries))
            file = keep_file(state, f"{batch['id']}_{name}.jsonl", "batch_output", content)
            batch[f"{name}_file_id"] = file["id"]
    batch["request_counts"] |= {"completed": len(answered), "failed": len(failed)}
    tokens_in, tokens_out = used["prompt_tokens"], used["completion_tokens"]
    batch["usage"] = {"input_tokens": tokens_in, "input_tokens_details": {"cached_tokens": 0}}
    batch["usage"] |= {"output_tokens": tokens_out, "output_tokens_details": {"reasoning_tokens": 0}}
    batch["usage"]["total_tokens"] = tokens_in + tokens_out
    batch["status"], batch[f"{status}_at"] = status, now()


def _wrong_lines(state: Jobs, content: bytes) -> list[dict]:
    """Why a batch's file is refused: what the service checks before it answers any line."""
    errors: list[dict] = []

    def wrong(code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        errors.append({"code": code, "message": message, "line": line, "param": param})

    lines = content.splitlines()
    if not lines:
        wrong("empty_file", "The input file is empty. Please ensure that the batch contains at least one request.")
    if len(lines) > state.batch_limit:
        wrong("too_many_tasks", f"The batch holds {len(lines)} requests, of at most {state.batch_limit}.")
    ids, models = set(), set()
    for number, line in enumerate(lines, start=1):
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("body"), dict):
            wrong("invalid_json_line", "This line is not parseable as valid JSON.", number)
            continue
        custom_id, body = request.get("custom_id"), request["body"]
        models.add(body.get("model"))
        if not isinstance(custom_id, str):
            wrong("missing_required_parameter", "Missing required parameter: 'custom_id'.", number, "custom_id")
        elif custom_id in ids:
            wrong("duplicate_custom_id", f"The custom_id '{custom_id}' for this request is a duplicate.", number)
        ids.add(custom_id)
        if (request.get("method"), request.get("url")) != ("POST", CHATS):
            wrong("invalid_url", "The URL provided for this request does not match the batch endpoint.", number, "url")
        if not body.get("model") or not body.get("messages"):
            wrong("missing_required_parameter", "Missing required parameter of the body.", number, "body")
    if len(models) > 1:
        wrong("mismatched_model", "All requests of a batch must name the same model.", None, "body.model")
    for model in models - {None}:
        try:
            check_model(state, model)
        except Refused as refused:
            wrong("model_not_found", refused.error["message"], None, "body.model")
    return errors
