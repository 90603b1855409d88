"""A server on this machine that speaks OpenAI's API, answers and fails as it is told, and counts what is paid.

Chats, files, batches and fine-tuning jobs, as the openai package asks for them. In a test: `with openai_server() as
server`, whose fields steer it and tell what came. In a process of its own:

    python tests/openai_server.py --port 0 [--port-file F] [--faults SHARE --seed N] [--latency SECONDS]
    python tests/openai_server.py --port 8765 --inventory FOLDER

It writes its address on one line; GET /counts (beside /v1) gives its counts. With --inventory it is a stand-in for a
language model and none itself: it answers with a gloss of WordNet, which it picks as definitions.source: wordnet does.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from openai_batches import CHATS, cancel_batch, go_on_with_batch, start_batch
from openai_files import Jobs, check_model, form_of, found, json_of, page_of, pay, question_of, upload
from openai_finetuning import cancel_job, events_of, go_on_with_job, start_job
from openai_models import Refused, check_parameters, listing
from openai_replies import Reply, ReplyTo, completion_of, content_of, every_fault, random_faults, random_trouble

__all__ = ["Reply", "Server", "every_fault", "openai_server", "question_of", "random_faults", "random_trouble"]


@dataclass
class Server(Jobs):
    """The fields of `Jobs`, and of chats and of all requests.

    An answer is paid for when it is sent whole, whether or not somebody is left to read it. A chat that carries the
    Idempotency-Key of one that was answered gets the same answer once more, which is not paid for again.
    """

    # (method, path, number of the request, from 0) of all but chats and listings: how it fails, if it does
    trouble: Callable[[str, str, int], Reply | None] = lambda method, path, number: None
    idempotent: bool = True  # heeds Idempotency-Key
    latency: float = 0  # seconds before a chat is answered
    url: str = ""
    requests: list[dict] = field(default_factory=list)  # bodies of chats, those that failed too
    others: list[tuple[str, str]] = field(default_factory=list)  # (method, path) of all but chats and listings
    lists_models: bool = True  # GET /v1/models is answered
    odd_listing: object = None  # what is answered in its place
    listings: int = 0  # how often it was asked for
    keys: list[str | None] = field(default_factory=list)  # Authorization of every request
    repeated: int = 0  # answers sent again
    flooded: int = 0  # bytes of floods that clients took
    answered: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # idempotency key: question, answer
    errors: list[Exception] = field(default_factory=list)  # of the test's own callables
    lock: Lock = field(default_factory=Lock)
    closing: Event = field(default_factory=Event)


def counts_of(server: Server) -> dict:
    return {
        "requests": len(server.requests),
        "others": len(server.others),
        "paid": server.paid,
        "paid_by_question": server.paid_by_question,
        "repeated": server.repeated,
    }


def _chat(server: Server, body: bytes, key: str | None) -> tuple[Reply, bytes]:
    """What to do with a chat, and the content of the whole answer."""
    question = json_of(body)
    with server.lock:
        number = len(server.requests)
        server.requests.append(question)
        if not question.get("model") or not question.get("messages"):
            raise Refused(400, "you must provide a model and messages")
        check_model(server, question["model"])
        check_parameters(question)
        reply = server.reply(number, question)
    if reply.fails and not reply.after:
        return reply, reply.body if reply.body is not None else _json(completion_of(reply, question))
    server.closing.wait(server.latency)
    with server.lock:
        before = server.answered.get(key) if server.idempotent and key else None
        if before and before[0] != question_of(question):
            raise Refused(400, "This Idempotency-Key came with another question before.", code="idempotency_error")
        if before:
            server.repeated += 1
            return reply, before[1]
        # An answer that is lost after it was made is a whole one, whatever the client is told.
        content = content_of(replace(reply, status=200), question)
        pay(server, question)
        if key:
            server.answered[key] = question_of(question), content
    return reply, content


def _models(server: Server) -> tuple[Reply, bytes]:
    with server.lock:
        server.listings += 1
        if not server.lists_models:
            raise Refused(404, "Invalid URL (GET /v1/models)")
        return Reply(), _json(server.odd_listing or listing(server.shutdown_dates))


def _other(server: Server, method: str, path: str, query: dict, body: bytes, kind: str) -> tuple[Reply, bytes]:
    with server.lock:
        number = len(server.others)
        server.others.append((method, path))
        reply = server.trouble(method, path, number) or Reply()
        if reply.fails and not reply.after:
            return reply, reply.body if reply.body is not None else _json(completion_of(reply, {}))
        content = _carry_out(server, method, path, query, body, kind)
        return reply, content if isinstance(content, bytes) else _json(content)


def _carry_out(server: Server, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> dict | bytes:
    """The answer to a request for anything but chats; `kind` is the body's type. Raises Refused."""
    match [method, *path.removeprefix("/v1/").split("/")]:
        case ["POST", "files"]:
            return upload(server, *form_of(body, kind))
        case ["GET", "files"]:
            purpose = query.get("purpose")
            return page_of([f for f in server.files.values() if purpose in (None, f["purpose"])], query, 10_000)
        case ["GET", "files", file_id]:
            return found(server.files, file_id, "file")
        case ["GET", "files", file_id, "content"]:
            found(server.files, file_id, "file")
            return server.contents[file_id]
        case ["DELETE", "files", file_id]:
            found(server.files, file_id, "file")
            del server.files[file_id], server.contents[file_id]
            return {"id": file_id, "object": "file", "deleted": True}
        case ["POST", "batches"]:
            return start_batch(server, json_of(body))
        case ["GET", "batches"]:
            return page_of(list(server.batches.values()), query, 20)
        case ["GET", "batches", batch_id]:
            return go_on_with_batch(server, found(server.batches, batch_id, "batch"))
        case ["POST", "batches", batch_id, "cancel"]:
            return cancel_batch(server, found(server.batches, batch_id, "batch"))
        case ["POST", "fine_tuning", "jobs"]:
            return start_job(server, json_of(body))
        case ["GET", "fine_tuning", "jobs"]:
            wanted = {key[9:-1]: value for key, value in query.items() if key.startswith("metadata[")}
            fitting = [job for job in server.jobs.values() if wanted.items() <= (job["metadata"] or {}).items()]
            return page_of(fitting, query, 20)
        case ["GET", "fine_tuning", "jobs", job_id]:
            return go_on_with_job(server, found(server.jobs, job_id, "fine-tuning job"))
        case ["POST", "fine_tuning", "jobs", job_id, "cancel"]:
            return cancel_job(found(server.jobs, job_id, "fine-tuning job"))
        case ["GET", "fine_tuning", "jobs", job_id, "events"]:
            return page_of(events_of(found(server.jobs, job_id, "fine-tuning job")), query, 20)
    raise Refused(404, f"Invalid URL ({method} {path})")


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _serve(self):
        server, address = self.server.state, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if server.closing.is_set():  # what was connected before is not served either
            self.close_connection = True
            return None
        if address.path == "/counts":
            with server.lock:
                content = _json(counts_of(server))
            return self._send(200, content)
        with server.lock:
            server.keys.append(self.headers["Authorization"])
        try:
            if (self.command, address.path) == ("GET", "/v1/models"):
                reply, content = _models(server)
            elif (self.command, address.path) == ("POST", CHATS):
                reply, content = _chat(server, body, self.headers["Idempotency-Key"])
            else:
                query = dict(parse_qsl(address.query, keep_blank_values=True))
                kind = self.headers.get("Content-Type", "")
                reply, content = _other(server, self.command, address.path, query, body, kind)
        except Refused as refused:
            return self._send(refused.status, _json({"error": refused.error}))
        if reply.hang_up or reply.stall:
            server.closing.wait(reply.stall)
            self.close_connection = True
            return None
        if reply.fails and reply.after and reply.status != 200:
            content = _json(completion_of(reply, {}))
        if reply.truncated:
            content = content[: len(content) // 2]
        kind = "text/html" if reply.body else "application/json"
        return self._send(reply.status, content if reply.body is None else reply.body, kind, reply)

    do_GET = do_POST = do_DELETE = _serve

    def _send(self, status: int, content: bytes, kind: str = "application/json", reply: Reply | None = None):
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "x-request-id": f"req_{uuid4().hex}"}
        headers |= {"Date": self.date_time_string()} | (reply.headers if reply else {})
        lines = [f"HTTP/1.1 {status} {responses.get(status, '')}"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        if reply and (reply.trickle or reply.flood):
            return self._send_slowly_or_much(lines[:1], content, reply)
        if reply and reply.cut:
            content, self.close_connection = content[: len(content) // 2], True
        # In one packet: a client that waits for the rest of an answer is slow.
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)

    def _send_slowly_or_much(self, lines: list[str], content: bytes, reply: Reply):
        self.close_connection = True
        self.connection.sendall("\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode())
        for at in range(len(content) if reply.trickle else 0):
            self.connection.sendall(content[at : at + 1])
            if self.server.state.closing.wait(reply.trickle):
                return
        for _ in range(0, reply.flood, 2**20):
            self.connection.sendall(b" " * 2**20)
            self.server.state.flooded += 2**20


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, state: Server):
        self.state = state
        super().__init__(("127.0.0.1", port), _Handler)
        state.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        error = sys.exception()
        if not isinstance(error, OSError):  # clients may hang up
            self.state.errors.append(error)


@contextmanager
def openai_server(**fields) -> Iterator[Server]:
    """A running server; what the test's own callables raised is raised at the end."""
    server = Server(**fields)
    listening = _HTTPServer(0, server)
    thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        listening.shutdown()
        listening.server_close()
        thread.join()
    if server.errors:
        raise server.errors[0]


def glosses_of(folder: Path) -> ReplyTo:
    """Answers of a stand-in for a language model: the gloss that fits the word and the phrase of the question best.

    They are the last two quoted texts of the user's message. The folder's senses.parquet and synsets.parquet are read
    with the first question; until they are there, the server is not ready.
    """
    from polclip.definitions.glosses import fitting_gloss
    from polclip.inventory import Inventory
    from polclip.records import VisualInstance

    inventories: list[Inventory] = []

    def reply(number: int, body: dict) -> Reply:
        paths = folder / "senses.parquet", folder / "synsets.parquet"
        if not all(path.is_file() for path in paths):
            return Reply(status=503, headers={"Retry-After": "1"})
        if not inventories:
            inventories.append(Inventory.read(*paths))
        quoted = re.findall(r'"([^"]*)"', body["messages"][-1]["content"])[-2:]
        gloss = None
        if len(quoted) == 2:
            gloss, _ = fitting_gloss(VisualInstance("", "en", *quoted, [], ""), inventories[0])
        return Reply(text=gloss or "I'm sorry, but I cannot define this word.")

    return reply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--port-file", type=Path, help="a file to write the port into")
    parser.add_argument("--faults", type=float, default=0, help="share of the requests that fail")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--latency", type=float, default=0, help="seconds before a chat is answered")
    parser.add_argument("--inventory", type=Path, help="answer with glosses of this folder's senses and synsets")
    args = parser.parse_args()
    server = Server(latency=args.latency)
    if args.inventory:
        server.reply = glosses_of(args.inventory)
    if args.faults:
        server.reply = random_faults(args.seed, args.faults, server.reply)
        server.trouble = random_trouble(args.seed, args.faults)
    listening = _HTTPServer(args.port, server)
    if args.port_file:
        partial = args.port_file.with_name(args.port_file.name + ".part")
        partial.write_text(f"{listening.server_port}\n", encoding="utf-8")
        partial.replace(args.port_file)
    print(server.url, flush=True)
    try:
        listening.serve_forever()
    except KeyboardInterrupt:
        listening.server_close()


if __name__ == "__main__":
    main()
