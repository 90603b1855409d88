"""The one place that reads OPENAI_API_KEY and talks to a server of chat completions.

No error, log line or file that comes from here holds the key: what the client library says is never passed on,
since servers repeat keys in their messages and its exceptions carry the request with its headers.
"""

import logging
import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import openai

from polclip.definitions.cost import most_tokens_in
from polclip.errors import UserError

# Waits of 0.5, 1, 2, 4, 8, 8 seconds, or what Retry-After says: for 408, 409, 429, 5xx and cut connections.
RETRIES = 6
TIMEOUT_SECONDS = 60.0
OPENAI = "https://api.openai.com/v1"
_HARMLESS_CODE = re.compile(r"[a-z_]{1,40}")


def connect(base_url: str = "") -> Callable[[Mapping], dict]:
    """Make the function that asks one request (`prompts.request_of`) and gives its answer as a dict.

    base_url: of a server that speaks OpenAI's protocol; empty: OpenAI. Raises UserError when the key is missing
    where one is needed. The answer: text, refusal, finish_reason, tokens_in, tokens_out.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and not base_url:
        raise UserError(_missing("is not set"))
    if "@" in urlsplit(base_url).netloc:
        raise UserError("definitions.base_url: leave out name and password; type: export OPENAI_API_KEY=...")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line a request otherwise
    client = openai.OpenAI(
        api_key=key or "none",
        base_url=base_url or OPENAI,  # said, since the library would look into the environment otherwise
        max_retries=RETRIES,
        timeout=TIMEOUT_SECONDS,
    )
    where = base_url or "OpenAI"

    def ask(request: Mapping) -> dict:
        failure = None
        try:
            response = client.chat.completions.create(**request)
        except openai.OpenAIError as error:
            if getattr(error, "code", None) == "content_filter":
                return _answer(request, finish_reason="content_filter") | {"tokens_in": 0, "tokens_out": 0}
            failure = _sentence(error, where, request["model"], bool(key))
        except ValueError as error:  # a key or an address that no header can hold
            failure = (
                f"The request to {where} cannot be sent ({type(error).__name__}): are OPENAI_API_KEY and "
                "definitions.base_url what they should be?"
            )
        if failure:
            raise UserError(failure)  # outside of `except`, so that the library's error is not chained to it
        choices = getattr(response, "choices", None)
        if choices is None:
            raise UserError(
                f"definitions.base_url: {where} does not answer as /chat/completions does. "
                "An address looks like http://localhost:8000/v1"
            )
        message = choices[0].message if choices else None
        return _answer(
            request,
            text=getattr(message, "content", None),
            refusal=getattr(message, "refusal", None),
            finish_reason=choices[0].finish_reason if choices else None,
            usage=response.usage,
        )

    return ask


def _answer(request: Mapping, text=None, refusal=None, finish_reason=None, usage=None) -> dict:
    # A server that does not count tokens is taken to have used the most it can have.
    return {
        "text": text,
        "refusal": refusal,
        "finish_reason": finish_reason,
        "tokens_in": usage.prompt_tokens if usage else most_tokens_in(request),
        "tokens_out": usage.completion_tokens if usage else request["max_tokens"],
    }


def _missing(what: str) -> str:
    return (
        f"The environment variable OPENAI_API_KEY {what}: type `export OPENAI_API_KEY=...` with your key, or set "
        "definitions.source to wordnet or none, since no other step needs a key."
    )


def _sentence(error: openai.OpenAIError, where: str, model: str, has_key: bool) -> str:
    """What went wrong, in words of our own."""
    again = "Answers so far are kept: run the same command again to get the rest."
    status = getattr(error, "status_code", None)
    code = str(getattr(error, "code", None) or "")
    code = f", {code}" if _HARMLESS_CODE.fullmatch(code) else ""
    if status in (401, 403):
        return _missing(f"is refused by {where} (HTTP {status})" if has_key else f"is not set, and {where} wants one")
    if status == 404:
        return f"definitions.model: {where} has no model {model!r} for this key (HTTP 404). {again}"
    if status == 429 and code == ", insufficient_quota":
        return f"The account at {where} has no credit left. Add some. {again}"
    if status in (408, 409, 429) or (status or 0) >= 500:
        return f"{where} still does not answer after {RETRIES + 1} tries (HTTP {status}{code}). {again}"
    if status is not None:
        return (
            f"{where} does not take the request (HTTP {status}{code}): look at definitions.model, temperature and "
            f"max_tokens. {again}"
        )
    if isinstance(error, openai.APIConnectionError):
        return f"{where} cannot be reached ({type(error).__name__}). {again}"
    return f"{where} gave an answer that cannot be read ({type(error).__name__}). {again}"
