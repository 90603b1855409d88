"""A model fine-tuned at the server on a corpus of chat lines, once for the same data and settings."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import openai
from filelock import FileLock
from openai.types.fine_tuning import FineTuningJob
from tqdm import tqdm

from polclip.definitions.cache import AnswerCache
from polclip.definitions.client import connect
from polclip.definitions.cost import price_of
from polclip.definitions.dgpt_corpus import check_dgpt_corpus
from polclip.definitions.known_models import FINETUNING_ENDS, is_openai, today
from polclip.definitions.model_check import check_model
from polclip.definitions.server_errors import harmless, lacks_version
from polclip.definitions.server_jobs import (
    PAGE,
    alone,
    asked,
    listed,
    look_waits,
    marked,
    once,
    start_once,
    until_stopped,
    upload,
)
from polclip.definitions.stopping import ended_at_once
from polclip.errors import UserError
from polclip.files import write_json

log = logging.getLogger(__name__)
# `result` is what is written of a model, null while it is in training.
_TABLE = "CREATE TABLE IF NOT EXISTS finetuned (digest TEXT PRIMARY KEY, job TEXT NOT NULL, result TEXT)"


def finetune(corpus: str | Path, model: str | Path, settings: Mapping, cache: AnswerCache) -> None:
    """Fine-tune `definitions.model` on a corpus, and write what came of it (JSON).

    A job that was started for the same data and settings, by whatever process, is taken up again; a model that it gave
    is written again without key, network or cost.

    Args:
        corpus: JSON Lines, see `check_dgpt_corpus`.
        settings: the config's block `definitions`.
        cache: in whose database jobs are remembered.

    The JSON: model (ft:...), job_id, base, corpus (its SHA-256), epochs, seed, trained_tokens, usd, date (UTC, when it
    was done), seconds (from its start). Raises UserError where it would cost more than `finetuning.max_usd`, before
    anything is uploaded; and for a job that failed, which the next call starts anew.
    """
    about = check_dgpt_corpus(corpus, settings)
    if about["duplicates"]:
        log.warning("%s: %d lines stand there more than once", corpus, about["duplicates"])
    digest = _digest(about["sha256"], settings)
    cache.execute(_TABLE)
    done = cache.execute("SELECT result FROM finetuned WHERE digest = ? AND result IS NOT NULL", (digest,))
    if done:
        result = json.loads(done[0][0])
        log.info("%s was fine-tuned before, for the same data and settings", result["model"])
    else:
        stopped = "Stopped. The fine-tuning goes on at the server: the same command takes it up again."
        work = _finetune(Path(corpus), about, digest, settings, cache)
        with ended_at_once(stopped):
            result = asyncio.run(until_stopped(work, stopped))
        cache.execute("UPDATE finetuned SET result = ? WHERE digest = ?", (json.dumps(result), digest))
    write_json(model, result)


def _digest(corpus: str, settings: Mapping) -> str:
    finetuning = settings["finetuning"]
    told = {key: finetuning[key] for key in ("epochs", "seed", "suffix")}
    told |= {"corpus": corpus, "model": settings["model"], "base_url": settings["base_url"].rstrip("/")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


async def _finetune(corpus: Path, about: Mapping, digest: str, settings: Mapping, cache: AnswerCache) -> dict:
    async with connect(settings["base_url"], settings["requests_per_minute"]) as client:
        async with alone(FileLock(cache.folder / "finetuning.lock")):
            job = await _job(client, corpus, about, digest, settings, cache)
        job = await _ended(client, job, settings)
    if job is None or job.status != "succeeded" or not job.fine_tuned_model:
        cache.execute("DELETE FROM finetuned WHERE digest = ?", (digest,))
        raise UserError(_failed(job, settings))
    price = price_of(settings["model"], settings["prices"], settings["base_url"]).training or 0
    tokens = job.trained_tokens
    usd = about["usd"] if tokens is None else tokens * price / 1e6
    finished = job.finished_at or int(datetime.now(UTC).timestamp())
    return {
        "model": job.fine_tuned_model,
        "job_id": job.id,
        "base": settings["model"],
        "corpus": about["sha256"],
        "epochs": settings["finetuning"]["epochs"],
        "seed": settings["finetuning"]["seed"],
        "trained_tokens": tokens,
        "usd": round(usd, 4),
        "date": datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds"),
        "seconds": finished - job.created_at,
    }


async def _job(
    client: openai.AsyncOpenAI, corpus: Path, about: Mapping, digest: str, settings: Mapping, cache: AnswerCache
) -> FineTuningJob:
    """The job for this data and these settings: the one that is remembered, is at the server, or is started now."""
    base_url, model, finetuning = settings["base_url"], settings["model"], settings["finetuning"]
    remembered = cache.execute("SELECT job FROM finetuned WHERE digest = ?", (digest,))
    if remembered:
        job = await asked(partial(client.fine_tuning.jobs.retrieve, remembered[0][0]), base_url, model)
        if job is not None:
            return job
    absent = lacks_version(base_url) or (
        f"{base_url or 'OpenAI'} does not fine-tune models (HTTP 404), as most servers of one's own: set "
        "definitions.finetuning.corpus to none, and definitions.model to a model that was fine-tuned elsewhere."
    )
    uploaded = None

    async def look() -> FineTuningJob | None:
        async for job in listed(client.fine_tuning.jobs.list(limit=PAGE, metadata={"polclip": digest})):
            if marked(job, digest) and job.status not in ("failed", "cancelled"):
                return job
        return None

    async def create() -> FineTuningJob:
        nonlocal uploaded
        _check_price(about, finetuning)
        await check_model(client, settings)
        _check_open(settings)
        uploaded = uploaded or await upload(client, cache, corpus, "fine-tune", base_url, model, absent)
        try:
            return await once(client).fine_tuning.jobs.create(
                model=model,
                training_file=uploaded,
                method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": finetuning["epochs"]}}},
                seed=finetuning["seed"],
                suffix=finetuning["suffix"],
                metadata={"polclip": digest},
            )
        except openai.PermissionDeniedError as error:
            code = harmless(error.code)
        # Outside of `except`, so that the library's error is not chained to it.
        raise UserError(_closed(settings, f"HTTP 403, {code}" if code else "HTTP 403"))

    job = await start_once(look, create, base_url, model, absent)
    cache.execute("INSERT OR REPLACE INTO finetuned VALUES (?, ?, NULL)", (digest, job.id))
    log.info("fine-tuning job %s: %d lines, about %.2f USD", job.id, about["lines"], about["usd"])
    return job


def _check_price(about: Mapping, finetuning: Mapping) -> None:
    if about["usd"] > finetuning["max_usd"]:
        raise UserError(
            f"definitions.finetuning.max_usd: {finetuning['max_usd']:g} USD do not suffice for {about['lines']:,} "
            f"lines in {about['epochs']} epochs, about {about['usd']:.2f} USD. Nothing was uploaded: raise it, or "
            "lower finetuning.lines or epochs."
        )


def _check_open(settings: Mapping) -> None:
    """Raise UserError where OpenAI fine-tunes for nobody any more."""
    if is_openai(settings["base_url"]) and today() >= FINETUNING_ENDS:
        raise UserError(_closed(settings, f"since {FINETUNING_ENDS}, for everybody"))


def _closed(settings: Mapping, how: str) -> str:
    where = settings["base_url"] or "OpenAI"
    return (
        f"definitions.finetuning: {where} does not let this account fine-tune {settings['model']!r} ({how}). OpenAI "
        "closed fine-tuning in 2026 to organisations that had not used it lately, and closes it to all on "
        f"{FINETUNING_ENDS}. Set definitions.finetuning.corpus to none to ask a model as it is, or name a server of "
        "your own that fine-tunes in definitions.base_url. The corpus stays where it is, and is not uploaded again."
    )


async def _ended(client: openai.AsyncOpenAI, job: FineTuningJob, settings: Mapping) -> FineTuningJob | None:
    """The job when it has come to an end; None where it was deleted."""
    look = partial(client.fine_tuning.jobs.retrieve, job.id)
    status = ""
    with tqdm(desc=f"fine-tuning {job.id}", bar_format="{desc}: {elapsed}{postfix}") as progress:
        for wait in look_waits():
            if job is None or job.status in ("succeeded", "failed", "cancelled"):
                return job
            if job.status != status:
                status = job.status
                log.info("fine-tuning job %s: %s", job.id, status)
            progress.set_postfix_str(status)
            await asyncio.sleep(wait)
            job = await asked(look, settings["base_url"], settings["model"])


def _failed(job: FineTuningJob | None, settings: Mapping) -> str:
    where = settings["base_url"] or "OpenAI"
    if job is None:
        return f"The fine-tuning job is no longer at {where}: run the same command again to start a new one."
    code = harmless(getattr(job.error, "code", None))
    return (
        f"{where} did not finish fine-tuning job {job.id} ({', '.join(filter(None, [job.status, code]))}): look at "
        "definitions.model and definitions.finetuning, and run the same command again to start a new one."
    )
