"""Texts to disambiguate: lines, JSON Lines, JSON, CSV or TSV, one record at a time, each problem in its place."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

from polclip.answers import Reason
from polclip.corpora.text_lines import decoded_line, lone_surrogate, refuse_other_encodings, text_lines, tsv_fields
from polclip.errors import UserError

FORMATS = ("text", "jsonl", "json", "csv", "tsv")
LONGEST_LINE = 4_000_000  # bytes; the rest of a longer one is passed over
LARGEST_JSON = 500_000_000  # bytes of an array, which is read as a whole
FIELDS = ("text", "target", "pos", "lemma")
COLUMNS = (*FIELDS, "id")

_FORMAT_OF = {"jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "csv": "csv", "tsv": "tsv", "tab": "tsv"}
_DELIMITERS = (",", ";", "\t")  # of CSV; in some languages Excel writes semicolons


@dataclass(frozen=True)
class Asked:
    """A text with what is asked of it; or why it cannot be read."""

    text: str
    target: str | tuple[int, int] | None = None
    pos: str | None = None
    lemma: str | None = None
    id: str | int | None = None  # given back with the answer
    reason: str | None = None  # names the line


def format_of(name: str, given: str | None) -> str:
    """The format of a file by its ending, unless one is given."""
    if given is not None:
        if given not in FORMATS:
            raise UserError(f"--format: {given!r} is not allowed; allowed: {' | '.join(FORMATS)}.")
        return given
    return _FORMAT_OF.get(name.lower().rpartition(".")[2], "text")


def read_asked(
    stream: BinaryIO, name: str, form: str, target: str | None, pos: str | None, lemma: str | None = None
) -> Iterator[Asked]:
    """The records of a stream in their order; `target`, `pos` and `lemma` are those of records without their own.

    Text has one record per line. JSON Lines, CSV and TSV have the fields text, target, pos, lemma and id, all but text
    optional; a target in JSON may be two numbers, its characters. A JSON array holds such objects, or texts.

    A line of text or of JSON Lines that cannot be read gives a record with the reason, and the others are read. A table
    or an array is refused at the first byte that is not UTF-8.

    Args:
        name: of the file, for messages.

    Raises UserError for UTF-16, for a table without a column `text`, and for a JSON file that is none.
    """
    for asked in _read(stream, name, form, target, pos):
        yield asked if asked.lemma else replace(asked, lemma=lemma)


def _read(stream: BinaryIO, name: str, form: str, target: str | None, pos: str | None) -> Iterator[Asked]:
    if form in ("csv", "tsv"):
        yield from _from_table(stream, name, form, target, pos)
    elif form == "json":
        yield from _from_json_file(stream, name, target, pos)
    else:
        for number, line in _lines(stream, name):
            yield _from_line(line, f"line {number}", form, target, pos)


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes | None]]:
    """Number and content of each line, without its end; None for one that is longer than LONGEST_LINE.

    Raises UserError where the first line shows another encoding than UTF-8.
    """
    number = 0
    while line := stream.readline(LONGEST_LINE):
        if number == 0:
            refuse_other_encodings(line, name)
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE)
            number += 1
            yield number, None
            continue
        for part in line.splitlines():  # at single carriage returns too
            number += 1
            yield number, part


def _from_line(line: bytes | None, where: str, form: str, target: str | None, pos: str | None) -> Asked:
    if line is None:
        return Asked("", reason=Reason.TEXT_TOO_LONG)
    try:
        text = decoded_line(line)
        if form == "text":
            return Asked(text, target, pos)
        if not text.strip():
            raise ValueError("an empty line")
        return _from_record(_json(text), where, target, pos)
    except ValueError as error:
        return Asked("", reason=f"{where}: {error}")


def _json(text: str) -> object:
    """What a JSON text says; ValueError in a sentence where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("not JSON that can be read (nested too deeply)") from None


def _from_record(record: object, where: str, target: str | None, pos: str | None) -> Asked:
    """The record of a JSON object, or one with the reason why there is none."""
    if problem := _problem(record):
        own_id = record.get("id") if isinstance(record, dict) else None
        return Asked("", id=own_id, reason=f"{where}: {problem}")
    own = record.get("target")
    own = tuple(own) if isinstance(own, list) else own
    own_pos = record.get("pos")
    return Asked(
        record["text"], target if own is None else own, pos if own_pos is None else own_pos,
        record.get("lemma"), record.get("id"),
    )  # fmt: skip


