"""Paid answers in one database, under names made from their questions: what was paid for once is never paid again."""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from polclip.errors import UserError

log = logging.getLogger(__name__)
FILE = "answers.sqlite"
# `usd` is what was paid for an answer by the run that asked.
_TABLE = (
    "CREATE TABLE IF NOT EXISTS answers "
    "(key TEXT PRIMARY KEY, run TEXT NOT NULL, usd REAL NOT NULL, request TEXT NOT NULL, answer TEXT NOT NULL)"
)

# Not OR IGNORE, which would pass over an answer whose cost is not a number.
_KEEP = "INSERT INTO answers VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"


def key_of(request: Mapping, base_url: str = "") -> str:
    """The name of a request's answer: the SHA-256 of model, messages, parameters and, if it is not OpenAI's, server.

    Two servers may give one name to two models, so that an answer is not taken from one for the other.
    """
    content = dict(request) | ({"base_url": base_url.rstrip("/")} if base_url else {})
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class AnswerCache:
    """The answers kept in a folder, a SQLite database in WAL mode: several processes of one machine may use it.

    A UserError that names the file is raised where it is damaged or cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._in_words():
            self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            # What is kept outlives any kill of the process; a power cut may lose what the system had not yet written to
            # the disk. Waiting for the disk after each answer would keep the next ones from being asked for.
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_TABLE)

    def __enter__(self) -> "AnswerCache":
        return self

    def __exit__(self, *_) -> None:
        self._database.close()

    def answer(self, key: str) -> dict | None:
        """The answer kept under a key, with what was paid for it (usd); or None."""
        with self._in_words():
            row = self._database.execute("SELECT answer, usd FROM answers WHERE key = ?", (key,)).fetchone()
            return row and json.loads(row[0]) | {"usd": row[1]}

    def add(self, key: str, request: Mapping, answer: Mapping, usd: float, run: str) -> None:
        """Keep an answer with its question, whole or not at all; the server's address is not written."""
        texts = (json.dumps(dict(value), ensure_ascii=False) for value in (request, answer))
        with self._in_words():
            self._database.execute(_KEEP, (key, run, usd, *texts))

    def paid_by(self, run: str) -> tuple[int, float]:
        """How many answers a run asked for and paid itself, and what they cost (USD)."""
        with self._in_words():
            sums = "SELECT COUNT(*), COALESCE(SUM(usd), 0) FROM answers WHERE run = ?"
            return self._database.execute(sums, (run,)).fetchone()

    def answers_of(self, run: str) -> Iterator[tuple[dict, dict]]:
        """(request, answer) of all that a run asked for and paid itself."""
        with self._in_words():
            for row in self._database.execute("SELECT request, answer FROM answers WHERE run = ?", (run,)):
                yield json.loads(row[0]), json.loads(row[1])

    def execute(self, statement: str, values: Sequence = ()) -> list[tuple]:
        """Run one SQL statement of another table, and give its rows."""
        with self._in_words():
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written meanwhile is on the disk at the end, all of it or nothing: quicker than one by one."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def lock(self) -> FileLock:
        """Held by the one process that asks."""
        return FileLock(self.folder / "asking.lock")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process asks: so none asks what another is asking, and budget and rate are of all."""
        lock = self.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another job is asking: waiting for its end")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError) as error:
            raise UserError(
                f"{self.path}, where paid answers are kept, cannot be used ({error}): free some space or make it "
                "writable; if it is damaged, put a copy of yours in its place, or move it away and pay again."
            ) from error
