"""What is asked about an instance, as chat messages, and whether the answer can be used."""

import re
from collections.abc import Mapping

from polclip.definitions.cost import limit_of
from polclip.definitions.languages import in_language
from polclip.errors import UserError
from polclip.records import TextualInstance, VisualInstance

_REFUSAL = re.compile(
    r"(?:i['\u2019]m sorry|i am sorry|sorry\b|i apologi[sz]e|i cannot\b|i can['\u2019]t\b|as an ai\b)", re.IGNORECASE
)


def question_of(instance: TextualInstance | VisualInstance) -> tuple[str, str]:
    """(word, phrase) that the prompt is filled in with.

    Of a textual instance its target as it is written, and its sentence with the target in asterisks, since a word
    may occur twice: `The *bat* flew past another bat`.
    """
    if isinstance(instance, VisualInstance):
        return instance.word, instance.phrase
    start, end = instance.target_span
    target = instance.text[start:end]
    return target, f"{instance.text[:start]}*{target}*{instance.text[end:]}"


def messages_of(instance: TextualInstance | VisualInstance, settings: Mapping) -> list[dict]:
    """System and user message about an instance. A prompt that cannot be filled in is a UserError.

    settings: the config's block `definitions`; its prompt has {word} and {phrase}, and no other placeholders.
    """
    prompt, (word, phrase) = settings["prompt"], question_of(instance)
    try:
        asked = prompt.format(word=word, phrase=phrase)
    except (KeyError, IndexError, ValueError, AttributeError):
        asked = None
    if asked is None or "{word}" not in prompt or "{phrase}" not in prompt:
        raise UserError(
            f"definitions.prompt: {prompt!r} cannot be filled in. Allowed: a text with {{word}} and {{phrase}}, "
            "each at least once, and no other braces (write {{ for a brace)."
        )
    return [{"role": "system", "content": settings["system"]}, {"role": "user", "content": asked}]


def request_of(instance: TextualInstance | VisualInstance, settings: Mapping) -> dict:
    """The body of one chat request: model, messages, and `definitions.parameters` without those that are null.

    It is a function of word, phrase and settings alone.
    """
    parameters = {name: value for name, value in settings["parameters"].items() if value is not None}
    return {"model": settings["model"], "messages": messages_of(instance, settings), **parameters}


def definition_in(answer: Mapping, settings: Mapping) -> tuple[str | None, str | None]:
    """(definition, flag) of an answer as `client.answer_in` gives it: one of the two is None.

    Flags: refused (by the server's filter, or in words), overlong (cut off at the limit of `definitions.parameters`, or
    more words than that: a server may not keep to it), empty, wrong_language.
    """
    limit = limit_of(settings["parameters"])
    text = " ".join((answer["text"] or "").split())
    if answer["refusal"] or answer["finish_reason"] == "content_filter" or _REFUSAL.match(text):
        return None, "refused"
    if answer["finish_reason"] == "length" or (limit and text.count(" ") >= limit):
        return None, "overlong"
    if not text:
        return None, "empty"
    return (text, None) if in_language(text, settings["language"]) else (None, "wrong_language")
