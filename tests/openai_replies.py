"""What the server of tests/openai_server.py answers to a chat, and the ways in which an answer can fail."""

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
