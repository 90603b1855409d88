"""The files of the Batch API: requests as lines, and what the lines that come back say of them."""

import io
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from polclip.definitions.completions import answer_in, filtered_answer, is_completion, read_json, unreadable_answer
from polclip.definitions.cost import limit_of
from polclip.definitions.limits import FILE_BYTES
from polclip.definitions.server_errors import NO_CREDIT, harmless

# OpenAI takes 50,000 requests and 200 MB: https://platform.openai.com/docs/guides/batch
MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000
# No fewer bytes than a line that comes back has: beside the answer, and for each of its tokens.
_AROUND_ANSWER, _PER_TOKEN = 4096, 32
ENDPOINT = "/v1/chat/completions"


class Outcome(NamedTuple):
    """What came of a request: its answer (`client.answer_in`), or None; whether it was refused for good; and why."""

    answer: dict | None
    refused: bool = False
    why: str = ""


def line_of(key: str, request: Mapping) -> bytes:
    line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": dict(request)}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def chunks_of(requests: Mapping[str, Mapping]) -> Iterator[dict[str, Mapping]]:
    """The requests in their order, as many together as a batch and the file of its answers may hold."""
    chunk: dict[str, Mapping] = {}
    size = size_back = 0
    for key, request in requests.items():
        length, length_back = len(line_of(key, request)), _AROUND_ANSWER + _PER_TOKEN * (limit_of(request) or 0)
        too_large = size + length > MOST_BYTES or size_back + length_back > FILE_BYTES
        if chunk and (len(chunk) == MOST_REQUESTS or too_large):
            yield chunk
            chunk, size, size_back = {}, 0, 0
        chunk[key] = request
        size, size_back = size + length, size_back + length_back
    if chunk:
        yield chunk


def lines_in(content: bytes, together: int) -> Iterator[list[tuple[str, Mapping]]]:
    """The lines of a file that came back, at most `together` at once: (custom_id, line).

    The custom_id is empty where a line cannot be read or has none.
    """
    lines = io.BytesIO(content)
    while some := list(islice(lines, together)):
        read = [_read(line) for line in some if line.strip()]
        yield [(custom_id if isinstance(custom_id := line.get("custom_id"), str) else "", line) for line in read]


def _read(line: bytes) -> Mapping:
    try:
        return _object(read_json(line))
    except (ValueError, RecursionError):
        return {}


def is_page(content: bytes) -> bool:
    """Whether a page of a proxy came in the place of a file of lines."""
    return content.lstrip()[:1] == b"<"


def outcome_of(line: Mapping, request: Mapping, of_output: bool) -> Outcome:
    """What a line says of its request.

    of_output: whether the line is of the file of answers, all of which were paid for, and not of the file of errors.
    """
    response = _object(line.get("response"))
    body = _object(response.get("body"))
    status = response.get("status_code")
    error = line.get("error") or body.get("error")
    if status == 200 and is_completion(body):
        return Outcome(answer_in(body, request))
    code = harmless(_object(error).get("code"))
    if code == "content_filter":
        return Outcome(filtered_answer(request))
    if not error and (status == 200 or (of_output and not _is_status(status))):
        return Outcome(answer_in(body, request) if body else unreadable_answer(line, request))
    passing = status in (408, 409, 429) and code not in NO_CREDIT
    refused = _is_status(status) and 400 <= status < 500 and not passing
    return Outcome(None, refused, ", ".join(filter(None, [f"HTTP {status}" if _is_status(status) else "", code])))


def _is_status(value: object) -> bool:
    return isinstance(value, int) and 100 <= value < 600


def _object(value: object) -> Mapping:
    """A JSON object; an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}
