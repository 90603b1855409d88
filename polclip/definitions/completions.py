"""What is kept of a chat completion, whatever a server sent in the place of what OpenAI's API promises.

An answer is paid for when it arrives. So it is kept first, with what it cost, and judged later
(`prompts.definition_in`).
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime

from polclip.definitions.cost import limit_of, most_tokens_in

# No model reads or writes more tokens at once: a larger number in `usage` is not a count of tokens.
MOST_TOKENS = 2_000_000
# Characters that are kept of an answer that is not a text, and of the model's name.
ODD_CHARACTERS, NAME_CHARACTERS = 20_000, 200
# Python refuses to read integers of more than 4,300 digits.
_MOST_DIGITS = 400


def read_json(content: bytes) -> object:
    """A JSON value of a server. Raises ValueError, and RecursionError where it is nested too deeply."""
    return json.loads(content, parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else math.inf)


def completion_in(content: bytes) -> dict | None:
    """The completion in a response's body; None where the body is something else."""
    try:
        value = read_json(content)
    except RecursionError:  # no proxy sends such a page, so an answer was paid for
        return {"choices": None}
    except ValueError:
        return None
    return value if is_completion(value) else None


def is_completion(value: object) -> bool:
    """Whether a JSON value is a chat completion, however odd. A proxy's page and an error are not."""
    if not isinstance(value, dict) or (value.get("error") and not value.get("choices")):
        return False
    return "choices" in value or value.get("object") == "chat.completion"


def answer_in(completion: Mapping, request: Mapping) -> dict:
    """What is kept of a chat completion.

    text: as it came, text parts joined; null where there is none.
    refusal, finish_reason: as they came, null where they are not texts.
    tokens_in, tokens_out: as the server counted; where it did not, or not in numbers, the most there can be.
    tokens_reasoning: those of tokens_out that were reasoning.
    served_by: the model's name at the server. date: UTC, when the answer came in. seconds: that it took, null where
    that is not known.
    unread: null, or the JSON of what came where no message with a text should be.
    """
    choice = _object(_first(completion.get("choices")))
    message, usage = _object(choice.get("message")), _object(completion.get("usage"))
    content = message.get("content")
    is_plain = isinstance(content, str) or (content is None and bool(message))
    text = text_in(content)
    return {
        "text": text,
        "refusal": _string(message.get("refusal")) or _refusal_in(content),
        "finish_reason": _string(choice.get("finish_reason")),
        "tokens_in": _tokens(usage.get("prompt_tokens"), 1, most_tokens_in(request)),
        "tokens_out": _tokens(usage.get("completion_tokens"), 1 if text else 0, limit_of(request) or 0),
        "tokens_reasoning": _tokens(_object(usage.get("completion_tokens_details")).get("reasoning_tokens"), 0, 0),
        "served_by": (_string(completion.get("model")) or "")[:NAME_CHARACTERS] or None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": None,
        "unread": None if is_plain else _json_of(content if message else completion),
    }


def filtered_answer(request: Mapping) -> dict:
    """What is kept of a request that the server's filter kept from being answered."""
    unpaid = {"finish_reason": "content_filter", "tokens_in": 0, "tokens_out": 0, "unread": None}
    return answer_in({}, request) | unpaid


def unreadable_answer(came: object, request: Mapping) -> dict:
    """What is kept of a request that was paid for, and for which something else than a completion came."""
    return answer_in({}, request) | {"unread": _json_of(came)}


def text_in(content: object) -> str | None:
    """The text of a message's content, which is a text or a list of parts; None where it has none."""
    if isinstance(content, str):
        return _unicode(content)
    texts = [part if isinstance(part, str) else _text_of_part(_object(part)) for part in _parts(content)]
    return _unicode("".join(filter(None, texts))) or None


def _text_of_part(part: Mapping) -> str | None:
    """The text of a part, unless it is the model's thinking."""
    return _string(part.get("text")) if part.get("type") in (None, "text", "output_text") else None


def _refusal_in(content: object) -> str | None:
    return next(filter(None, (_string(_object(part).get("refusal")) for part in _parts(content))), None)


def _parts(content: object) -> list:
    return content if isinstance(content, list) else [content]


def _tokens(count: object, fewest: int, most: int) -> int:
    """A count of tokens; the most there can be where it is not one."""
    is_number = isinstance(count, int | float) and not isinstance(count, bool)
    return math.ceil(count) if is_number and fewest <= count <= MOST_TOKENS else most


def _object(value: object) -> Mapping:
    return value if isinstance(value, dict) else {}


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None


def _string(value: object) -> str | None:
    return _unicode(value) if isinstance(value, str) else None


def _unicode(text: str) -> str:
    """The text without lone halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _json_of(value: object) -> str:
    try:
        return json.dumps(value)[:ODD_CHARACTERS]
    except RecursionError:
        return "nested too deeply"
