"""What the server of tests/openai_server.py answers to a chat, and the ways in which an answer can fail."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import cycle
from random import Random
from uuid import uuid4

from openai_models import reasons


@dataclass
class Reply:
    """An answer, or a failure; nothing is paid for one that fails, unless `after`."""

    text: str | None = "a definition"
    status: int = 200
    finish: str = "stop"
    refusal: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    error: dict | None = None
    cut: bool = False  # hang up in the middle of the answer
    body: bytes | None = None  # instead of an answer
    usage: dict | None = field(default_factory=lambda: {"prompt_tokens": 50, "completion_tokens": 10})
    reasoning: int = 200  # tokens, where the model reasons; beside those of `usage`
    hang_up: bool = False  # before any header
    stall: float = 0  # seconds of silence before hanging up without an answer
    truncated: bool = False  # half of the JSON, under a length that says it is all
    odd: Callable[[dict], object] | None = None  # what is sent in the place of a completion, which is paid for
    trickle: float = 0  # seconds between two bytes of the answer
    flood: int = 0  # bytes that are sent in the place of the answer, which is paid for
    after: bool = False  # the request is carried out (and paid for), and only then its answer is lost

    @property
    def fails(self) -> bool:
        return bool(
            self.status != 200 or self.cut or self.body is not None or self.hang_up or self.stall or self.truncated
        )


ReplyTo = Callable[[int, dict], Reply]


def completion_of(reply: Reply, body: dict) -> dict:
    """The chat completion, or what says why there is none."""
    if reply.status != 200:
        return {"error": reply.error or {"message": "no", "type": "test_error", "param": None, "code": None}}
    text, finish, usage = reply.text, reply.finish, reply.usage
    if usage:
        reasoned, limit = reply.reasoning * reasons(body), body.get("max_completion_tokens")
        spent = usage["completion_tokens"] + reasoned
        if reasoned and limit and spent > limit:  # what was reasoned until then is paid for
            text, finish, spent, reasoned = "", "length", limit, min(reasoned, limit)
        usage = usage | {"completion_tokens": spent, "total_tokens": usage["prompt_tokens"] + spent}
        usage |= {"completion_tokens_details": {"reasoning_tokens": reasoned}}
        usage |= {"prompt_tokens_details": {"cached_tokens": 0}}
    message = {"role": "assistant", "content": text, "refusal": reply.refusal}
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": usage,
    }


def content_of(reply: Reply, body: dict) -> bytes:
    """The content of an answer."""
    completion = completion_of(reply, body)
    if reply.odd and reply.status == 200:
        completion = reply.odd(completion)
    return completion if isinstance(completion, bytes) else json.dumps(completion).encode()


def changed(*path: str | int, to: object) -> Callable[[dict], dict]:
    """What puts another value at a place of a completion."""

    def change(completion: dict) -> dict:
        place = completion
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to
        return completion

    return change


def with_raw(*path: str | int, to: bytes) -> Callable[[dict], bytes]:
    """The same for bytes that are no JSON that Python would write."""
    return lambda completion: json.dumps(changed(*path, to="RAW")(completion)).encode().replace(b'"RAW"', to)


MESSAGE = ("choices", 0, "message")
DEEP = b"[" * 100_000 + b"]" * 100_000
# Completions as no server should send them. All are paid for.
ODDITIES: dict[str, Callable[[dict], object]] = {
    **{f"choices {value!r}": changed("choices", to=value) for value in (None, [], [None], "a bat", {}, 7, [[]], [3])},
    "choices deep": with_raw("choices", to=DEEP),
    "no choices": lambda completion: {name: value for name, value in completion.items() if name != "choices"},
    **{f"message {value!r}": changed(*MESSAGE, to=value) for value in (None, [], "a bat", 7)},
    **{
        f"content {value!r}": changed(*MESSAGE, "content", to=value) for value in (None, 42, True, {"a": 1}, [], [None])
    },
    "content image": changed(*MESSAGE, "content", to=[{"type": "image_url", "image_url": {"url": "x"}}]),
    "content parts": changed(
        *MESSAGE,
        "content",
        to=[
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a "},
            {"type": "text", "text": "meaning"},
        ],
    ),
    "content refusal": changed(*MESSAGE, "content", to=[{"type": "refusal", "refusal": "No."}]),
    "content half": changed(*MESSAGE, "content", to="a definition \ud83d"),
    "content nest": changed(*MESSAGE, "content", to=json.loads("[" * 200 + "]" * 200)),
    **{f"refusal {value!r}": changed(*MESSAGE, "refusal", to=value) for value in ({"a": 1}, [], 0, "", "\ud83d")},
    **{
        f"finish {value!r}": changed("choices", 0, "finish_reason", to=value)
        for value in (None, 7, {"a": []}, "\udc00")
    },
    **{f"model {value!r:.9}": changed("model", to=value) for value in (None, {"a": 1}, "m" * 100_000, "\ud83d")},
    **{f"usage {value!r}": changed("usage", to=value) for value in (None, "many", [], {}, 7)},
    **{
        f"tokens {value!r}": changed("usage", to={"prompt_tokens": value, "completion_tokens": value})
        for value in (None, "50", math.nan, math.inf, -math.inf, -5, 0, True, [], {}, 1e300)
    },
    "tokens of 5,000 digits": with_raw("usage", "completion_tokens", to=b"9" * 5000),
    "tokens 1e999": with_raw("usage", "prompt_tokens", to=b"1e999"),
    "ten times the limit": changed("usage", to={"prompt_tokens": 50, "completion_tokens": 600}),
}


def every_fault(stall: float = 1.5) -> list[Callable[[Random], Reply]]:
    """One maker of each kind of failure; waits that a server asks for are 0.01 to 0.05 s, but for the date's.

    stall: seconds after which a silent connection is closed; a client that waits less meets a timeout.
    """

    def short(random: Random) -> float:
        return random.uniform(0.01, 0.05)

    def next_second() -> str:
        return formatdate(int(time.time()) + 1, usegmt=True)

    def status(number: int) -> Callable[[Random], Reply]:
        return lambda random: Reply(status=number)

    return [
        lambda random: Reply(hang_up=True),
        lambda random: Reply(cut=True),
        lambda random: Reply(stall=stall),
        *map(status, (408, 409, 500, 502, 503, 504)),
        lambda random: Reply(status=429, headers={"Retry-After": f"{short(random):.3f}"}),
        lambda random: Reply(status=429, headers={"Retry-After": next_second()}),
        lambda random: Reply(status=429, headers={"retry-after-ms": f"{1000 * short(random):.0f}"}),
        lambda random: Reply(body=b"<html><body>One moment, please</body></html>"),
        lambda random: Reply(truncated=True),
        lambda random: Reply(body=b""),
    ]


def random_faults(seed: int, share: float, answer: ReplyTo | None = None, stall: float = 1.5) -> ReplyTo:
    """A `reply` that fails that share of the requests, with the kinds of failure in turn; `answer` gives the rest.

    Which numbers of requests fail, and how, is the same for the same seed.
    """
    random, kinds = Random(seed), cycle(every_fault(stall))

    def reply(number: int, body: dict) -> Reply:
        if random.random() < share:
            return next(kinds)(random)
        return answer(number, body) if answer else Reply()

    return reply


def random_trouble(seed: int, share: float, stall: float = 1.5) -> Callable[[str, str, int], Reply | None]:
    """The same for the other addresses: a `trouble` that fails that share of the requests."""
    random, kinds = Random(seed), cycle(every_fault(stall))
    return lambda method, path, number: next(kinds)(random) if random.random() < share else None
