"""What is asked about an instance, as chat messages, and whether the answer can be used."""

import re
from collections.abc import Mapping

from polclip.definitions.completions import text_in
from polclip.definitions.cost import limit_of
from polclip.definitions.definition_text import definition_text, is_list
from polclip.definitions.languages import in_language
from polclip.errors import UserError
from polclip.records import TextualInstance, VisualInstance

_REFUSAL = re.compile(
    r"(?:unfortunately,? )?(?:i['\u2019]m sorry|i am sorry|sorry\b|i apologi[sz]e|my apologies|i cannot\b|as an ai\b|"
    r"i (?:can|do|am|could)(?: ?not|n['\u2019]t)\b|i(?: am|['\u2019]m) (?:unable|not)\b|(?:could|can) you please\b|"
    r"please (?:provide|clarify)\b)",
    re.IGNORECASE,
)
# What servers call the end of an answer at its limit.
_CUT_OFF = ("length", "max_tokens")


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


def definition_in(answer: Mapping, settings: Mapping, word: str = "") -> tuple[str | None, str | None]:
    """(definition, flag) of an answer as `completions.answer_in` gives it: one of the two is None.

    word: that was asked about. What a model wrote around the definition is left out (`definition_text`).
    Flags: refused (by the server's filter, or in words), unreadable (no text came), overlong (cut off at the limit of
    `definitions.parameters`, or more words than that: a server may not keep to it), several (a list of definitions),
    empty (nothing beside thinking and politeness), wrong_language.
    """
    limit = limit_of(settings["parameters"])
    text = text_in(answer["text"]) or ""
    definition = definition_text(text, word)
    refuses = any(map(_REFUSAL.match, (text.strip(), definition)))
    if answer["refusal"] or answer["finish_reason"] == "content_filter" or refuses:
        return None, "refused"
    if not text and (answer["text"] or answer.get("unread")):
        return None, "unreadable"
    if answer["finish_reason"] in _CUT_OFF or (limit and definition.count(" ") >= limit):
        return None, "overlong"
    if is_list(text):
        return None, "several"
    if not definition:
        return None, "empty"
    return (definition, None) if in_language(definition, settings["language"]) else (None, "wrong_language")
