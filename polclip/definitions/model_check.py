"""Whether a model still answers: by the table of OpenAI's models, and by what the server itself says (GET /models)."""

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import date

import httpx2
import openai

from polclip.definitions.client import connect, plainly
from polclip.definitions.known_models import check_alive, known_model, shut_down, today
from polclip.definitions.server_errors import lacks_version
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
        entries = await models_at(client)
    except openai.OpenAIError:
        return None
    return _day_of(entries or [], model)


async def models_at(client: openai.AsyncOpenAI) -> list[dict] | None:
    """The server's list of models; None if it has none that can be read. Raises OpenAIError."""
    listing = client.with_options(max_retries=0, timeout=LIST_SECONDS)
    try:
        async with asyncio.timeout(LIST_SECONDS):
            response = await listing.get("/models", cast_to=httpx2.Response)
        entries = json.loads(response.content)["data"]
    except (openai.NotFoundError, TimeoutError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else None


def _day_of(entries: list[dict], model: str) -> date | None:
    days = (entry.get("shutdown_date") for entry in entries if entry.get("id") == model)
    with suppress(ValueError, TypeError):
        return date.fromisoformat(next(days, None))
    return None


def model_report(settings: Mapping) -> str:
    """What is known of the model that would be asked, for `check_setup`; the server is asked, and nothing is paid.

    OpenAI is not asked without a key; only the table of its models is looked at.

    settings: the config's block `definitions`.
    """
    model, base_url = settings["model"], settings["base_url"]
    where, known = base_url or "OpenAI", known_model(model, base_url)
    day = known and known.shutdown
    if day and day <= today():
        return shut_down(model, day, base_url)
    if not base_url and not os.environ.get("OPENAI_API_KEY", "").strip():
        told = f"shut down on {day}" if day else "no day of its shutdown is known"
        looked_up = f"looked up on {known.looked_up}" if known else "it is not in the table of models"
        return f"{model}: {told} ({looked_up}); {where} is not asked without a key"
    try:
        entries = asyncio.run(_models_of(base_url, model))
    except UserError as error:
        return f"{model}: {error}"
    if entries is None:
        return f"{model}: {where} has no list of models" + (f": {lacks}" if (lacks := lacks_version(base_url)) else "")
    if model not in [entry.get("id") for entry in entries]:
        return f"{model}: not in the list of models that {where} gives; look at definitions.model"
    day = _day_of(entries, model) or day
    if day and day <= today():
        return shut_down(model, day, base_url)
    return f"{model}: {where} has it, " + (f"until {day}" if day else "and names no day of its shutdown")


async def _models_of(base_url: str, model: str) -> list[dict] | None:
    async with connect(base_url) as client:
        return await plainly(models_at(client), base_url, model)
