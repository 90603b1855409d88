"""What one request to a server may take: a pace, a time in all and a size, whatever the server sends."""

import asyncio

import httpx2
import openai

from polclip.definitions.server_errors import NO_CREDIT

# Seconds and bytes of one answer, and of one file of the Batch API (sent or received).
ANSWER_SECONDS, ANSWER_BYTES = 120.0, 16 * 2**20
FILE_SECONDS, FILE_BYTES = 1800.0, 512 * 2**20
MOST_REDIRECTS = 10


class OverLimit(openai.OpenAIError):
    """The server took longer, or sent more, than one request may take. The text says which, without the server."""


class Pace:
    """Space requests evenly, at most the given number per minute. A retry counts as a request."""

    def __init__(self, requests_per_minute: float) -> None:
        self._gap, self._next = 60 / requests_per_minute, 0.0

    async def turn(self) -> None:
        now = asyncio.get_running_loop().time()
        mine = max(now, self._next)
        self._next = mine + self._gap
        await asyncio.sleep(mine - now)


class LimitedClient(openai.DefaultAsyncHttpxClient):
    """The HTTP client of `openai.AsyncOpenAI`, with a pace and with limits for each request.

    The client library limits the silence between two pieces of a response alone: a server that sends a byte now and
    then would be listened to for ever. Time spent waiting for the pace does not count.
    """

    def __init__(self, pace: Pace, transport: httpx2.AsyncBaseTransport) -> None:
        super().__init__(transport=transport)
        self._pace = pace

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: object) -> httpx2.Response:
        """The whole response. Raises OverLimit, and what the library's own client raises."""
        await self._pace.turn()
        of_file = request.url.path.endswith("/files" if request.method == "POST" else "/content")
        seconds, most_bytes = (FILE_SECONDS, FILE_BYTES) if of_file else (ANSWER_SECONDS, ANSWER_BYTES)
        try:
            async with asyncio.timeout(seconds):
                response = await self._last_response(request, options)
                try:
                    content = await _content(response, most_bytes)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise OverLimit(f"did not end its response within {seconds:.0f} seconds") from None
        headers = [(name, text) for name, text in response.headers.multi_items() if name != "content-encoding"]
        whole = httpx2.Response(response.status_code, headers=headers, content=content, request=response.request)
        whole.elapsed = response.elapsed
        if whole.status_code == 429 and any(f'"{code}"'.encode() in content for code in NO_CREDIT):
            whole.headers["x-should-retry"] = "false"  # for the library: the account has nothing to pay with
        return whole

    async def _last_response(self, request: httpx2.Request, options: dict) -> httpx2.Response:
        """The response behind all redirects, not yet read; the text of a redirect is never read."""
        options = options | {"follow_redirects": False}
        response = await super().send(request, stream=True, **options)
        for _ in range(MOST_REDIRECTS):
            if response.next_request is None:
                break
            await response.aclose()
            response = await super().send(response.next_request, stream=True, **options)
        return response


async def _content(response: httpx2.Response, most_bytes: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most_bytes:
            raise OverLimit(f"sent more than {most_bytes / 2**20:g} MiB in one response")
        parts.append(part)
    return b"".join(parts)
