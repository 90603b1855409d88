"""Servers that cut, stall, are busy, lie or give something else: a download ends right or with one clear error."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from download_server import BODY, Answer, dataset, fetch_quickly, sha256_of, zip_of

from polclip.downloads import web
from polclip.downloads.manifest import Http
from polclip.errors import UserError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that a download makes, and does not sleep."""
    seconds = []
    monkeypatch.setattr(web.time, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize("seed", range(5))
def test_cuts_at_random_places(server, destination, seed):
    rng = random.Random(seed)
    server.plan = [Answer(gives=rng.choice([0, 1, rng.randrange(120_000)])) for _ in range(8)]
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination, attempts=9)
    assert destination.read_bytes() == BODY
    assert os.listdir(destination.parent) == ["bats.zip"]


def test_attempts_are_counted_anew_while_more_comes(server, destination):
    server.plan = [Answer(gives=40_000)] * 9
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination, attempts=2)
    assert destination.read_bytes() == BODY and len(server.ranges) == 10


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server, destination):
    server.plan = [Answer(gives=0)] * 20
    with pytest.raises(UserError, match=r"cut the connection \(3 attempts\)"):
        fetch_quickly(dataset(Http((server.url,))), destination, attempts=3)
    assert len(server.ranges) == 3 and not destination.exists()


def test_a_silent_server_is_left(server, destination, monkeypatch):
    monkeypatch.setattr(web, "READ_SECONDS", 0.2)
    server.silent_after = 200_000
    server.plan = [Answer(gives=200_000)]
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY and server.ranges[1] is not None


def test_a_busy_server_is_given_the_time_it_asks_for(server, destination, pauses):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    asked = [{}, {"Retry-After": "7"}, {"Retry-After": later}, {"Retry-After": "86400"}, {"Retry-After": "soon"}]
    server.plan = [Answer(503, headers, b"") for headers in asked]
    fetch_quickly(dataset(Http((server.url,))), destination, attempts=6)
    assert destination.read_bytes() == BODY
    assert pauses[:2] == [0.01, 7] and 30 < pauses[2] <= 40 and pauses[3:] == [60, 0.16]


def test_a_server_that_stays_busy_is_told(server, destination, pauses):
    server.plan = [503] * 9
    with pytest.raises(UserError, match=r"answered 503 Service Unavailable \(4 attempts\)"):
        fetch_quickly(dataset(Http((server.url,))), destination)
    assert len(server.ranges) == 4 and not destination.exists()


def test_more_promised_than_there_is(server, destination, pauses):
    server.plan = [Answer(lies=50_000)] * 9
    with pytest.raises(UserError, match=r"is missing: .*(promised|cut the connection)"):
        fetch_quickly(dataset(Http((server.url,))), destination)
    assert not destination.exists()


def test_a_server_that_gives_the_rest_in_pieces_is_asked_until_it_is_whole(server, destination):
    piece = {"Content-Range": f"bytes 150000-199999/{len(BODY)}"}
    server.plan = ["cut", Answer(206, piece, BODY[150_000:200_000])]
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY
    assert server.ranges == [None, "bytes=150000-", "bytes=200000-"]


def test_less_promised_than_there_is_makes_no_archive(server, destination, pauses):
    server.plan = [Answer(lies=-50_000)] * 9
    with pytest.raises(UserError, match="is broken or cut off"):
        fetch_quickly(dataset(Http((server.url,))), destination)
    assert os.listdir(destination.parent) == []


def test_another_length_than_the_manifests_is_known_before_it_comes(server, destination, monkeypatch):
    monkeypatch.setattr(web, "_save", None)
    with pytest.raises(UserError, match=rf"has {len(BODY):,} bytes where the manifest says 17,000,000,000"):
        fetch_quickly(dataset(Http((server.url,)), size=17 * 10**9), destination)
    assert os.listdir(destination.parent) == []


def test_no_length_at_all(server, destination):
    server.plan = [Answer(headers={"Content-Length": "", "Connection": "close"})]
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY


def test_a_wrong_file_is_left_for_the_next_address(server, destination):
    server.plan = [Answer(body=zip_of(5))]
    second = server.url + "?second"
    bats = dataset(Http((server.url, second)), sha256=sha256_of(BODY))
    assert fetch_quickly(bats, destination)[0] == second
    assert destination.read_bytes() == BODY


def test_a_gzip_that_is_called_an_encoding_stays_as_it_is(server, destination):
    """Some servers call a .tar.gz a tar that they gzipped on the way."""
    server.plan = [Answer(headers={"Content-Encoding": "gzip"})]
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY


CHILD = """\
import sys
sys.path.insert(0, sys.argv[3])
from download_server import dataset, fetch_quickly
from polclip.downloads.manifest import Http
fetch_quickly(dataset(Http((sys.argv[1],))), sys.argv[2])
"""


def test_a_killed_process_leaves_what_a_later_one_goes_on_with(server, destination):
    server.silent_after = 300_000
    server.plan = [Answer(gives=300_000)]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url, str(destination), str(ROOT / "tests")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    part = destination.with_name("bats.zip.part")
    until = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 200_000):
        assert child.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    have = part.stat().st_size
    assert not destination.exists() and 200_000 < have <= 300_000
    assert json.loads(part.with_name("bats.zip.part.json").read_text())["total"] == len(BODY)
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY and os.listdir(destination.parent) == ["bats.zip"]
    assert server.ranges == [None, f"bytes={have}-"]
