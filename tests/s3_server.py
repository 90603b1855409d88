"""An S3 server on the loopback, moto's, that can be told to fail."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

BUCKET = "runs"


class S3Server:
    """`failing` = 3 answers each third request by 503, as a busy S3 does; None answers all."""

    def __init__(self) -> None:
        self.failing: int | None = None
        self.requests = self.failures = 0
        self._numbers = count(1)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self.answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.keys = {"aws_access_key_id": "of-a-test", "aws_secret_access_key": "of-a-test"}
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **self.keys).create_bucket(Bucket=BUCKET)

    def answer(self, environ, start_response):
        self.requests = next(self._numbers)
        if self.failing and self.requests % self.failing == 0:
            self.failures += 1
            # What was sent is read, or the client would find its connection broken.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            # Of SlowDown, the other 503 of S3, botocore waits half a second each time.
            busy = "<Error><Code>ServiceUnavailable</Code><Message>Reduce your request rate.</Message></Error>"
            return Response(busy, 503, content_type="application/xml")(environ, start_response)
        return self._moto(environ, start_response)

    def read(self, key: str) -> bytes:
        """What an object of the bucket holds."""
        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **self.keys)
        return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def close(self) -> None:
        self._server.shutdown()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    try:
        yield server
    finally:
        server.close()
