"""What is known of OpenAI's models: their prices, and the days on which they are shut down (openai_models.tsv)."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import urlsplit

from polclip.errors import UserError

# The day from which nobody can start a fine-tuning job at OpenAI: https://developers.openai.com/api/docs/deprecations
FINETUNING_ENDS = date(2027, 1, 6)
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class Price(NamedTuple):
    """USD for a million tokens: asked, answered (reasoning included), and trained on once."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0
    training: float | None = None


@dataclass(frozen=True)
class KnownModel:
    """A model at OpenAI.

    Attributes:
        price: None if it is not known.
        shutdown: the day from which it refuses requests; None if OpenAI has not named one.
        looked_up: the day on which these facts were looked up.
        source: the address of the page they were found on.
    """

    model: str
    price: Price | None
    shutdown: date | None
    looked_up: date
    source: str


@cache
def known_models() -> Mapping[str, KnownModel]:
    """The table, by the name of the model."""
    text = files("polclip.definitions").joinpath("openai_models.tsv").read_text(encoding="utf-8")
    return {row["model"]: _known(row) for row in csv.DictReader(text.splitlines(), delimiter="\t")}


def _known(row: Mapping[str, str]) -> KnownModel:
    price = None
    if row["tokens_in"]:
        training = float(row["training"]) if row["training"] else None
        price = Price(float(row["tokens_in"]), float(row["tokens_out"]), training)
    shutdown = date.fromisoformat(row["shutdown"]) if row["shutdown"] else None
    return KnownModel(row["model"], price, shutdown, date.fromisoformat(row["looked_up"]), row["source"])


def is_openai(base_url: str) -> bool:
    """Whether an address is OpenAI's own; the empty one is."""
    host = urlsplit(base_url).hostname or ""
    return not base_url or host == "api.openai.com" or host.endswith(".api.openai.com")


def known_model(model: str, base_url: str = "") -> KnownModel | None:
    """What is known of a model at OpenAI; None on another server, and of a model that is not in the table.

    A dated snapshot (gpt-6-luna-2026-09-22) is looked up without its date if it has no line of its own. A fine-tuned
    model (ft:BASE:...) is looked up as ft:BASE, else as BASE: it is shut down with its base, but has another price.
    """
    if not is_openai(base_url):
        return None
    for name in _names(listed_name(model)):
        if name in known_models():
            return known_models()[name]
    if model.startswith("ft:"):
        base = known_model(model.split(":")[1])
        return base and KnownModel(model, None, base.shutdown, base.looked_up, base.source)
    return None


def listed_name(model: str) -> str:
    """The name that a model's price is listed under: ft:BASE of a fine-tuned one (ft:BASE:...)."""
    return ":".join(model.split(":")[:2]) if model.startswith("ft:") else model


def _names(model: str) -> tuple[str, str]:
    return model, _SNAPSHOT.sub("", model)


def today() -> date:
    return datetime.now(UTC).date()


def check_alive(model: str, base_url: str = "") -> None:
    """Raise UserError for a model that is known to be shut down."""
    known = known_model(model, base_url)
    if known and known.shutdown and known.shutdown <= today():
        raise UserError(shut_down(model, known.shutdown))


def shut_down(model: str, day: date, base_url: str = "") -> str:
    """The sentence about a model that is gone."""
    if not is_openai(base_url):
        return (
            f"definitions.model: {base_url} shut {model!r} down on {day}. Set definitions.model to one that it lists; "
            "kept answers can still be used."
        )
    living = (name for name, known in known_models().items() if known.price and not known.shutdown)
    return (
        f"definitions.model: OpenAI shut {model!r} down on {day}, and refuses all requests for it. Set "
        f"definitions.model to one that answers ({', '.join(living)}), or definitions.base_url to your own server; "
        "kept answers can still be used."
    )
