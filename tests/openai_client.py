"""What tests of clients of tests/openai_server.py share: a key, short waits, and processes that may be killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openai_server import Server, openai_server

from polclip.definitions import batches, client, server_jobs

CANARY = "canary-not-a-key-123"


@contextmanager
def quick_server(monkeypatch, timeout: float = 1) -> Iterator[Server]:
    """A running server, and in this process the canary for a key and waits of hundredths of a second."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", timeout)
    for module in (client, batches, server_jobs):
        monkeypatch.setattr(module, "UNREADABLE_WAIT", 0.01)
    for name, value in (
        ("FIRST_LOOK", 0.01),
        ("LONGEST_LOOK", 0.02),
        ("LOCK_WAIT", 0.01),
        ("START_WAITS", (0.01,) * 8),
    ):
        monkeypatch.setattr(server_jobs, name, value)
    with openai_server() as running:
        yield running


def start_program(program: str, given: dict) -> subprocess.Popen:
    """A process of this project that is given a JSON object as its argument."""
    root = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(given)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, process: subprocess.Popen | None = None) -> None:
    """Wait for it at most half a minute, while the process runs."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.005)