def _problem(record: object) -> str:
    """What is wrong with a record of JSON; "" where nothing is."""
    if not isinstance(record, dict):
        return "not a JSON object with a `text`"
    if record.get("text") is None:
        return "there is no `text`"
    for name in FIELDS:
        value = record.get(name)
        if name == "target" and isinstance(value, list):
            if len(value) != 2 or not all(type(at) is int for at in value):
                return "`target` is not a word of the text or two character positions, such as [4, 7]"
        elif not isinstance(value, str | None):
            return f"`{name}` is not a text"
        elif value and (half := lone_surrogate(value)):
            return f"`{name}` has {half}"
    return ""


def _from_json_file(stream: BinaryIO, name: str, target: str | None, pos: str | None) -> Iterator[Asked]:
    """The objects or texts of an array; of a file that holds none, its lines as JSON Lines."""
    content = stream.read(LARGEST_JSON + 1)
    if len(content) > LARGEST_JSON:
        raise UserError(f"{name} is larger than {LARGEST_JSON // 10**6:,} MB. Write it as JSON Lines: --format jsonl")
    lines = text_lines(content, name)
    text = "\n".join(lines)
    try:
        value = json.loads(text or "[]")
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise UserError(
                f"{name}:{error.lineno}: not JSON ({error.msg} at character {error.colno}). The file holds an array of "
                'objects: [{"text": "The bat flew off", "target": "bat"}]. For one object per line give --format jsonl.'
            ) from error
        for number, line in enumerate(lines, start=1):
            yield _from_line(line.encode(), f"line {number}", "jsonl", target, pos)
        return
    except RecursionError:
        raise UserError(f"{name} is nested too deeply. The file holds an array of objects with a `text`.") from None
    records = value if isinstance(value, list) else [value]
    for number, record in enumerate(records, start=1):
        record = {"text": record} if isinstance(record, str) else record
        yield _from_record(record, f"record {number}", target, pos)


def _from_table(stream: BinaryIO, name: str, form: str, target: str | None, pos: str | None) -> Iterator[Asked]:
    lines = (_table_line(line, f"{name}:{number}") for number, line in _lines(stream, name))
    head = next(lines, "")
    if form == "tsv":
        columns = _names(tsv_fields(head))
        rows = ((number, tsv_fields(line)) for number, line in enumerate(lines, start=2) if line.strip())
    else:
        delimiter = next((mark for mark in _DELIMITERS if "text" in _names(head.split(mark))), ",")
        columns = _names(next(csv.reader([head], delimiter=delimiter), []))
        rows = _csv_rows(lines, name, delimiter)
    if "text" not in columns:
        raise UserError(
            f"The {form.upper()} {name} has no column `text` (found: {', '.join(columns) or 'nothing'}). "
            "Its first line names the columns: text, and if known target, pos, lemma, id."
        )
    if twice := [column for column in COLUMNS if columns.count(column) > 1]:
        raise UserError(f"{name}:1: the column `{twice[0]}` occurs twice. Keep one.")
    for number, fields in rows:
        if len(fields) > len(columns):
            problem = f"{len(fields)} fields for {len(columns)} columns. Put quotes around a field with the separator"
            yield Asked("", reason=f"line {number}: {problem}")
            continue
        row = dict(zip(columns, fields, strict=False))  # editors cut empty fields off the end
        yield Asked(
            row.get("text", ""), row.get("target") or target, row.get("pos") or pos,
            row.get("lemma") or None, row.get("id"),
        )  # fmt: skip


def _csv_rows(lines: Iterator[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The last line and the fields of each row below the head; blank lines are left out."""
    csv.field_size_limit(LONGEST_LINE)
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    try:
        for fields in rows:
            if fields:
                yield 1 + rows.line_num, fields
    except csv.Error as error:
        raise UserError(
            f"{name}:{1 + rows.line_num}: not CSV ({error}). Put quotes around a field with commas or quotes, and "
            "double the quotes in it."
        ) from error


def _table_line(line: bytes | None, where: str) -> str:
    if line is None:
        raise UserError(f"{where}: the line is longer than {LONGEST_LINE // 10**6} MB. Is a quote missing?")
    try:
        return decoded_line(line)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _names(fields: list[str]) -> list[str]:
    """The names of columns, whatever their case and the blanks and quotes around them."""
    return [field.strip().strip('"').strip().lower() for field in fields]


def batches(asked: Iterator[Asked], size: int) -> Iterator[list[Asked]]:
    """Records in lists of at most `size`."""
    while some := list(islice(asked, size)):
        yield some
