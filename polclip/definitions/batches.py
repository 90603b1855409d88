"""OpenAI's Batch API: answers within a day for half the price, submitted, awaited and collected across restarts.

A batch is remembered before it is submitted and forgotten when its answers are kept, and bears a digest of its
requests in its metadata: a process that was killed at any moment finds it again, in the database or at the server.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import openai
from openai.types import Batch
from tqdm import tqdm

from polclip.definitions.answers import budget_of, not_kept
from polclip.definitions.batch_files import ENDPOINT, Outcome, chunks_of, is_page, line_of, lines_in, outcome_of
from polclip.definitions.cache import AnswerCache
from polclip.definitions.client import UNREADABLE_TRIES, UNREADABLE_WAIT, connect, plainly
from polclip.definitions.completions import unreadable_answer
from polclip.definitions.cost import BATCH_SHARE, Budget, price_of
from polclip.definitions.known_models import check_alive
from polclip.definitions.model_check import check_model
from polclip.definitions.open_batches import OpenBatches
from polclip.definitions.server_errors import AGAIN, NO_CREDIT, harmless, lacks_version
from polclip.definitions.server_jobs import (
    PAGE,
    alone,
    asked,
    count_in,
    listed,
    look_waits,
    marked,
    once,
    start_once,
    until_stopped,
    upload,
)
from polclip.errors import UserError

log = logging.getLogger(__name__)
# A request that failed for no fault of its own is submitted again so many times.
RESUBMISSIONS = 3
# Answers that are written to the disk at once.
LINES_TOGETHER = 1000
_OVER = ("completed", "expired", "cancelled")


@dataclass(frozen=True)
class _Asking:
    """What one call of `answer_by_batch` goes by, and what it has found out."""

    client: openai.AsyncOpenAI
    cache: AnswerCache
    batches: OpenBatches
    settings: Mapping
    run: str
    progress: tqdm
    failures: Counter = field(default_factory=Counter)  # by key: how often it came back unanswered
    reasons: dict[str, str] = field(default_factory=dict)  # by key: why it did, the last time
    refused: set[str] = field(default_factory=set)  # keys
    collected: set[str] = field(default_factory=set)  # ids of batches

    @property
    def server(self) -> tuple[str, str]:
        return self.settings["base_url"], self.settings["model"]

    @property
    def where(self) -> str:
        return self.settings["base_url"] or "OpenAI"


@dataclass(frozen=True)
class _Over:
    """A batch that is over: the run that pays for it, its requests, and those that a line names."""

    batch_id: str
    run: str
    keys: set[str]
    named: set[str] = field(default_factory=set)


async def answer_by_batch(requests: Mapping[str, Mapping], cache: AnswerCache, settings: Mapping, run: str) -> None:
    """See that the cache holds the answer of every request, as `answers.answer_all`, by the Batch API.

    Requests that are in a batch already, this run's or another's, are waited for and not submitted again. The budget
    counts the most that open batches may cost; what does not fit is submitted when they are in.
    Raises UserError: for a batch that does not pass the server's validation; and, when all other answers are kept, for
    requests that are refused, that failed again and again, or that the budget does not suffice for.
    """
    missing = not_kept(requests, cache)
    if missing:
        if not OpenBatches(cache, settings["base_url"]).holding(missing):
            check_alive(settings["model"], settings["base_url"])
        stopped = "Stopped. What was submitted goes on at the server: the same command collects it."
        await until_stopped(_answer_all(requests, cache, settings, run), stopped)


async def _answer_all(requests: Mapping[str, Mapping], cache: AnswerCache, settings: Mapping, run: str) -> None:
    base_url = settings["base_url"]
    async with connect(base_url, settings["requests_per_minute"]) as client:
        with tqdm(total=len(requests), desc="definitions by batch", unit="answer") as progress:
            asking = _Asking(client, cache, OpenBatches(cache, base_url), settings, run, progress)
            while missing := _missing(requests, asking):
                async with alone(cache.lock()):
                    await _submit(missing, asking)
                    awaited = asking.batches.holding(missing)
                # The budget suffices for none of them before other batches of the run are in.
                await _collect_one(awaited or {digest: [] for digest in asking.batches.of_run(run)}, asking)
    _raise_failures(asking)


def _missing(requests: Mapping[str, Mapping], asking: _Asking) -> dict[str, Mapping]:
    """What is neither kept nor given up."""
    missing = {key: request for key, request in requests.items() if asking.cache.answer(key) is None}
    asking.progress.n = len(requests) - len(missing)
    asking.progress.refresh()
    return {
        key: request
        for key, request in missing.items()
        if key not in asking.refused and asking.failures[key] <= RESUBMISSIONS
    }


async def _submit(missing: Mapping[str, Mapping], asking: _Asking) -> None:
    """Submit what is not under way, as far as the budget goes; BudgetReached where nothing is or can be under way."""
    asking.batches.forget_kept()
    for digest in asking.batches.without_id():
        batch = await asked(lambda digest=digest: _find(digest, asking), *asking.server)
        if batch:
            asking.batches.submitted(digest, batch.id)
        else:
            asking.batches.forget(digest)
    under_way = {key for keys in asking.batches.holding(missing).values() for key in keys}
    # Another process may have kept some while this one waited for the lock.
    new = sorted(key for key in missing if key not in under_way and asking.cache.answer(key) is None)
    budget = budget_of(asking.cache, asking.settings, asking.run)
    others = under_way or asking.batches.of_run(asking.run)
    affordable: dict[str, float] = {}
    for key in new:
        if not budget.fits(missing[key]) and (affordable or others):
            break
        affordable[key] = budget.reserve(missing[key])
    if others and len(affordable) < len(new):
        return  # there is more room when they are in: better than a batch of a few
    if not affordable:
        return
    try:
        await check_model(asking.client, asking.settings)
    except UserError:
        if others:
            return  # they are paid for: they are collected first
        raise
    for chunk in chunks_of({key: missing[key] for key in affordable}):
        await _submit_batch(chunk, sum(affordable[key] for key in chunk), asking)


async def _submit_batch(requests: Mapping[str, Mapping], usd: float, asking: _Asking) -> None:
    digest = hashlib.sha256("\n".join(sorted(requests)).encode()).hexdigest()
    absent = lacks_version(asking.settings["base_url"]) or (
        f"{asking.where} has no Batch API (HTTP 404): set definitions.batch to false. What was answered before is kept."
    )
    asking.batches.plan(digest, requests, asking.run, usd)
    uploaded = None

    async def create() -> Batch:
        nonlocal uploaded
        uploaded = uploaded or await _upload(requests, asking, absent)
        return await once(asking.client).batches.create(
            completion_window="24h",
            endpoint=ENDPOINT,
            input_file_id=uploaded,
            metadata={"polclip": digest, "run": asking.run},
        )

    batch = await start_once(lambda: _find(digest, asking), create, *asking.server, absent)
    asking.batches.submitted(digest, batch.id)
    log.info("batch %s: %d requests, at most %.4f USD", batch.id, len(requests), usd)


async def _upload(requests: Mapping[str, Mapping], asking: _Asking, absent: str) -> str:
    """The server's name of the file with these requests."""
    path = asking.cache.folder / "batch.jsonl"  # one process at a time submits
    try:
        with open(path, "wb") as file:
            file.writelines(line_of(key, request) for key, request in requests.items())
        return await upload(asking.client, asking.cache, path, "batch", *asking.server, absent)
    finally:
        path.unlink(missing_ok=True)


