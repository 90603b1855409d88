"""What goes on at the server for hours, batches and fine-tuning: started once, whatever happens to this process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import openai
from filelock import FileLock, Timeout
from openai.pagination import AsyncCursorPage

from polclip.definitions.cache import AnswerCache
from polclip.definitions.client import UNREADABLE_TRIES, UNREADABLE_WAIT, plainly
from polclip.definitions.limits import OverLimit
from polclip.definitions.server_errors import NO_CREDIT, unlike
from polclip.definitions.stopping import on_first_signal
from polclip.errors import UserError
from polclip.files import sha256

# Seconds between two looks at what goes on: doubled from the first to the last.
FIRST_LOOK, LONGEST_LOOK = 1.0, 60.0
# Seconds before something is started again that the server did not answer for.
START_WAITS = (0.5, 1, 2, 4, 8, 16, 32, 60, 60, 0)
LOCK_WAIT = 0.2
# The most that a server lists at once.
PAGE = 100
Job = TypeVar("Job")
_UNREADABLE, _ABSENT = object(), object()
# Files that were uploaded, by their SHA-256.
_UPLOADS = (
    "CREATE TABLE IF NOT EXISTS uploads (digest TEXT NOT NULL, purpose TEXT NOT NULL, base_url TEXT NOT NULL, "
    "id TEXT NOT NULL, PRIMARY KEY (digest, purpose, base_url))"
)


class _Unreadable(Exception):
    pass


# A proxy's page, half a text, brackets within brackets.
_NOT_READ = (json.JSONDecodeError, openai.APIResponseValidationError, _Unreadable, RecursionError)


async def asked(call: Callable[[], Awaitable[Job | None]], base_url: str, model: str) -> Job | None:
    """What a call gives that may be tried again, None where the server has no such thing (404); else UserError."""
    for tries_left in reversed(range(UNREADABLE_TRIES)):
        given = await plainly(_read(call, last=not tries_left), base_url, model)
        if given is not _UNREADABLE:
            return given
        await asyncio.sleep(UNREADABLE_WAIT)
    raise UserError(unlike(base_url))


async def listed(first: Awaitable[AsyncCursorPage[Job]]) -> AsyncIterator[Job]:
    """What a list of the server holds, from its first page on; for `asked` and `start_once`."""
    page, seen = await first, set()
    while True:
        if not isinstance(page, AsyncCursorPage) or not isinstance(page.data, list):
            raise _Unreadable
        last = getattr(page.data[-1], "id", None) if page.data else None
        if last in seen:  # the server turns in a circle
            raise _Unreadable
        seen.add(last)
        for job in page.data:
            yield job
        if not page.has_next_page():
            return
        page = await page.get_next_page()


async def upload(
    client: openai.AsyncOpenAI,
    cache: AnswerCache,
    path: str | Path,
    purpose: str,
    base_url: str,
    model: str,
    absent: str,
) -> str:
    """The server's name of a file, streamed there unless it still has the file of an earlier try.

    cache: in whose database uploads are remembered. absent: what a UserError says of a server that takes no files.
    """
    digest = sha256(path)
    cache.execute(_UPLOADS)
    place = (digest, purpose, base_url.rstrip("/"))
    for (file_id,) in cache.execute("SELECT id FROM uploads WHERE digest = ? AND purpose = ? AND base_url = ?", place):
        if await asked(partial(client.files.retrieve, file_id), base_url, model):
            return file_id

    async def send():
        with open(path, "rb") as file:
            return await client.files.create(file=file, purpose=purpose)

    uploaded = await asked(send, base_url, model)
    if uploaded is None:
        raise UserError(absent)
    cache.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", (*place, uploaded.id))
    return uploaded.id


async def start_once(
    look: Callable[[], Awaitable[Job | None]],
    create: Callable[[], Awaitable[Job]],
    base_url: str,
    model: str,
    absent: str,
) -> Job:
    """What `look` finds at the server, else what `create` starts there; what they raise is a UserError.

    A server may have started what its answer got lost for: it is looked for before it is tried again, which the
    client library would not do. create: by a client that tries once (`once`). absent: as in `upload`.
    """
    for tries_left, wait in zip(range(len(START_WAITS) - 1, -1, -1), START_WAITS, strict=True):
        job = await asked(look, base_url, model)
        if job is None:
            job = await plainly(_tried(create, last=not tries_left), base_url, model)
        if job is _ABSENT:
            raise UserError(absent)
        if job is not _UNREADABLE:
            return job
        await asyncio.sleep(wait)
    raise UserError(unlike(base_url))


def once(client: openai.AsyncOpenAI) -> openai.AsyncOpenAI:
    """The same client, which tries nothing again."""
    return client.with_options(max_retries=0)


async def _read(call: Callable[[], Awaitable[Job | None]], last: bool) -> Job | object | None:
    try:
        given = await call()
    except openai.NotFoundError:
        return None
    except OverLimit:
        if last:
            raise
        return _UNREADABLE
    except _NOT_READ:
        return _UNREADABLE
    return given if given is None or _has_id(given) else _UNREADABLE


async def _tried(create: Callable[[], Awaitable[Job]], last: bool) -> Job | object:
    try:
        job = await create()
    except _NOT_READ:
        return _UNREADABLE
    except openai.OpenAIError as error:
        if getattr(error, "status_code", None) == 404 and error.code != "model_not_found":
            return _ABSENT
        if last or not _passing(error):
            raise
        return _UNREADABLE
    return job if _has_id(job) else _UNREADABLE


def _has_id(job: object) -> bool:
    return isinstance(getattr(job, "id", None), str)


def marked(job: object, digest: str) -> bool:
    """Whether a job at the server bears this digest in its metadata."""
    metadata = getattr(job, "metadata", None)
    return _has_id(job) and isinstance(metadata, dict) and metadata.get("polclip") == digest


def count_in(counts: object, name: str) -> int:
    """A count that a server gives; 0 where it gives none."""
    count = getattr(counts, name, None)
    return count if isinstance(count, int) and count > 0 else 0


def _passing(error: openai.OpenAIError) -> bool:
    status = getattr(error, "status_code", None) or 0
    if getattr(error, "code", None) in NO_CREDIT:
        return False
    return isinstance(error, openai.APIConnectionError | OverLimit) or status in (408, 409, 429) or status >= 500


def look_waits() -> Iterator[float]:
    """Seconds to wait between looks at what goes on."""
    wait = FIRST_LOOK
    while True:
        yield wait
        wait = min(2 * wait, LONGEST_LOOK)


@asynccontextmanager
async def alone(lock: FileLock) -> AsyncIterator[None]:
    """Wait for a lock without keeping signals from being heard."""
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            await asyncio.sleep(LOCK_WAIT)
    try:
        yield
    finally:
        lock.release()


async def until_stopped(work: Coroutine[None, None, Job], sentence: str) -> Job:
    """Do some work; where SIGINT or SIGTERM ends it, it is a UserError that says so."""
    on_first_signal(asyncio.current_task().cancel)
    try:
        return await work
    except asyncio.CancelledError:
        pass
    raise UserError(sentence)
