"""SIGTERM, by which a scheduler says that a machine will be taken away: a training saves its state and ends.

Slurm sends it to every process of a job before it kills them (at a preemption, the end of its time, `scancel`).
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What a shell says of a process that SIGTERM ended. The job counts as failed, so that it is tried again.
EXIT_CODE = 128 + signal.SIGTERM


@contextmanager
def when_told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, which would else end this process at once."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can signals be waited for
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