async def _find(digest: str, asking: _Asking) -> Batch | None:
    """The batch of these requests at the server, if there is one that has answers or will have some."""
    async for batch in listed(asking.client.batches.list(limit=PAGE)):
        mine = marked(batch, digest) and batch.id not in asking.collected
        of_no_use = batch.status in ("failed", "cancelling", "cancelled")
        if mine and not of_no_use and (batch.status != "expired" or batch.output_file_id):
            return batch
    return None


async def _collect_one(awaited: Mapping[str, list[str]], asking: _Asking) -> None:
    """Wait until a batch or more of some (by digest, with the keys of interest) are over, and keep what they say."""
    kept = asking.progress.n
    for wait in look_waits():
        ended = under_way = 0
        for digest, keys in awaited.items():
            batch_id, run = asking.batches.batch(digest) or (None, "")
            # Another process may have collected it; or somebody deleted it.
            batch = batch_id and await asked(partial(asking.client.batches.retrieve, batch_id), *asking.server)
            if batch and batch.status not in (*_OVER, "failed"):
                under_way += sum(count_in(batch.request_counts, name) for name in ("completed", "failed"))
                continue
            ended += 1
            if batch:
                await _collect(batch, digest, run, asking)
            asking.batches.forget(digest)
            asking.failures.update(key for key in keys if batch_id and asking.cache.answer(key) is None)
            _check_batch(batch, asking)
        if ended or not awaited:
            return
        asking.progress.n = min(kept + under_way, asking.progress.total)
        asking.progress.refresh()
        await asyncio.sleep(wait)


def _check_batch(batch: Batch | None, asking: _Asking) -> None:
    """Raise UserError for a batch that the server did not accept, or that somebody cancelled."""
    if batch and batch.status == "failed":
        errors = getattr(batch.errors, "data", None)
        listed_codes = [getattr(error, "code", None) for error in errors] if isinstance(errors, list) else []
        codes = set(filter(None, map(harmless, listed_codes)))
        raise UserError(
            f"{asking.where} does not accept batch {batch.id} "
            f"({', '.join(sorted(codes)) or 'it does not say why'}), and nothing was paid for it: look at "
            "definitions.model and at your account's limits for batches, or set definitions.batch to false."
        )
    if batch and batch.status == "cancelled":
        raise UserError(
            f"Batch {batch.id} was cancelled at {asking.where}. Its answers until then are "
            "kept: run the same command again to submit the rest."
        )


