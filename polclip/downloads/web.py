"""Download one file over http(s): resumed where it was cut, retried with growing pauses."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from tqdm import tqdm

from polclip.downloads.disk import check_space
from polclip.downloads.drive import confirmed_address, refusal
from polclip.downloads.proxies import REQUESTS, proxy_for, through_proxy
from polclip.full_disk import full_disk_told

CHUNK_BYTES = 1 << 16
LONGEST_PAGE = 1 << 18
CONNECT_SECONDS, READ_SECONDS = 15, 60
LONGEST_PAUSE_SECONDS = 60


class NotFetched(Exception):
    """A source that did not give the file; the message is a clause that says why."""


class Unreachable(NotFetched):
    """There is no such server, or none that answers."""


class _Passing(Exception):
    """A failure that may be over at the next attempt."""

    def __init__(self, reason: str, pause: float | None = None, kind: type[NotFetched] = NotFetched):
        super().__init__(reason)
        self.pause, self.kind = pause, kind


def download(
    url: str,
    part: Path,
    log: Callable[[str], None],
    attempts: int = 4,
    pause: float = 1.0,
    size: int | None = None,
) -> bool:
    """Download `url` to the file `part`; return whether a piece of an earlier attempt was used.

    `part` outlives failures, with a note of what it is in `{part}.json`, so that the next attempt, in this
    process or a later one, asks only for the rest, and only if the file behind the URL is still the same.
    `attempts` in a row that bring nothing new are the end; between them `pause`, 2 `pause`, 4 `pause`, ... seconds
    pass, or what the server asks for, at most 60. `size` is the length in bytes that the file must have, if known.
    Raises NotFetched; UserError when the disk is full, or has too little room for what is to come, and for a proxy
    that cannot be used.
    """
    resumed, failures, furthest = False, 0, _length(part)
    while True:
        try:
            with full_disk_told(part, "What was downloaded so far is kept"):
                return _attempt(url, part, size, log) or resumed
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = _failure(error, url)
        except _Passing as error:
            failure = error
        failures = 1 if _length(part) > furthest else failures + 1
        furthest = max(furthest, _length(part))
        if failures >= attempts:
            raise failure.kind(f"{failure} ({attempts} attempts)")
        resumed = part.exists()
        seconds = min(LONGEST_PAUSE_SECONDS, failure.pause or pause * 2 ** (failures - 1))
        log(f"{failure}; attempt {failures + 1} of {attempts} in {seconds:g} s")
        time.sleep(seconds)


def forget(part: Path) -> None:
    """Delete a partial download and its note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def shown(url: str) -> str:
    """The URL without user name and password, for messages."""
    pieces = urlsplit(url)
    return urlunsplit(pieces._replace(netloc=pieces.netloc.rpartition("@")[2]))


