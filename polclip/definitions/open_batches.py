"""Batches that were submitted and not yet collected, remembered in the database of the answers."""

import json
from collections.abc import Iterable, Mapping

from polclip.definitions.cache import AnswerCache

# `usd` is the most that a batch can cost its run; `id` is the server's name for it, null until that is known.
_TABLES = (
    "CREATE TABLE IF NOT EXISTS batches "
    "(digest TEXT PRIMARY KEY, base_url TEXT NOT NULL, run TEXT NOT NULL, usd REAL NOT NULL, id TEXT)",
    "CREATE TABLE IF NOT EXISTS batch_requests (key TEXT PRIMARY KEY, digest TEXT NOT NULL, request TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS batch_requests_of ON batch_requests (digest)",
)


class OpenBatches:
    """The open batches at one server. A batch goes by a digest of the keys of its requests."""

    def __init__(self, cache: AnswerCache, base_url: str) -> None:
        self._cache, self._base_url = cache, base_url.rstrip("/")
        for statement in _TABLES:
            cache.execute(statement)

    def plan(self, digest: str, requests: Mapping[str, Mapping], run: str, usd: float) -> None:
        """Remember a batch that is about to be submitted, all of it or nothing."""
        with self._cache.together():
            values = (digest, self._base_url, run, usd)
            self._cache.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, NULL)", values)
            for key, request in requests.items():
                values = (key, digest, json.dumps(dict(request), ensure_ascii=False))
                self._cache.execute("INSERT OR REPLACE INTO batch_requests VALUES (?, ?, ?)", values)

    def submitted(self, digest: str, batch_id: str) -> None:
        self._cache.execute("UPDATE batches SET id = ? WHERE digest = ?", (batch_id, digest))

    def forget(self, digest: str) -> None:
        with self._cache.together():
            self._cache.execute("DELETE FROM batches WHERE digest = ?", (digest,))
            self._cache.execute("DELETE FROM batch_requests WHERE digest = ?", (digest,))

    def forget_kept(self) -> None:
        """Forget those whose answers are all kept: a process was killed before it did."""
        missing = "SELECT digest FROM batch_requests WHERE key NOT IN (SELECT key FROM answers)"
        for (digest,) in self._cache.execute(f"SELECT digest FROM batches WHERE digest NOT IN ({missing})"):
            self.forget(digest)

    def without_id(self) -> list[str]:
        """Those of which it is not known whether they were submitted: a process was killed in between."""
        rows = self._cache.execute("SELECT digest FROM batches WHERE id IS NULL AND base_url = ?", (self._base_url,))
        return [digest for (digest,) in rows]

    def holding(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """The open batches that hold any of these requests, with the keys of those."""
        found: dict[str, list[str]] = {}
        for key in keys:
            for (digest,) in self._cache.execute("SELECT digest FROM batch_requests WHERE key = ?", (key,)):
                found.setdefault(digest, []).append(key)
        return found

    def of_run(self, run: str) -> list[str]:
        values = (run, self._base_url)
        return [d for (d,) in self._cache.execute("SELECT digest FROM batches WHERE run = ? AND base_url = ?", values)]

    def batch(self, digest: str) -> tuple[str, str] | None:
        """(id, run) of an open batch that was submitted."""
        rows = self._cache.execute("SELECT id, run FROM batches WHERE digest = ? AND id IS NOT NULL", (digest,))
        return rows[0] if rows else None

    def keys(self, digest: str) -> set[str]:
        """The requests of an open batch."""
        return {key for (key,) in self._cache.execute("SELECT key FROM batch_requests WHERE digest = ?", (digest,))}

    def request(self, key: str) -> dict | None:
        """A request of an open batch."""
        rows = self._cache.execute("SELECT request FROM batch_requests WHERE key = ?", (key,))
        return json.loads(rows[0][0]) if rows else None

    def most(self, run: str) -> float:
        """The most that the open batches of a run, at any server, can still cost it (USD)."""
        return self._cache.execute("SELECT COALESCE(SUM(usd), 0) FROM batches WHERE run = ?", (run,))[0][0]