async def _collect(batch: Batch, digest: str, run: str, asking: _Asking) -> None:
    """Keep the answers of a batch that is over.

    A line of the file of answers was paid for. If one cannot be read, or names no request of the batch, the request
    without a line is kept as unreadable, so that it is not paid for again. Raises UserError, and leaves the batch open,
    for a file of answers that is cut off.
    """
    over = _Over(batch.id, run, asking.batches.keys(digest))
    answered = min(count_in(batch.request_counts, "completed"), len(over.keys))
    odd = await _collect_file(batch.output_file_id, True, answered, over, asking)
    odd_errors = await _collect_file(batch.error_file_id, False, 0, over, asking)
    unnamed = [key for key in sorted(over.keys - over.named) if asking.cache.answer(key) is None]
    lines_lack = odd is not None and len(over.named) + odd < answered
    if lines_lack or (odd and len(unnamed) > odd + (odd_errors or 0)):
        raise UserError(_cut_off(batch.output_file_id, over, asking))
    for key in unnamed if odd else ():
        request = asking.batches.request(key)
        if request:  # else another process has collected the batch
            answer = unreadable_answer("No line of the batch that can be read names this request.", request)
            _keep_outcome(key, request, Outcome(answer), run, asking)
    if odd:
        log.warning("batch %s: %d lines cannot be read. All others are kept.", batch.id, odd)
    asking.collected.add(batch.id)
    log.info("batch %s is %s, and collected", batch.id, batch.status)


async def _collect_file(
    file_id: str | None, of_output: bool, expected: int, over: _Over, asking: _Asking
) -> int | None:
    """Keep the answers in a file and return the number of unreadable lines; None if the file does not exist.

    While lines are odd or lacking, it is fetched again, since it may have been damaged on the way.
    """
    odd = 0 if file_id else None
    for tries_left in reversed(range(UNREADABLE_TRIES)) if file_id else ():
        content = await plainly(_content(file_id, asking), *asking.server)
        if content is None:
            return None
        is_file = not is_page(content) and (content.strip() or not expected)
        named, odd = _keep(content, of_output, over, asking) if is_file else (0, 0)
        if is_file and not odd and named >= expected:
            return 0
        if not is_file and of_output and not tries_left:
            raise UserError(_cut_off(file_id, over, asking))
        await asyncio.sleep(UNREADABLE_WAIT)
    return odd


def _cut_off(file_id: str, over: _Over, asking: _Asking) -> str:
    return (
        f"{asking.where} gave a file of batch {over.batch_id} that cannot be read to its end. {AGAIN} If it stays so, "
        f"delete the file {file_id} at the server: the answers that it lacks are then asked and paid for again."
    )


async def _content(file_id: str, asking: _Asking) -> bytes | None:
    """What is in a file at the server; None where it was deleted."""
    try:
        return (await asking.client.files.content(file_id)).content
    except openai.NotFoundError:
        return None


def _keep(content: bytes, of_output: bool, over: _Over, asking: _Asking) -> tuple[int, int]:
    """Keep the answers in a file of lines: how many lines name a request of the batch, and how many do not.

    A second line for one request does not count as naming it, since it may be that of another.
    """
    named, odd = set(), 0
    for lines in lines_in(content, LINES_TOGETHER):
        with asking.cache.together():
            for key, line in lines:
                if key not in over.keys or key in named:
                    odd += 1
                    continue
                named.add(key)
                request = asking.batches.request(key)
                if request:  # else another process has collected the batch
                    _keep_outcome(key, request, outcome_of(line, request, of_output), over.run, asking)
    over.named.update(named)
    return len(named), odd


def _keep_outcome(key: str, request: Mapping, outcome: Outcome, run: str, asking: _Asking) -> None:
    if outcome.answer:
        price = price_of(request["model"], asking.settings["prices"], asking.settings["base_url"])
        usd = Budget(price, 0, share=BATCH_SHARE).usd(outcome.answer["tokens_in"], outcome.answer["tokens_out"])
        asking.cache.add(key, request, outcome.answer, usd, run)
        return
    asking.reasons[key] = outcome.why or "no reason given"
    if outcome.refused:
        asking.refused.add(key)


def _raise_failures(asking: _Asking) -> None:
    given_up = {key for key, count in asking.failures.items() if count > RESUBMISSIONS} - asking.refused
    for keys, what in (
        (asking.refused, "does not take"),
        (given_up, f"in {RESUBMISSIONS + 1} batches did not answer"),
    ):
        open_still = [key for key in keys if asking.cache.answer(key) is None]
        if open_still:
            reasons = sorted({asking.reasons.get(key, "no reason given") for key in open_still})
            unpaid = any(code in reason for reason in reasons for code in NO_CREDIT)
            mend = "add credit to the account" if unpaid else "look at definitions.model and definitions.parameters"
            raise UserError(
                f"{asking.where} {what} {len(open_still):,} of the requests ({'; '.join(reasons)}). The other answers "
                f"are kept: {mend}, and run the same command again to get the rest."
            )
