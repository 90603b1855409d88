"""Whether a model still answers: by the table of OpenAI's models, and by what the server itself says (GET /models)."""

import json
import logging
from collections.abc import Mapping
from datetime import date

import httpx2
import openai

from polclip.definitions.known_models import check_alive, known_model, shut_down, today
from polclip.errors import UserError

log = logging.getLogger(__name__)
# Seconds that the list of models may take: it is not worth waiting for.
LIST_SECONDS = 10
# A shutdown within so many days is warned of.
SOON_DAYS = 60


async def check_model(client: openai.AsyncOpenAI, settings: Mapping) -> None:
    """Raise UserError for a model that is shut down, and warn of one that will be soon.

    A server that has no list of models, or whose list has no dates, is not complained of.

    settings: `model` and `base_url` of the config's block `definitions`.
    """
    model, base_url = settings["model"], settings["base_url"]
    check_alive(model, base_url)
    known = known_model(model, base_url)
    day = await shutdown_at_server(client, model) or (known and known.shutdown)
    if day and day <= today():
        raise UserError(shut_down(model, day, base_url))
    if day and (day - today()).days <= SOON_DAYS:
        log.warning("%s", goes_soon(model, day))


def goes_soon(model: str, day: date) -> str:
    days = (day - today()).days
    return f"definitions.model: {model!r} will be shut down on {day}, in {days} days; no new answers come after that."


async def shutdown_at_server(client: openai.AsyncOpenAI, model: str) -> date | None:
    """The day that the server's list gives for a model; None without one, or without a list that can be read."""
    try:
        listing = client.with_options(max_retries=0, timeout=LIST_SECONDS)
        response = await listing.get("/models", cast_to=httpx2.Response)
        entries = json.loads(response.content)["data"]
        days = [entry.get("shutdown_date") for entry in entries if entry.get("id") == model]
        return date.fromisoformat(days[0]) if days and days[0] else None
    except (openai.OpenAIError, ValueError, TypeError, KeyError, AttributeError):
        return None
