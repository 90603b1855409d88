"""A server on the loopback that gives a file, or fails as told, and what tests of downloads share."""

import hashlib
import io
import random
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from polclip.downloads.fetching import fetch
from polclip.downloads.manifest import Dataset


def zip_of(seed: int) -> bytes:
    """A zip with 400 kB of noise, as long for every seed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("bats.bin"), random.Random(seed).randbytes(400_000))
    return packed.getvalue()


BODY = zip_of(0)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def dataset(source, **changes) -> Dataset:
    entry = Dataset("bats", "bats.zip", "1", "CC0-1.0", "Pictures of bats.", "None.", source)
    return replace(entry, **changes)


def fetch_quickly(*arguments, **options):
    log = []
    origin = fetch(*arguments, log=log.append, pause=0.01, **options)
    return origin, log


@dataclass
class Answer:
    """One answer of the server: a status, or its file with ranges, whole or cut, under a true length or not."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # another than the server's; without ranges
    gives: int | None = None  # bytes before it cuts the connection
    lies: int = 0  # bytes that it promises beyond what there is


class Server:
    """Serves `body` at every path with ranges; `plan` holds a behaviour for each of the next requests."""

    def __init__(self):
        self.body, self.plan, self.ranges, self.paths, self.tag = BODY, [], [], [], '"one"'
        self.wait = threading.Event()  # for a connection that stays open and silent
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.ranges.append(asked)
                server.paths.append(self.path)
                answer = server.next_answer()
                body, status = server.body if answer.body is None else answer.body, answer.status
                start = 0
                tag_fits = self.headers.get("If-Range", server.tag) == server.tag
                if status == 200 and answer.body is None and asked and tag_fits:
                    start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
                if start >= len(body) and status == 206:
                    body, start, status = b"", 0, 416
                headers = {"Content-Type": "application/zip", "Content-Length": str(len(body) - start + answer.lies)}
                headers |= {"ETag": server.tag} | answer.headers
                if status == 206:
                    headers.setdefault("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body) + answer.lies}")
                self.send_response(status)
                for name, value in headers.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[start:] if answer.gives is None else body[start : start + answer.gives])
                if answer.gives == server.silent_after:
                    self.wfile.flush()
                    server.wait.wait(20)

            def log_message(self, *args):
                pass

        self.silent_after = -1
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/files/bats.zip"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def next_answer(self) -> Answer:
        behaviour = self.plan.pop(0) if self.plan else "whole"
        if isinstance(behaviour, Answer):
            return behaviour
        if isinstance(behaviour, int):
            return Answer(behaviour, body=b"")
        return {
            "whole": Answer(),
            "cut": Answer(gives=150_000),
            "page": Answer(body=b"<html>Sign in</html>", headers={"Content-Type": "text/html; charset=utf-8"}),
            "page in disguise": Answer(body=b"\n<!DOCTYPE html><html>Sign in</html>"),
        }[behaviour]


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    yield server
    server.wait.set()
    server.http.shutdown()
    server.http.server_close()
