"""Gold and answer files of word sense disambiguation: a line is `instance_id sense_key [sense_key ...]`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from polclip.errors import UserError

_SYNTACTIC_MARKER = re.compile(r"\((?:a|p|ip)\)")
_FORM = "A line is `instance_id sense_key [sense_key ...]`"


def without_marker(sense_key: str) -> str:
    """A sense key without WordNet's marker: `every%5:00:00:all(a):00` -> `every%5:00:00:all:00`."""
    return _SYNTACTIC_MARKER.sub("", sense_key) if "(" in sense_key else sense_key


def read_keys(lines: Iterable[str], source: str) -> dict[str, list[str]]:
    """The sense keys of each instance of a gold file, markers stripped, in the order of the file; each key once.

    source: the file's name, for messages. Raises UserError with file and line for a line without a key and an instance
    given twice.
    """
    keys: dict[str, list[str]] = {}
    for number, instance_id, of_line in _lines(lines):
        if not of_line:
            raise UserError(
                f"{source}:{number}: {instance_id} has no sense key. {_FORM}. Add the key or remove the line."
            )
        if instance_id in keys:
            raise UserError(f"{source}:{number}: {instance_id} stands in the file twice. Keep one line an instance.")
        keys[instance_id] = of_line
    if not keys:
        raise UserError(f"{source} holds no instance. {_FORM}.")
    return keys


@dataclass(frozen=True)
class KeyFile:
    """A gold or answer file as the official scorers read it."""

    keys: dict[str, list[str]]  # sense keys by instance id, in the order of the file, each key once
    lines_without_key: int  # passed over
    repeated_lines: int  # lines of an instance that an earlier line has: their keys are added to its keys


def read_key_file(lines: Iterable[str], source: str) -> KeyFile:
    """Read a file as the scorer of Raganato et al. 2017 does: odd lines are counted instead of refused.

    Markers are stripped, as in `read_keys`. source: the file's name, for messages. Raises UserError for a file without
    any line.
    """
    keys: dict[str, list[str]] = {}
    without_key = repeated = 0
    for _, instance_id, of_line in _lines(lines):
        if not of_line:
            without_key += 1
            continue
        repeated += instance_id in keys
        keys[instance_id] = list(dict.fromkeys([*keys.get(instance_id, []), *of_line]))
    if not keys and not without_key:
        raise UserError(f"{source} holds no instance. {_FORM}.")
    return KeyFile(keys, without_key, repeated)


def _lines(lines: Iterable[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, instance id and distinct sense keys without markers of each line that is not blank."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            instance_id, *keys = line.lstrip("\ufeff").split()
            yield number, instance_id, list(dict.fromkeys(map(without_marker, keys)))
