"""The one place that reads OPENAI_API_KEY and talks to a server of OpenAI's API.

No error, log line or file that comes from here holds the key: what the client library says is never passed on,
since servers repeat keys in their messages and its exceptions carry the request with its headers.
"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
import openai

from polclip.definitions.cost import limit_of, most_tokens_in
from polclip.definitions.server_errors import NO_CREDIT, missing_key, sentence, unlike
from polclip.downloads.proxies import HTTPX, proxy_for
from polclip.errors import UserError

# The library waits 0.5, 1, 2, 4, 8, 8 ... seconds with jitter, or what Retry-After says: after 408, 409, 429, 5xx,
# timeouts and cut connections.
RETRIES = 10
TIMEOUT_SECONDS = 60.0
# What is no completion (a proxy's page, half a text) is asked for again, so many times in all.
UNREADABLE_TRIES, UNREADABLE_WAIT = 5, 0.5
OPENAI = "https://api.openai.com/v1"
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
    where one is needed, and for a proxy that cannot be used.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and not base_url:
        raise UserError(missing_key("is not set"))
    if "@" in urlsplit(base_url).netloc:
        raise UserError("definitions.base_url: leave out name and password; type: export OPENAI_API_KEY=...")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line a request otherwise
    logging.getLogger("openai").setLevel(logging.WARNING)
    address = base_url or OPENAI  # said, since the library would look into the environment otherwise
    proxy = proxy_for(address, HTTPX)
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=address,
        max_retries=RETRIES,
        timeout=TIMEOUT_SECONDS,
        http_client=openai.DefaultAsyncHttpxClient(
            # With a transport of its own the client builds no proxies that this address does not need.
            transport=httpx2.AsyncHTTPTransport(proxy=proxy, limits=openai.DEFAULT_CONNECTION_LIMITS),
            event_hooks={"request": [Pace(requests_per_minute).turn], "response": [_stop_without_credit]},
        ),
    )


async def _stop_without_credit(response: httpx2.Response) -> None:
    """Keep the library from trying again, where the account has nothing to pay with."""
    if response.status_code == 429:
        content = await response.aread()
        if any(f'"{code}"'.encode() in content for code in NO_CREDIT):
            response.headers["x-should-retry"] = "false"


async def plainly(call: Awaitable[Given], base_url: str, model: str) -> Given:
    """What a call of the client gives; what it raises is a UserError in words of our own."""
    try:
        return await call
    except openai.OpenAIError as error:
        failure = sentence(error, base_url, model, RETRIES + 1)
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
    raise UserError(unlike(base_url))


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


def filtered_answer(request: Mapping) -> dict:
    """What is kept of a request that the server's filter kept from being answered."""
    unpaid = {"finish_reason": "content_filter", "tokens_in": 0, "tokens_out": 0}
    return answer_in({"choices": []}, request) | unpaid


def answer_in(completion: Mapping, request: Mapping) -> dict:
    """What is kept of a chat completion, as the API writes it.

    text, refusal, finish_reason; tokens_in, tokens_out (of a server that counts none, the most there can be), and
    tokens_reasoning, which are part of tokens_out;
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
        "tokens_reasoning": (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
        "served_by": completion.get("model"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": None,
    }
