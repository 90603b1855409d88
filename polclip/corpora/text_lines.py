"""Lines of text files that others wrote: UTF-8, with any line ends; what is something else is named by its line."""

import codecs
import re

from polclip.errors import UserError

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SAVE = "Save the file as UTF-8."
# Files of 32 bits per letter begin with the same two bytes as those of 16 bits, little ends first.
_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def text_lines(content: bytes, source: str) -> list[str]:
    """The lines of a file without their ends (LF, CRLF or CR); item n - 1 is line n, and blank last lines are left out.

    source: the file's name, for messages. A byte order mark in front is taken off. Raises UserError with file and
    line for what is not UTF-8, such as UTF-16 or Latin-1.
    """
    refuse_other_encodings(content, source)
    lines = []
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            lines.append(decoded_line(line))
        except ValueError as error:
            raise UserError(f"{source}:{number}: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def refuse_other_encodings(start: bytes, source: str) -> None:
    """Raise UserError where a file begins with the mark of UTF-16, or has zero bytes in its first line."""
    if start.startswith(_OTHER_MARKS):
        raise UserError(f"{source}:1: byte 1 of the line is not UTF-8, but begins UTF-16 or UTF-32. {_SAVE}")
    if b"\0" in start.partition(b"\n")[0]:  # UTF-16 of plain letters is UTF-8 with zeros between
        raise UserError(f"{source}:1: zero bytes, as in UTF-16 or a file that is not text. {_SAVE}")


def decoded_line(line: bytes) -> str:
    """A line as text; ValueError names the first byte that is not UTF-8, counted from 1, or the first zero byte."""
    if (zero := line.find(b"\0")) >= 0:
        raise ValueError(f"byte {zero + 1} of the line is a zero byte, as in UTF-16. {_SAVE}")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} of the line is not UTF-8. {_SAVE}") from None


def lone_surrogate(text: str) -> str:
    """What is said of half a surrogate pair in a text, which JSON can escape and UTF-8 cannot hold; "" without one."""
    found = _LONE_SURROGATE.search(text)
    return f"\\u{ord(found[0]):04x}, half of a surrogate pair, which is not a character" if found else ""


def tsv_fields(line: str) -> list[str]:
    """The fields of a line, separated by tabs; quotes that Excel puts around a field, and doubles in it, are undone."""
    return [_unquoted(field) for field in line.split("\t")]


def _unquoted(field: str) -> str:
    inside = field.strip()[1:-1]
    quoted = len(field.strip()) > 1 and field.strip()[0] == field.strip()[-1] == '"'
    return inside.replace('""', '"') if quoted and '"' not in inside.replace('""', "") else field
