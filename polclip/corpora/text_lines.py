"""Lines of text files that others wrote: UTF-8, with any line ends; what is something else is named by its line."""

import codecs

from polclip.errors import UserError


def text_lines(content: bytes, source: str) -> list[str]:
    """The lines of a file without their ends (LF, CRLF or CR); item n - 1 is line n, and blank last lines are left out.

    source: the file's name, for messages. A byte order mark in front is taken off. Raises UserError with file and
    line for what is not UTF-8, such as UTF-16 or Latin-1.
    """
    lines = []
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{source}:{number}: byte {error.start + 1} of the line is not UTF-8. Save the file as UTF-8."
            ) from error
        if "\0" in text:  # UTF-16 of plain letters is UTF-8 with zeros between
            raise UserError(f"{source}:{number}: zero bytes, as in UTF-16. Save the file as UTF-8.")
        lines.append(text)
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
