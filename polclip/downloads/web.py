"""Download one file over http(s): resumed where it was cut, retried with growing pauses."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
from tqdm import tqdm

from polclip.errors import UserError

CHUNK_BYTES = 1 << 16
CONNECT_SECONDS, READ_SECONDS = 15, 60
LONGEST_PAUSE_SECONDS = 60


class NotFetched(Exception):
    """A source that did not give the file; the message is a clause that says why."""


class _Passing(Exception):
    """A failure that may be over at the next attempt."""

    def __init__(self, reason: str, pause: float | None = None):
        super().__init__(reason)
        self.pause = pause


def download(url: str, part: Path, log: Callable[[str], None], attempts: int = 4, pause: float = 1.0) -> bool:
    """Download `url` to the file `part`; return whether a piece of an earlier attempt was used.

    `part` outlives failures, with a note of what it is in `{part}.json`, so that the next attempt, in this
    process or a later one, asks only for the rest, and only if the file behind the URL is still the same.
    Between attempts `pause`, 2 `pause`, 4 `pause`, ... seconds pass, or what the server asks for, at most 60.
    Raises NotFetched; UserError when the disk is full.
    """
    resumed = False
    for attempt in range(1, attempts + 1):
        try:
            return _attempt(url, part) or resumed
        except requests.RequestException as error:
            failure = _Passing(_reason(error, url))
        except _Passing as error:
            failure = error
        except OSError as error:
            if error.errno != 28:  # ENOSPC
                raise
            raise UserError(
                f"No space left on the disk while writing {part}: free some space and run the same command "
                "again; it goes on where it stopped."
            ) from error
        if attempt == attempts:
            raise NotFetched(f"{failure} ({attempts} attempts)")
        resumed = part.exists()
        seconds = min(LONGEST_PAUSE_SECONDS, failure.pause or pause * 2 ** (attempt - 1))
        log(f"{failure}; attempt {attempt + 1} of {attempts} in {seconds:g} s")
        time.sleep(seconds)
    raise ValueError("attempts must be at least 1")


def forget(part: Path) -> None:
    """Delete a partial download and its note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def shown(url: str) -> str:
    """The URL without user name and password, for messages."""
    pieces = urlsplit(url)
    return urlunsplit(pieces._replace(netloc=pieces.netloc.rpartition("@")[2]))


def _attempt(url: str, part: Path) -> bool:
    """Ask once, for the rest where a piece of the same file is there; True when such a piece was used."""
    note = _read_note(part, url)
    have = part.stat().st_size if note else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "polclip"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if note["validator"]:
            headers["If-Range"] = note["validator"]
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as answer:
        if answer.status_code == 416:
            if have and have == note["total"]:
                return True
            forget(part)
            raise _Passing(f"{shown(url)} has changed since the earlier attempt")
        if answer.status_code == 429 or answer.status_code >= 500:
            asked = answer.headers.get("Retry-After", "")
            raise _Passing(
                f"{shown(url)} answered {answer.status_code} {answer.reason}",
                float(asked) if asked.isdigit() else None,
            )
        if not answer.ok:
            raise NotFetched(f"{shown(url)} answered {answer.status_code} {answer.reason}")
        if answer.headers.get("Content-Type", "").startswith("text/html") and ".htm" not in url:
            raise NotFetched(f"{shown(url)} gave a web page instead of a file")
        if answer.status_code == 206:
            start, total = _content_range(answer.headers.get("Content-Range", ""))
            if start != have or total != note["total"]:
                forget(part)
                raise _Passing(f"{shown(url)} has changed since the earlier attempt")
        else:
            have, length = 0, answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            _write_note(part, url, _validator(answer), total)
        _save(answer, part, have, total)
    if total is not None and part.stat().st_size != total:
        raise _Passing(f"{shown(url)} gave {part.stat().st_size:,} of {total:,} bytes")
    return have > 0


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
        for chunk in answer.iter_content(CHUNK_BYTES):
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


def _read_note(part: Path, url: str) -> dict | None:
    """The note of a partial download of this very URL, or None where the download starts anew."""
    try:
        note = json.loads(_note_of(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return note if part.exists() and note.get("url") == shown(url) and note.get("total") else None


def _write_note(part: Path, url: str, validator: str, total: int | None) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    note = {"url": shown(url), "validator": validator, "total": total}
    _note_of(part).write_text(json.dumps(note), encoding="utf-8")


def _reason(error: requests.RequestException, url: str) -> str:
    host = urlsplit(shown(url)).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return f"{host} has no certificate that this machine trusts"
    if isinstance(error, requests.exceptions.Timeout):
        return f"{host} did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"{host} cut the connection"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"no connection to {host}"
    return f"{shown(url)} cannot be fetched ({type(error).__name__})"
