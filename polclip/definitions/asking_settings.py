"""What cannot be meant in the settings by which a language model is asked; one sentence for each fault."""

import json
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from polclip.definitions.cost import LIMITS
from polclip.definitions.known_models import is_openai, known_model, known_models, today

# The workflow sets the first ones itself; the others change how an answer is sent, how many there are, or what is paid.
NO_PARAMETERS = (
    *("model", "messages", "stream", "stream_options", "n"),
    *("tools", "tool_choice", "functions", "function_call", "web_search_options", "modalities", "audio"),
)
SERVICE_TIERS = ("auto", "default", "flex")


def wrong_asking(definitions: Mapping) -> Iterator[str]:
    """What is wrong with model, base_url, parameters and finetuning of the config's block `definitions`."""
    yield from _wrong_address(definitions["base_url"])
    yield from _wrong_parameters(definitions["parameters"])
    if definitions["source"] == "openai":
        if not definitions["model"].strip():
            yield "definitions.model: empty; write the name of a model that the server knows, such as gpt-6-luna."
        yield from _wrong_finetuning(definitions)


def _wrong_address(base_url: str) -> Iterator[str]:
    # An address with name and password is refused where it is used (`client.connect`), and not shown.
    try:
        address = urlsplit(base_url)
    except ValueError:
        address = urlsplit("")
    if base_url and (address.scheme not in ("http", "https") or not address.hostname):
        shown = f"{base_url!r} " if "@" not in base_url else ""
        yield (
            f"definitions.base_url: {shown}is not an address; allowed: one that begins with http:// or https://, such "
            "as http://localhost:8000/v1, or an empty text for OpenAI."
        )
    elif address.path.rstrip("/").endswith(("/completions", "/responses")):
        yield (
            "definitions.base_url: it ends in the name of an endpoint, which is added to it; write the part before, "
            "which usually ends in /v1."
        )


def _wrong_parameters(parameters: Mapping) -> Iterator[str]:
    for name, value in parameters.items():
        place = f"definitions.parameters.{name}"
        if not isinstance(name, str):
            yield f"definitions.parameters: {name!r} is not a name; write a name of the API, in quotes if need be."
        elif name in NO_PARAMETERS:
            yield f"{place}: not allowed, since the workflow sets it or could not read or price the answer; remove it."
        elif name in LIMITS and not (value is None or (type(value) is int and value >= 1)):
            yield f"{place}: {value!r} is not allowed; allowed: a whole number, at least 1, or null. Write {name}: 60."
        elif name == "service_tier" and value not in (None, *SERVICE_TIERS):
            yield f"{place}: {value!r} has other prices; allowed: {' | '.join(SERVICE_TIERS)} | null."
        elif not _is_json(value):
            yield f"{place}: {value!r} cannot be sent; allowed: numbers, texts, true, false, null, lists and blocks."


def _is_json(value: object) -> bool:
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False


def _wrong_finetuning(definitions: Mapping) -> Iterator[str]:
    """OpenAI fine-tunes only models whose training has a price."""
    model = definitions["model"]
    if definitions["finetuning"]["corpus"] == "none" or not is_openai(definitions["base_url"]):
        return
    known = known_model(model)
    prices = definitions["prices"].get(model) or {}
    if known and not (known.price and known.price.training) and not prices.get("training"):
        alive = (
            name
            for name, other in known_models().items()
            if other.price and other.price.training and not (other.shutdown and other.shutdown <= today())
        )
        yield (
            f"definitions.finetuning.corpus: OpenAI does not fine-tune {model!r}. Allowed: "
            f"{', '.join(alive) or 'no model any more'} (only for organisations that fine-tuned before), a server "
            "of your own in definitions.base_url, or finetuning: {corpus: none}."
        )
