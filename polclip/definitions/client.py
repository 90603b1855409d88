"""The one place that reads OPENAI_API_KEY and talks to a server of OpenAI's API.

No error, log line or file that comes from here holds the key: what the client library says is never passed on,
since servers repeat keys in their messages and its exceptions carry the request with its headers.
"""

import asyncio
import json
import logging
import math
import os
import re
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
import openai

from polclip.definitions.cost import limit_of, most_tokens_in
from polclip.errors import UserError

# The library waits 0.5, 1, 2, 4, 8, 8 ... seconds with jitter, or what Retry-After says: after 408, 409, 429, 5xx,
# timeouts and cut connections. What asks for more than these seconds it does not try again.
RETRIES, LONGEST_REST = 10, 120
TIMEOUT_SECONDS = 60.0
# What is no completion (a proxy's page, half a text) is asked for again, so many times in all.
UNREADABLE_TRIES, UNREADABLE_WAIT = 5, 0.5
OPENAI = "https://api.openai.com/v1"
_HARMLESS_CODE = re.compile(r"[a-z_]{1,40}")
AGAIN = "Answers so far are kept: run the same command again to get the rest."
Given = TypeVar("Given")


class Pace:
    """Lets requests through one at a time, evenly, at most so many a minute; a retry is a request."""

    def __init__(self, requests_per_minute: float) -> None:
        self._gap, self._next = 60 / requests_per_minute, 0.0

    async def turn(self, _request: object = None) -> None:
        now = asyncio.get_running_loop().time()
        mine = max(now, self._next)
        self._next = mine + self._gap
        await asyncio.sleep(mine - now)


def connect(base_url: str = "", requests_per_minute: float = 500) -> openai.AsyncOpenAI:
    """A client with the user's key, which keeps to a rate; `async with` closes it.

    base_url: of a server that speaks OpenAI's protocol; empty: OpenAI. Raises UserError when the key is missing
    where one is needed.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and not base_url:
        raise UserError(_missing("is not set"))
    if "@" in urlsplit(base_url).netloc:
        raise UserError("definitions.base_url: leave out name and password; type: export OPENAI_API_KEY=...")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line a request otherwise
    logging.getLogger("openai").setLevel(logging.WARNING)
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base_url or OPENAI,  # said, since the library would look into the environment otherwise
        max_retries=RETRIES,
        timeout=TIMEOUT_SECONDS,
        http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [Pace(requests_per_minute).turn]}),
    )


async def plainly(call: Awaitable[Given], base_url: str, model: str) -> Given:
    """What a call of the client gives; what it raises is a UserError in words of our own."""
    try:
        return await call
    except openai.OpenAIError as error:
        failure = _sentence(error, base_url or "OpenAI", model)
    except ValueError as error:  # a key or an address that no header can hold
        failure = (
            f"The request to {base_url or 'OpenAI'} cannot be sent ({type(error).__name__}): are OPENAI_API_KEY and "
            "definitions.base_url what they should be?"
        )
    raise UserError(failure)  # outside of `except`, so that the library's error is not chained to it


async def ask(client: openai.AsyncOpenAI, key: str, request: Mapping, base_url: str = "") -> dict:
    """The answer to one request (`prompts.request_of`), see `answer_in`.

    key: `cache.key_of` the request, sent along, so that a server that knows idempotency keys charges an answer
    once though it was lost on the way. Raises UserError.
    """
    for _ in range(UNREADABLE_TRIES):
        response = await plainly(_sent(client, key, request), base_url, request["model"])
        if response is None:
            return filtered_answer(request)
        completion = _completion(response.content)
        if completion:
            return answer_in(completion, request) | {"seconds": round(response.elapsed.total_seconds(), 3)}
        await asyncio.sleep(UNREADABLE_WAIT)
    raise UserError(
        f"definitions.base_url: {base_url or 'OpenAI'} does not answer as /chat/completions does. "
        "An address looks like http://localhost:8000/v1"
    )


async def _sent(client: openai.AsyncOpenAI, key: str, request: Mapping) -> httpx2.Response | None:
    """The response; None where the server's filter keeps it from answering."""
    try:
        # Not `chat.completions.create`, which takes longer to look at a question's types than to send it.
        return await client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body=dict(request),
            options={"headers": {"Idempotency-Key": key}},
        )
    except openai.APIStatusError as error:
        if error.code == "content_filter":
            return None
        raise


