"""Connections of `polclip serve`: one that sends no request is closed, and only so many are open at once."""

import asyncio

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from polclip.serve import limits

TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedConnection(H11Protocol):
    """A connection whose headers have to arrive in time; uvicorn waits for them for ever.

    Where all places are taken, the newest connection takes that of the one that has waited longest for a request, or
    else for its client to read the answer. So nobody keeps others out by holding connections open.
    """

    headers_due: asyncio.TimerHandle | None = None
    waits_since: float = 0.0  # of the loop's clock

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait_for_headers()
        if len(self.connections) > limits.MOST_CONNECTIONS:
            self._make_room()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(error)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._wait_for_headers()

    @property
    def has_request(self) -> bool:
        """Whether a request has arrived that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_headers(self) -> None:
        self._stop_waiting()
        self.waits_since = self.loop.time()
        self.headers_due = self.loop.call_later(limits.LONGEST_HEADERS, self._close_without_request)

    def _stop_waiting(self) -> None:
        if self.headers_due is not None:
            self.headers_due.cancel()
            self.headers_due = None

    def _close_without_request(self) -> None:
        if not self.has_request and not self.transport.is_closing():
            self.transport.write(TOO_SLOW)
            self.transport.close()

    def _make_room(self) -> None:
        others = [one for one in self.connections if one is not self and not one.transport.is_closing()]
        without_request = [one for one in others if not one.has_request]
        unread = [one for one in others if one.flow.write_paused]
        oldest = min(without_request or unread or [self], key=lambda one: one.waits_since)
        # At once: closing would first wait for what has not been sent.
        oldest.transport.abort()


def server_config(app: Starlette) -> uvicorn.Config:
    """How the page is served, by the command and in its tests."""
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