def _attempt(url: str, part: Path, size: int | None, log: Callable[[str], None]) -> bool:
    """Ask once, for the rest where a piece of the same file is there; True when such a piece was used."""
    note = _read_note(part, url, log)
    have = _length(part) if note else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "polclip"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if note["validator"]:
            headers["If-Range"] = note["validator"]
    with _answer(url, headers) as (answer, page):
        if answer.status_code == 416:
            if have and have == note["total"]:
                return True
            forget(part)
            if not have:
                raise NotFetched(f"{shown(url)} answered 416 {answer.reason}")
            raise _Passing(f"{shown(url)} promised {note['total']:,} bytes and ends at {have:,} or has changed")
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _Passing(
                f"{shown(url)} answered {answer.status_code} {answer.reason}",
                _seconds_to_wait(answer.headers.get("Retry-After", "")),
            )
        if page is not None and (why := refusal(page, answer.url)):
            raise NotFetched(f"{why} ({shown(url)})")
        if not answer.ok:
            raise NotFetched(f"{shown(url)} answered {answer.status_code} {answer.reason}")
        if page is not None:
            raise NotFetched(f"{shown(url)} gave a web page instead of a file")
        if answer.status_code == 206:
            start, total = _content_range(answer.headers.get("Content-Range", ""))
            if start != have or total != note["total"]:
                forget(part)
                raise _Passing(f"{shown(url)} has changed since the earlier attempt")
        else:
            have, length = 0, answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            if None not in (size, total) and size != total:
                raise NotFetched(f"{shown(url)} has {total:,} bytes where the manifest says {size:,}")
            # What is there of a file that has to be fetched anew is overwritten.
            check_space(part.parent, (total or size or 0) - _length(part), part.name.removesuffix(".part"))
            _write_note(part, url, _validator(answer), total)
        if have:
            check_space(part.parent, total - have, f"The rest of {part.name.removesuffix('.part')}")
        _save(answer, part, have, total)
    if total is not None and _length(part) != total:
        raise _Passing(f"{shown(url)} gave {_length(part):,} of {total:,} bytes")
    return have > 0


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[tuple[requests.Response, str | None]]:
    """What the server answers, and the beginning of its text where it is a web page and none was asked for.

    Where that is Drive's page about its virus scan, it is the answer of what its form leads to, once.
    """
    proxy = proxy_for(url, REQUESTS)
    given = {"headers": headers, "stream": True, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
    given |= {"proxies": {"http": proxy, "https": proxy}} if proxy else {}
    with requests.Session() as session:
        with session.get(url, **given) as answer:
            page = None if ".htm" in url else _page(answer)
            followed = confirmed_address(page, answer.url) if page is not None and answer.ok else None
            if not followed:
                yield answer, page
                return
        with session.get(followed, **given) as answer:
            yield answer, _page(answer)


def _page(answer: requests.Response) -> str | None:
    if not answer.headers.get("Content-Type", "").startswith("text/html"):
        return None
    return answer.raw.read(LONGEST_PAGE, decode_content=True).decode("utf-8", errors="replace")


def _save(answer: requests.Response, part: Path, have: int, total: int | None) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(
        desc=part.name.removesuffix(".part"),
        initial=have,
        total=total,
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 30,  # a log file wants a line now and then
    )
    with bar, open(part, "ab" if have else "wb") as file:
        # As sent: some servers call a .tar.gz a tar that they gzipped on the way, and it would be unzipped here.
        for chunk in answer.raw.stream(CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            bar.update(len(chunk))


def _content_range(header: str) -> tuple[int, int | None]:
    """`bytes 10-99/100` as (10, 100); a header that cannot be read as (-1, None)."""
    span, _, total = header.removeprefix("bytes ").partition("/")
    start = span.partition("-")[0]
    if not start.isdigit():
        return -1, None
    return int(start), int(total) if total.isdigit() else None


def _validator(answer: requests.Response) -> str:
    """What `If-Range` may carry: a strong ETag, else the date of the last change."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path, url: str, log: Callable[[str], None]) -> dict | None:
    """The note of a partial download of this very URL, or None where the download starts anew."""
    try:
        note = json.loads(_note_of(part).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        note = None
    if not isinstance(note, dict) or not isinstance(note.get("validator"), str):
        log(f"{_note_of(part)} cannot be read: the download starts anew")
        return None
    return note if part.exists() and note.get("url") == shown(url) and _is_length(note.get("total")) else None


def _is_length(total: object) -> bool:
    return isinstance(total, int) and not isinstance(total, bool) and total > 0


def _write_note(part: Path, url: str, validator: str, total: int | None) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    note = {"url": shown(url), "validator": validator, "total": total}
    _note_of(part).write_text(json.dumps(note), encoding="utf-8")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _seconds_to_wait(retry_after: str) -> float | None:
    """What a `Retry-After` asks for, seconds or a date; None where it says neither."""
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _failure(error: requests.RequestException | urllib3.exceptions.HTTPError, url: str) -> _Passing:
    host = urlsplit(shown(url)).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return _Passing(f"{host} has no certificate that this machine trusts", kind=Unreachable)
    if isinstance(error, requests.exceptions.ReadTimeout | urllib3.exceptions.TimeoutError):
        return _Passing(f"{host} did not answer in time")
    if isinstance(error, requests.exceptions.ConnectionError):
        return _Passing(f"no connection to {host}{through_proxy(url)}", kind=Unreachable)
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return _Passing(f"{host} cut the connection")
    return _Passing(f"{shown(url)} cannot be fetched ({type(error).__name__})", kind=Unreachable)
