"""What clients have made at the server of tests/openai_server.py, and its files, in the shapes of OpenAI's API."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from uuid import uuid4

from openai_models import SHUTDOWN_DATES, Refused, check_alive
from openai_replies import Reply, ReplyTo

ENDED = ("completed", "succeeded", "failed", "expired", "cancelled")


@dataclass
class Jobs:
    """What clients have made, and how it goes on. A batch or job goes on when it is asked for by its id, not in lists.

    `reply` is called with the number of the request (from 0; in a batch, that of the line) and its body.
    """

    reply: ReplyTo = lambda number, body: Reply()
    polls_until_done: int = 4
    expire_after: int | None = None  # a batch expires with so many of its lines done
    batch_errors: list[dict] = field(default_factory=list)  # a batch fails validation with these
    # (number of the line in the batch, line) of a batch's file of answers: what is in its place
    odd_line: Callable[[int, bytes], bytes] = lambda number, line: line
    batch_limit: int = 50_000  # lines
    job_error: dict | None = None  # a fine-tuning job fails with this while it runs
    shutdown_dates: dict[str, str | None] = field(default_factory=lambda: dict(SHUTDOWN_DATES))  # by model
    fine_tuning_open: bool = False  # new jobs are started; OpenAI does so for few organisations
    check_models: bool = False  # a model ft:... that no job here has made is not found
    files: dict[str, dict] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict] = field(default_factory=dict)
    jobs: dict[str, dict] = field(default_factory=dict)
    polls: Counter[str] = field(default_factory=Counter)
    paid: int = 0
    paid_by_question: Counter[str] = field(default_factory=Counter)


def question_of(body: dict) -> str:
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def pay(state: Jobs, body: dict) -> None:
    state.paid += 1
    state.paid_by_question[question_of(body)] += 1


def json_of(body: bytes) -> dict:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise Refused(400, "We could not parse the JSON body of your request.")
    return content


def check_model(state: Jobs, model: str) -> None:
    check_alive(model, state.shutdown_dates)
    known = {job["fine_tuned_model"] for job in state.jobs.values()}
    if state.check_models and model.startswith("ft:") and model not in known:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Refused(404, message, code="model_not_found")


def now() -> int:
    return int(time.time())


def new_id(kind: str) -> str:
    return kind + uuid4().hex[:24]


def found(records: dict[str, dict], key: str, what: str) -> dict:
    if key not in records:
        raise Refused(404, f"No such {what}: {key}")
    return records[key]


def page_of(records: list[dict], query: dict[str, str], limit: int) -> dict:
    """Some of the records, newest first unless `order` is asc, after the one whose id is `after`."""
    records = records if query.get("order") == "asc" else records[::-1]
    ids = [record["id"] for record in records]
    if query.get("after") and query["after"] not in ids:
        raise Refused(400, f"No such object: {query['after']}", param="after")
    start = ids.index(query["after"]) + 1 if query.get("after") else 0
    page = records[start : start + int(query.get("limit", limit))]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    more = start + len(page) < len(records)
    return {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": more}


def form_of(body: bytes, kind: str) -> tuple[dict[str, str], str, bytes]:
    """The plain fields of a multipart form, the name of its file, and the file, byte for byte."""
    header = Message()
    header["Content-Type"] = kind
    boundary = header.get_boundary()
    if boundary is None:
        raise Refused(400, "'file' is a required property")
    fields, name, content = {}, None, b""
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        about = message_from_bytes(head)
        field_name = about.get_param("name", header="Content-Disposition")
        if field_name == "file":
            name, content = about.get_filename("file"), value
        else:
            fields[field_name] = value.decode()
    if name is None:
        raise Refused(400, "'file' is a required property", param="file")
    return fields, name, content


def upload(state: Jobs, fields: dict[str, str], name: str, content: bytes) -> dict:
    if fields.get("purpose") not in ("batch", "fine-tune"):
        raise Refused(400, f"'{fields.get('purpose')}' is not one of ['fine-tune', 'batch'] - 'purpose'")
    return keep_file(state, name, fields["purpose"], content)


def keep_file(state: Jobs, name: str, purpose: str, content: bytes) -> dict:
    file = {"id": new_id("file-"), "object": "file", "bytes": len(content), "created_at": now(), "filename": name}
    file |= {"purpose": purpose, "status": "processed", "status_details": None, "expires_at": None}
    state.files[file["id"]], state.contents[file["id"]] = file, content
    return file


def given_file(state: Jobs, body: dict, param: str, purpose: str) -> str:
    file = state.files.get(body.get(param))
    if file is None or file["purpose"] != purpose:
        raise Refused(400, f"invalid {param}: {body.get(param)} (purpose {purpose} is needed)", param=param)
    return file["id"]


def status_reached(state: Jobs, record: dict, statuses: tuple[str, ...]) -> int:
    """The place of the status that a record has come to, with this poll."""
    state.polls[record["id"]] += 1
    last = len(statuses) - 1
    polls, needed = state.polls[record["id"]], max(1, state.polls_until_done)
    return last if polls >= needed else last * polls // needed
