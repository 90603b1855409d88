"""Texts to disambiguate: lines, JSON Lines or CSV, a record at a time; what cannot be read is told in its place."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from polclip.answers import Reason
from polclip.errors import UserError

FORMATS = ("text", "jsonl", "csv")
LONGEST_LINE = 4_000_000  # bytes; the rest of a longer one is passed over
FIELDS = ("text", "target", "pos", "lemma")


@dataclass(frozen=True)
class Asked:
    """A text with what is asked of it; or why it cannot be read."""

    text: str
    target: str | tuple[int, int] | None = None
    pos: str | None = None
    lemma: str | None = None
    id: str | int | None = None  # given back with the answer
    reason: Reason | None = None


def format_of(name: str, given: str | None) -> str:
    """The format of a file by its ending, unless one is given."""
    if given is not None:
        if given not in FORMATS:
            raise UserError(f"--format: {given!r} is not allowed; allowed: {' | '.join(FORMATS)}.")
        return given
    ending = name.lower().rpartition(".")[2]
    return {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv"}.get(ending, "text")


def read_asked(stream: BinaryIO, form: str, target: str | None, pos: str | None) -> Iterator[Asked]:
    """The records of a stream in their order; `target` and `pos` are those of records without their own.

    Text has one a line. JSON Lines and CSV have the fields text, target, pos, lemma and id, all but text optional;
    a target of JSON Lines may be two numbers, its characters. Raises UserError for a CSV without a column `text`.
    """
    if form == "csv":
        yield from _from_csv(stream, target, pos)
        return
    for line in _lines(stream):
        if line is None:
            yield Asked("", reason=Reason.TEXT_TOO_LONG)
            continue
        try:
            text = line.decode("utf-8").rstrip("\r\n")
            yield Asked(text, target, pos) if form == "text" else _from_json(text, target, pos)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            yield Asked("", reason=Reason.BAD_RECORD)


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines with their ends; None for one that is longer than LONGEST_LINE."""
    first = True
    while line := stream.readline(LONGEST_LINE):
        line, first = line.removeprefix(b"\xef\xbb\xbf") if first else line, False
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE)
            yield None
        else:
            yield line


def _from_json(line: str, target: str | None, pos: str | None) -> Asked:
    record = json.loads(line)
    where = record.get("target", target)
    if isinstance(where, list):
        start, end = map(int, where)
        where = start, end
    asked = Asked(record["text"], where, record.get("pos", pos), record.get("lemma"), record.get("id"))
    kinds = ((asked.text, str), (asked.target, str | tuple | None), (asked.pos, str | None), (asked.lemma, str | None))
    if not all(isinstance(value, kind) for value, kind in kinds):
        raise TypeError(line)
    return asked


def _from_csv(stream: BinaryIO, target: str | None, pos: str | None) -> Iterator[Asked]:
    csv.field_size_limit(LONGEST_LINE)
    rows = csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline=""))
    try:
        if "text" not in (rows.fieldnames or ()):
            raise UserError(
                f"The CSV has no column `text` (found: {', '.join(rows.fieldnames or ()) or 'nothing'}); "
                "its first line names the columns: text, and where wanted target, pos, lemma, id."
            )
        for row in rows:
            yield Asked(
                row["text"] or "", row.get("target") or target, row.get("pos") or pos,
                row.get("lemma") or None, row.get("id"),
            )  # fmt: skip
    except csv.Error as error:
        raise UserError(f"The CSV cannot be read beyond line {rows.line_num} ({error}).") from error


def batches(asked: Iterator[Asked], size: int) -> Iterator[list[Asked]]:
    """Records in lists of at most `size`."""
    while some := list(islice(asked, size)):
        yield some
