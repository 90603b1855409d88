"""A model hub on the loopback with one repository: the two endpoints that a download uses."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c" * 40


@contextmanager
def serving_model(folder: Path, repository: str) -> Iterator[str]:
    """The URL of a hub that has the files of `folder` in `repository`; every other path is 404."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(f"/api/models/{repository}/revision/"):
                files = [{"rfilename": path.name} for path in folder.iterdir() if path.is_file()]
                self._answer(json.dumps({"id": repository, "sha": COMMIT, "siblings": files, "tags": []}).encode())
            elif self.path.startswith(f"/api/models/{repository}/tree/"):
                files = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                    for path in folder.iterdir()
                    if path.is_file()
                ]
                self._answer(json.dumps(files).encode())
            elif self.path.startswith(f"/{repository}/resolve/{COMMIT}/"):
                self._answer((folder / Path(self.path).name).read_bytes())
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
