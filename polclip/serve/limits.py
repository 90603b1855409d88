"""What keeps the server up and to itself: how much a request may bring, how many wait, and who may ask."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")

LONGEST_TEXT = 5_000  # characters; a page of a book has 2,000
LARGEST_JSON = 100_000  # bytes
MOST_PICTURES = 20  # in one request
LARGEST_PICTURES = 50_000_000  # bytes, of all in one request
LONGEST_SENDING = 60.0  # seconds that a request may take to arrive
LONGEST_WAIT = 30.0  # seconds that it may wait for its turn
LONGEST_HEADERS = 10.0  # seconds that the headers of a request may take to arrive
MOST_CONNECTIONS = 200  # open at once; a browser opens six
MOST_WAITING = 16  # requests, those whose turn it is included

HEADERS = {
    # Nothing but this server's own files, and the user's pictures, which never leave the browser's memory as `blob:`.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Refused(Exception):
    """A request that gets no answer: the status, and for the user's eyes why, and what would get one."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def busy() -> Refused:
    return Refused(503, "Too many ask at once: try again in a moment.")


def limited(request: Request, most: int) -> Request:
    """The request with a body that ends in `Refused` as soon as it is known to be of more than `most` bytes."""
    too_large = Refused(413, f"Too much was sent: at most {most // 1000:,} kB in one request.")
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or len(told) > 15 or int(told) > most:
        raise too_large
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > most:
            raise too_large
        return message

    return Request(request.scope, receive)


@asynccontextmanager
async def arriving() -> AsyncIterator[None]:
    """End a request that arrives too slowly."""
    try:
        with anyio.fail_after(LONGEST_SENDING):
            yield
    except TimeoutError as error:
        raise Refused(408, f"The request did not arrive within {LONGEST_SENDING:.0f} seconds.") from error


class Turns:
    """So many at work at once, and a few waiting; whoever comes then is refused at once, before it is read."""

    def __init__(self, at_once: int = 1, waiting: int = MOST_WAITING, longest: float = LONGEST_WAIT) -> None:
        self.free = anyio.Semaphore(at_once)
        # Of its own, since each thread keeps some of the memory of the largest picture that it has read.
        self.threads = ThreadPoolExecutor(at_once)
        self.waiting, self.longest, self.inside = waiting, longest, 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place in the queue, kept from before the request is read until it is answered."""
        if self.inside >= self.waiting:
            raise busy()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Do some work in a thread when it is its turn. What has begun is brought to its end."""
        try:
            with anyio.fail_after(self.longest):
                await self.free.acquire()
        except TimeoutError as error:
            raise busy() from error
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)
        finally:
            self.free.release()


HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/@?#\[\]]+)(:[0-9]{1,5})?")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Hosts:
    """The names by which requests may call this server, in their Host header.

    A page of another site could have its own name lead to this machine (DNS rebinding), and would then be allowed to
    read the answers. An address is no such name.
    """

    names: frozenset[str]
    addresses: bool = False  # whether any IP address is allowed too

    @classmethod
    def of(cls, names: Iterable[str], addresses: bool = False) -> "Hosts":
        return cls(frozenset(name.lower().rstrip(".") for name in names), addresses)

    def allow(self, header: str | None) -> bool:
        """Whether a Host header, a name or address with or without a port, is one of these."""
        match = HOST.fullmatch(header or "")
        if match is None:
            return False
        host = match["host"].lower().strip("[]").rstrip(".")
        return host in self.names or (self.addresses and _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_own(origin: str, host: str | None) -> bool:
    """Whether an Origin header names this server itself, as the Host header calls it."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and host is not None and parts.netloc.lower() == host.lower()


class Guard:
    """Refuses requests by other names than this server's and those of other sites' pages; puts HEADERS on answers."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host = headers.get("host")
        if not self.hosts.allow(host):
            why = "This name is not allowed in the Host header. Start the server with --allow-host NAME to allow it."
            await JSONResponse({"error": why}, 400)(scope, receive, send_guarded)
        elif not all(_is_own(origin, host) for origin in headers.getlist("origin")):
            await JSONResponse({"error": "Pages of other sites may not ask."}, 403)(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)