def _completion(content: bytes) -> dict | None:
    try:
        completion = json.loads(content)
    except ValueError:
        return None
    return completion if is_completion(completion) else None


def is_completion(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("choices"), list)


def harmless(code: object) -> str:
    """An error's code, if it is a plain word that cannot hold a key; else an empty text."""
    return code if isinstance(code, str) and _HARMLESS_CODE.fullmatch(code) else ""


def filtered_answer(request: Mapping) -> dict:
    """What is kept of a request that the server's filter kept from being answered."""
    unpaid = {"finish_reason": "content_filter", "tokens_in": 0, "tokens_out": 0}
    return answer_in({"choices": []}, request) | unpaid


def answer_in(completion: Mapping, request: Mapping) -> dict:
    """What is kept of a chat completion, as the API writes it.

    text, refusal, finish_reason; tokens_in, tokens_out (of a server that counts none, the most there can be);
    served_by, the model's name there; date (UTC, when it came in); seconds it took (null where that is not known).
    """
    choice = next(iter(completion["choices"]), {})
    message, usage = choice.get("message") or {}, completion.get("usage") or {}
    return {
        "text": message.get("content"),
        "refusal": message.get("refusal"),
        "finish_reason": choice.get("finish_reason"),
        "tokens_in": usage.get("prompt_tokens", most_tokens_in(request)),
        "tokens_out": usage.get("completion_tokens", limit_of(request) or 0),
        "served_by": completion.get("model"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": None,
    }


def _missing(what: str) -> str:
    return (
        f"The environment variable OPENAI_API_KEY {what}: type `export OPENAI_API_KEY=...` with your key, or set "
        "definitions.source to wordnet or none, since no other step needs a key."
    )


def _sentence(error: openai.OpenAIError, where: str, model: str) -> str:
    """What went wrong, in words of our own."""
    status = getattr(error, "status_code", None)
    code = harmless(getattr(error, "code", None))
    code = f", {code}" if code else ""
    if status in (401, 403):
        has_key = os.environ.get("OPENAI_API_KEY", "").strip()
        return _missing(f"is refused by {where} (HTTP {status})" if has_key else f"is not set, and {where} wants one")
    if status == 404:
        return f"definitions.model: {where} has no model {model!r} for this key (HTTP 404). {AGAIN}"
    if status == 429 and code == ", insufficient_quota":
        return f"The account at {where} has no credit left. Add some. {AGAIN}"
    if status in (408, 409, 429) or (status or 0) >= 500:
        rest = _rest(error.response.headers)
        if LONGEST_REST < rest < math.inf:
            return f"{where} asks to be left alone for {rest / 60:.0f} minutes (HTTP {status}{code}). {AGAIN}"
        return f"{where} still does not answer after {RETRIES + 1} tries (HTTP {status}{code}). {AGAIN}"
    if status is not None:
        return (
            f"{where} does not take the request (HTTP {status}{code}): look at definitions.model, temperature and "
            f"max_tokens. {AGAIN}"
        )
    if isinstance(error, openai.APIConnectionError):
        return f"{where} cannot be reached ({type(error).__name__}). {AGAIN}"
    return f"{where} gave an answer that cannot be read ({type(error).__name__}). {AGAIN}"


def _rest(headers: Mapping[str, str]) -> float:
    """The seconds that a server asks for in Retry-After, as a number or a date; 0 where it does not."""
    said = headers.get("retry-after", "")
    with suppress(ValueError):
        return float(said)
    with suppress(ValueError):
        return (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    return 0.0
