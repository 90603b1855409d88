"""Answers to many requests: from the cache where they are kept, else asked for, a few at a time, within a budget."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from polclip.definitions.cache import key_of, read_answer, write_answer
from polclip.definitions.client import connect
from polclip.definitions.cost import Budget

log = logging.getLogger(__name__)
AT_ONCE = 8


def answer_all(requests: Iterable[Mapping], cache: str | Path, base_url: str, budget: Budget) -> None:
    """See that the cache holds the answer of every request; a request that comes twice is asked once.

    An answer is kept the moment it arrives, so that whatever ends the run, none is paid for twice. An answer lost
    on the way (a cut connection) is asked for again; whether the server charges for it cannot be known. Kept
    answers count in the budget, which is that of all requests, however many runs they took. No key is needed
    when all are kept. Raises UserError (`client.connect`) and BudgetReached, after those under way have come in.
    """
    missing: dict[str, Mapping] = {}
    seen: set[str] = set()
    for request in requests:
        key = key_of(request, base_url)
        if key in seen:
            continue
        seen.add(key)
        answer = read_answer(cache, key)
        if answer is None:
            missing[key] = request
        else:
            budget.add(answer)
    log.info("%d answers: %d kept, %d to ask for", len(seen), len(seen) - len(missing), len(missing))
    if missing:
        _ask_for(missing, cache, connect(base_url), budget)


def _ask_for(missing: Mapping[str, Mapping], cache: str | Path, ask: Callable[[Mapping], dict], budget: Budget) -> None:
    def answer_one(key: str, request: Mapping, reserved: float) -> None:
        try:
            answer = ask(request)
            write_answer(cache, key, request, answer)
            budget.add(answer)
        finally:
            budget.release(reserved)

    progress = tqdm(total=len(missing), desc="definitions", unit="answer", mininterval=5)
    # Leaving the pool waits for the requests under way, whose answers are paid for and kept.
    with progress, ThreadPoolExecutor(AT_ONCE) as pool:
        under_way: set[Future] = set()
        for key, request in missing.items():
            if len(under_way) == AT_ONCE:
                under_way = _settle(under_way, progress)
            under_way.add(pool.submit(answer_one, key, request, budget.reserve(request)))
        while under_way:
            under_way = _settle(under_way, progress)


def _settle(under_way: set[Future], progress: tqdm) -> set[Future]:
    """Wait until at least one has come in; what it raised is raised. Gives those that are still under way."""
    done, left = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
        progress.update()
    return left
