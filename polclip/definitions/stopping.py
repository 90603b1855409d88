"""Ctrl-C and SIGTERM: the first is answered in good order, the second of the same kind ends the process at once."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from polclip.errors import UserError


def on_first_signal(stop: Callable[[], object]) -> None:
    """Call `stop` in the running loop at the first SIGINT and at the first SIGTERM."""
    loop = asyncio.get_running_loop()

    def heard(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)  # the next one raises KeyboardInterrupt, or ends the process
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heard, number)


@contextmanager
def ended_at_once(sentence: str) -> Iterator[None]:
    """Turn a KeyboardInterrupt into a UserError with this sentence."""
    try:
        yield
    except KeyboardInterrupt:
        raise UserError(sentence) from None
