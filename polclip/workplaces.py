"""Temporary folders that hold unfinished work; those that a killed process left are removed by a later one.

Beside each folder is its lock file, which the system releases when the process ends, however it ends. The lock of a
process on another machine may not be visible on a shared file system: folders of other machines are left alone until
nothing was written in them for a week.
"""

import hashlib
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from secrets import token_hex

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)
NAME = re.compile(r"\.(?P<of>.+)\.polclip-(?P<machine>[0-9a-f]{12})-\w+\.lock")
SECONDS_OF_OTHERS = 7 * 24 * 3600
_swept: set[Path] = set()


@contextmanager
def workplace(folder: Path, of: str) -> Iterator[Path]:
    """A new hidden folder in `folder`, removed at the end, for the file or folder named `of`.

    Each process first removes what killed processes left in `folder`, once.
    """
    path = folder / f".{of}.polclip-{_machine()}-{token_hex(6)}"
    lock = FileLock(f"{path}.lock")
    with _held(lock):
        # Under the lock of this process, so that nothing is taken for left between the two.
        path.mkdir(mode=0o700)
        _sweep(folder.resolve(), path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A `workplace` in the system's folder for temporary files."""
    with workplace(Path(tempfile.gettempdir()), "scratch") as folder:
        yield folder


@contextmanager
def _held(lock: FileLock) -> Iterator[None]:
    """Hold a lock and remove its file at the end.

    A disk without locks is written to all the same. No lock file stays there, so nobody takes the folder for left.
    """
    with suppress(OSError, NotImplementedError):
        lock.acquire(timeout=10)
    if not lock.is_locked:
        Path(lock.lock_file).unlink(missing_ok=True)
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _sweep(folder: Path, mine: Path) -> None:
    if folder in _swept:
        return
    _swept.add(folder)
    now = mine.stat().st_mtime  # by the clock of the file system, as the other times
    for name in os.listdir(folder):
        if (found := NAME.fullmatch(name)) and name != f"{mine.name}.lock":
            path = folder / name.removesuffix(".lock")
            with suppress(OSError, Timeout, NotImplementedError):  # in use, gone, or of another user
                if found["machine"] == _machine() or now - _last_write(path) > SECONDS_OF_OTHERS:
                    lock = FileLock(folder / name)
                    lock.acquire(blocking=False)
                    shutil.rmtree(path, ignore_errors=True)
                    (folder / name).unlink(missing_ok=True)
                    lock.release()
                    log.info("Removed what a killed run left of %s.", folder / found["of"])


def _last_write(folder: Path) -> float:
    """The newest time of a folder and of all in it; of one that is gone the beginning of time."""
    return max((path.stat().st_mtime for path in (folder, *folder.rglob("*")) if path.exists()), default=0.0)


@cache
def _machine() -> str:
    """Twelve digits for this machine: its name alone may be `localhost` on several."""
    with suppress(OSError):
        return _digest(socket.gethostname() + Path("/etc/machine-id").read_text())
    return _digest(socket.gethostname())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
