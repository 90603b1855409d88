"""The models of the server of tests/openai_server.py: which are gone, and which parameters they refuse, as at OpenAI.

A model of another name than OpenAI's takes every parameter, as most servers of one's own do.
"""

import re
from datetime import UTC, datetime

# As OpenAI's list has them; null: no day was named.
SHUTDOWN_DATES = {
    "gpt-6-luna": None,
    "gpt-6.1-terra": None,
    "gpt-4o-mini-2024-07-18": "2027-01-14",
    "gpt-5-nano": "2026-12-11",
}
GONE = ("gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-3.5-turbo-1106", "gpt-4", "o4-mini", "gpt-4.1-nano")
EFFORTS = ("none", "low", "medium", "high", "xhigh", "max")
DEFAULT_EFFORT = "medium"
_REASONING, _OPENAI = re.compile(r"gpt-[56]|o\d"), re.compile(r"(ft:)?(gpt-|o\d)")
# Refused while the model reasons, unless they have this value.
_ONLY_DEFAULT = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False}


class Refused(Exception):
    """What the server does not do: a status and what the body says."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None):
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


def is_reasoning(model: str) -> bool:
    return bool(_REASONING.match(model))


def reasons(body: dict) -> bool:
    """Whether the model of a chat spends tokens on reasoning."""
    effort = body.get("reasoning_effort", DEFAULT_EFFORT)
    return is_reasoning(body.get("model") or "") and effort != "none"


def check_alive(model: str, shutdown_dates: dict[str, str | None]) -> None:
    base = model.split(":")[1] if model.startswith("ft:") else model
    day = shutdown_dates.get(base)
    if base in GONE or (day and day <= datetime.now(UTC).date().isoformat()):
        message = (
            f"The model `{model}` has been deprecated, learn more here: https://platform.openai.com/docs/deprecations"
        )
        raise Refused(404, message, code="model_not_found", param=None)


def check_parameters(body: dict) -> None:
    """Refuse what OpenAI's models refuse."""
    model, effort = body["model"], body.get("reasoning_effort")
    if not _OPENAI.match(model):
        return
    if not is_reasoning(model):
        if effort is not None:
            message = "Unsupported parameter: 'reasoning_effort' is not supported with this model."
            raise Refused(400, message, code="unsupported_parameter", param="reasoning_effort")
        return
    if "max_tokens" in body:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model."
        message += " Use 'max_completion_tokens' instead."
        raise Refused(400, message, code="unsupported_parameter", param="max_tokens")
    if effort not in (None, *EFFORTS):
        message = f"Unsupported value: 'reasoning_effort' does not support '{effort}' with this model."
        raise Refused(400, message, code="unsupported_value", param="reasoning_effort")
    for name, default in _ONLY_DEFAULT.items():
        if reasons(body) and body.get(name, default) != default:
            message = f"Unsupported value: '{name}' does not support {body[name]} with this model. Only the default "
            raise Refused(400, f"{message}({default}) value is supported.", code="unsupported_value", param=name)


def listing(shutdown_dates: dict[str, str | None]) -> dict:
    """The answer to GET /v1/models."""
    entries = [
        {"id": model, "object": "model", "created": 1_750_000_000, "owned_by": "openai", "shutdown_date": day}
        for model, day in shutdown_dates.items()
    ]
    return {"object": "list", "data": entries}
