"""What went wrong at a server of OpenAI's API, in words of our own.

Nothing that a server or the client library says is repeated, since servers repeat keys in their messages; a code or the
name of a parameter is, if it is a plain word.
"""

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import openai

from polclip.definitions.known_models import is_openai
from polclip.downloads.proxies import through_proxy

AGAIN = "Answers so far are kept: run the same command again to get the rest."
# Codes of an account that has to be paid for first; waiting does not help.
NO_CREDIT = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active"}
)
# The library does not retry what asks for a longer rest (seconds).
LONGEST_REST = 120
_HARMLESS_CODE = re.compile(r"[a-z_]{1,40}")
# What to do about a parameter that is refused, beside leaving it out.
_INSTEAD = {
    "max_tokens": "write max_completion_tokens in its place",
    "max_completion_tokens": "write max_tokens in its place",
    "reasoning_effort": "write an effort that the model knows",
    **dict.fromkeys(
        ("temperature", "top_p", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty"),
        "set reasoning_effort to none",
    ),
}


def harmless(code: object) -> str:
    """An error's code, if it is a plain word that cannot hold a key; else an empty text."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    plain = isinstance(code, str) and _HARMLESS_CODE.fullmatch(code) and not (key and key in code)
    return code if plain else ""


def missing_key(what: str) -> str:
    return (
        f"The environment variable OPENAI_API_KEY {what}: type `export OPENAI_API_KEY=...` with your key, or set "
        "definitions.source to wordnet or none, since no other step needs a key."
    )


def lacks_version(base_url: str) -> str:
    """A sentence about an address without the /v1 at its end; empty for one that has a version, and for OpenAI."""
    address = urlsplit(base_url)
    if is_openai(base_url) or re.search(r"/v\d", address.path):
        return ""
    end = f"write {base_url.rstrip('/')}/v1" if address.path in ("", "/") else "compare it with the server's manual"
    return f"definitions.base_url: {base_url} probably lacks the end of its path, mostly /v1; {end}."


def unlike(base_url: str) -> str:
    """The sentence about a server whose answers are not those of the API."""
    return lacks_version(base_url) or (
        f"definitions.base_url: {base_url or 'OpenAI'} does not answer as OpenAI's API does (/chat/completions). "
        "An address looks like http://localhost:8000/v1"
    )


def sentence(error: openai.OpenAIError, base_url: str, model: str, tries: int) -> str:
    """What went wrong, in words of our own. tries: how often the library tries what may pass."""
    where = base_url or "OpenAI"
    status = getattr(error, "status_code", None)
    plain_code = harmless(getattr(error, "code", None))
    code = f", {plain_code}" if plain_code else ""
    if status == 401:
        has_key = os.environ.get("OPENAI_API_KEY", "").strip()
        return missing_key(
            f"is refused by {where} (HTTP 401{code})" if has_key else f"is not set, and {where} wants one"
        )
    if status == 403:
        return _forbidden(plain_code, where, model)
    if status in (404, 405):
        return _not_found(error, base_url, model)
    if status == 429 and plain_code in NO_CREDIT:
        return f"The account at {where} has no credit left (HTTP 429{code}). Add some. {AGAIN}"
    if status in (408, 409, 429) or (status or 0) >= 500:
        rest = _rest(error.response.headers)
        if LONGEST_REST < rest < math.inf:
            return f"{where} asks to be left alone for {rest / 60:.0f} minutes (HTTP {status}{code}). {AGAIN}"
        return f"{where} still does not answer after {tries} tries (HTTP {status}{code}). {AGAIN}"
    if status is not None:
        return _not_taken(error, where, f"HTTP {status}{code}")
    if isinstance(error, openai.APIConnectionError):
        through = through_proxy(base_url or "https://api.openai.com")
        return f"{where} cannot be reached{through} ({type(error).__name__}). {AGAIN}"
    return f"{where} gave an answer that cannot be read ({type(error).__name__}). {AGAIN}"


def _forbidden(code: str, where: str, model: str) -> str:
    shown = f" (HTTP 403, {code})" if code else " (HTTP 403)"
    if code == "unsupported_country_region_territory":
        return f"{where} does not serve the country or network that this machine asks from{shown}. {AGAIN}"
    key = "" if os.environ.get("OPENAI_API_KEY", "").strip() else " No OPENAI_API_KEY is set; the server may want one."
    return (
        f"{where} knows the key and does not allow the request{shown}: its project or organisation may not use "
        f"{model!r}, is not verified, or asks from a place that is not served.{key} Look at limits and verification in "
        f"the account, or set definitions.model to another. {AGAIN}"
    )


def _not_found(error: openai.APIStatusError, base_url: str, model: str) -> str:
    names_model = error.code == "model_not_found" or error.param == "model" or model in str(error.message)
    where, status = base_url or "OpenAI", error.status_code
    if status == 404 and (names_model or is_openai(base_url)):
        return f"definitions.model: {where} has no model {model!r} for this key (HTTP 404). {AGAIN}"
    cause = lacks_version(base_url) or (
        f"definitions.base_url: {where} may be a wrong address, or {model!r} (definitions.model) not be there."
    )
    return f"{cause} It answered HTTP {status}. {AGAIN}"


def _not_taken(error: openai.APIStatusError, where: str, status: str) -> str:
    param = harmless(error.param)
    if not param or param in ("messages", "model"):
        look = "look at definitions.model and definitions.parameters"
        return f"{where} does not take the request ({status}): {look}. {AGAIN}"
    instead = f", or {_INSTEAD[param]}" if param in _INSTEAD else ""
    return (
        f"definitions.parameters.{param}: {where} does not take it with this model ({status}). Leave it out "
        f"({param}: null){instead}. {AGAIN}"
    )


def _rest(headers: Mapping[str, str]) -> float:
    """The seconds that a server asks for in Retry-After, as a number or a date; 0 where it does not."""
    said = headers.get("retry-after", "")
    with suppress(ValueError):
        return float(said)
    with suppress(ValueError):
        return (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    return 0.0
