"""What is asked about a visual query, as chat messages, and whether the answer can be used."""

import re
from collections.abc import Mapping

from polclip.errors import UserError
from polclip.records import VisualInstance

_REFUSAL = re.compile(
    r"(?:i['\u2019]m sorry|i am sorry|sorry\b|i apologi[sz]e|i cannot\b|i can['\u2019]t\b|as an ai\b)", re.IGNORECASE
)


def request_of(instance: VisualInstance, settings: Mapping) -> dict:
    """The body of one chat request (model, messages, temperature, max_tokens), a function of word and phrase alone.

    settings: the config's block `definitions`. A prompt with other placeholders than {word} and {phrase}, or
    without one of them, is a UserError.
    """
    prompt = settings["prompt"]
    try:
        asked = prompt.format(word=instance.word, phrase=instance.phrase)
    except (KeyError, IndexError, ValueError, AttributeError):
        asked = None
    if asked is None or "{word}" not in prompt or "{phrase}" not in prompt:
        raise UserError(
            f"definitions.prompt: {prompt!r} cannot be filled in. Allowed: a text with {{word}} and {{phrase}}, "
            "each at least once, and no other braces (write {{ for a brace)."
        )
    return {
        "model": settings["model"],
        "messages": [{"role": "system", "content": settings["system"]}, {"role": "user", "content": asked}],
        "temperature": settings["temperature"],
        "max_tokens": settings["max_tokens"],
    }


def definition_in(answer: Mapping) -> tuple[str | None, str | None]:
    """(definition, flag) of an answer as `client.ask` gives it: one of the two is None.

    Flags: refused (by the server's filter, or in words), overlong (cut off at max_tokens), empty.
    """
    text = " ".join((answer["text"] or "").split())
    if answer["refusal"] or answer["finish_reason"] == "content_filter" or _REFUSAL.match(text):
        return None, "refused"
    if answer["finish_reason"] == "length":
        return None, "overlong"
    return (text, None) if text else (None, "empty")
