"""The one place that reads OPENAI_API_KEY and talks to a server of OpenAI's API.

No error, log line or file that comes from here holds the key: what the client library says is never passed on,
since servers repeat keys in their messages and its exceptions carry the request with its headers.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
import openai

from polclip.definitions.completions import answer_in, completion_in, filtered_answer
from polclip.definitions.limits import LimitedClient, OverLimit, Pace
from polclip.definitions.server_errors import AGAIN, missing_key, sentence, unlike
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
        http_client=LimitedClient(
            Pace(requests_per_minute),
            # With a transport of its own the client builds no proxies that this address does not need.
            transport=httpx2.AsyncHTTPTransport(proxy=proxy, limits=openai.DEFAULT_CONNECTION_LIMITS),
        ),
    )


async def plainly(call: Awaitable[Given], base_url: str, model: str) -> Given:
    """What a call of the client gives; what it raises is a UserError in words of our own."""
    try:
        return await call
    except OverLimit as error:
        failure = f"{base_url or 'OpenAI'} {error}. Look at the server, or at what is between. {AGAIN}"
    except openai.OpenAIError as error:
        failure = sentence(error, base_url, model, RETRIES + 1)
    except ValueError as error:  # a key or an address that no header can hold
        failure = (
            f"The request to {base_url or 'OpenAI'} cannot be sent ({type(error).__name__}): are OPENAI_API_KEY and "
            "definitions.base_url what they should be?"
        )
    raise UserError(failure)  # outside of `except`, so that the library's error is not chained to it


async def ask(client: openai.AsyncOpenAI, key: str, request: Mapping, base_url: str = "") -> dict:
    """The answer to one request (`prompts.request_of`), see `completions.answer_in`.

    key: `cache.key_of` the request, sent along, so that a server that knows idempotency keys charges an answer
    once though it was lost on the way. Raises UserError.
    """
    for tries_left in reversed(range(UNREADABLE_TRIES)):
        answer = await plainly(_answer(client, key, request, last=not tries_left), base_url, request["model"])
        if answer:
            return answer
        await asyncio.sleep(UNREADABLE_WAIT)
    raise UserError(unlike(base_url))


async def _answer(client: openai.AsyncOpenAI, key: str, request: Mapping, last: bool) -> dict | None:
    """The answer; None where something else came, and it may be asked for again."""
    try:
        # Not `chat.completions.create`, which takes longer to look at a question's types than to send it.
        response = await client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body=dict(request),
            options={"headers": {"Idempotency-Key": key}},
        )
    except OverLimit:
        if last:
            raise
        return None
    except openai.APIStatusError as error:
        if error.code == "content_filter":
            return filtered_answer(request)
        raise
    completion = completion_in(response.content)
    return completion and answer_in(completion, request) | {"seconds": round(response.elapsed.total_seconds(), 3)}
