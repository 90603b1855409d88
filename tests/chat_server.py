"""A server on this machine that speaks /v1/chat/completions, answers as it is told and counts what it answered."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread


@dataclass
class Reply:
    text: str | None = "a definition"
    status: int = 200
    finish: str = "stop"
    refusal: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    error: dict | None = None
    cut: bool = False  # hang up in the middle of the answer
    body: bytes | None = None  # instead of an answer
    usage: dict | None = field(default_factory=lambda: {"prompt_tokens": 50, "completion_tokens": 10})


@dataclass
class Chat:
    """`reply` is called with the number of the request (from 0) and its body."""

    reply: Callable[[int, dict], Reply] = lambda number, body: Reply()
    url: str = ""
    requests: list[dict] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    paid: int = 0
    lock: Lock = field(default_factory=Lock)


@contextmanager
def chat_server() -> Iterator[Chat]:
    chat = Chat()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with chat.lock:
                reply = chat.reply(len(chat.requests), body)
                chat.requests.append(body)
                chat.keys.append(self.headers["Authorization"])
                chat.paid += reply.status == 200 and not reply.cut
            content = reply.body if reply.body is not None else json.dumps(_completion(reply, body)).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json" if reply.body is None else "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if reply.cut:
                self.wfile.write(content[:20])
                self.close_connection = True
                return
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _completion(reply: Reply, body: dict) -> dict:
    if reply.status != 200:
        return {"error": reply.error or {"message": "no", "code": None}}
    message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}],
        "usage": reply.usage
        and reply.usage | {"total_tokens": reply.usage["prompt_tokens"] + reply.usage["completion_tokens"]},
    }
