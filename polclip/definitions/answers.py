"""Answers to many requests: from the cache where they are kept, else asked for, a few at a time, within a budget."""

import asyncio
import logging
import sys
from collections.abc import Mapping

from tqdm import tqdm

from polclip.definitions.cache import AnswerCache
from polclip.definitions.client import AGAIN, ask, connect
from polclip.definitions.cost import BATCH_SHARE, Budget, bounded_price
from polclip.definitions.known_models import check_alive
from polclip.definitions.model_check import check_model
from polclip.definitions.open_batches import OpenBatches
from polclip.definitions.stopping import ended_at_once, on_first_signal
from polclip.errors import UserError

log = logging.getLogger(__name__)


def answer_all(requests: Mapping[str, Mapping], cache: AnswerCache, settings: Mapping, run: str) -> None:
    """See that the cache holds the answer of every request.

    An answer is kept the moment it arrives, so that whatever ends the run, none that arrived is paid for twice. An
    answer lost on the way (a cut connection) is asked for again.

    Args:
        requests: by `cache.key_of`, so that each is asked once.
        settings: the config's block `definitions`.
        run: whose budget `max_usd` is, over all jobs. No key is needed where all are kept.

    Raises UserError (`client.connect`) and BudgetReached, after those under way have come in.
    """
    with ended_at_once("Stopped at once. Answers that were under way are lost, and may have been paid for. " + AGAIN):
        if settings["batch"]:
            from polclip.definitions.batches import answer_by_batch

            asyncio.run(answer_by_batch(requests, cache, settings, run))
        elif not_kept(requests, cache):
            with cache.alone():
                missing = not_kept(requests, cache)
                _check_batches(missing, cache, settings)
                asyncio.run(_ask_for(missing, cache, settings, run))


def not_kept(requests: Mapping[str, Mapping], cache: AnswerCache) -> dict[str, Mapping]:
    missing = {key: request for key, request in requests.items() if cache.answer(key) is None}
    log.info("%d answers: %d kept, %d to ask for", len(requests), len(requests) - len(missing), len(missing))
    return missing


def budget_of(cache: AnswerCache, settings: Mapping, run: str) -> Budget:
    """What the run may still pay, with the most that its open batches can cost set aside."""
    price = bounded_price(settings["model"], settings)
    if not price.tokens_out and settings["base_url"].startswith("https://"):
        log.warning(
            "no price of %s is known, so definitions.max_usd does not hold: write its price under definitions.prices",
            settings["model"],
        )
    share = BATCH_SHARE if settings["batch"] else 1.0
    budget = Budget(price, settings["max_usd"], *cache.paid_by(run), share=share)
    for request, answer in cache.answers_of(run):
        budget.learn(request, answer)
    budget.set_aside(OpenBatches(cache, settings["base_url"]).most(run))
    return budget


def _check_batches(missing: Mapping[str, Mapping], cache: AnswerCache, settings: Mapping) -> None:
    """Raise UserError where what is to be asked is in a batch under way, which is paid for already."""
    under_way = sum(map(len, OpenBatches(cache, settings["base_url"]).holding(missing).values()))
    if under_way:
        raise UserError(
            f"{under_way:,} of {len(missing):,} questions are in a batch under way and would be paid for twice: set "
            "definitions.batch to true and run the same command to collect it."
        )


async def _ask_for(missing: Mapping[str, Mapping], cache: AnswerCache, settings: Mapping, run: str) -> None:
    check_alive(settings["model"], settings["base_url"])
    budget, waiting, failures = budget_of(cache, settings, run), iter(missing.items()), []
    stopped = UserError("Stopped. What was under way has come in: run the same command again to get the rest.")

    def stop() -> None:
        failures.append(stopped)
        progress.write("Waiting for the answers under way. To lose them and end at once: Ctrl-C again.", sys.stderr)

    async def ask_one_by_one() -> None:
        for key, request in waiting:
            # What is set aside for those under way is the most they can cost: there may be room when they are in.
            async with settled:
                await settled.wait_for(lambda request=request: failures or budget.idle or budget.fits(request))
            if failures:
                return
            try:
                reserved = budget.reserve(request)
                try:
                    answer = await ask(client, key, request, settings["base_url"])
                    cache.add(key, request, answer, budget.pay(request, answer), run)
                finally:
                    budget.release(reserved)
            except Exception as error:  # the others end what they have under way, which is paid for
                failures.append(error)
            progress.update(not failures)
            async with settled:
                settled.notify_all()

    settled = asyncio.Condition()
    progress = tqdm(total=len(missing), desc="definitions", unit="answer", mininterval=5)
    on_first_signal(stop)
    with progress:
        async with connect(settings["base_url"], settings["requests_per_minute"]) as client:
            await check_model(client, settings)
            await asyncio.gather(*(ask_one_by_one() for _ in range(settings["at_once"])))
    if failures:
        raise failures[0]
