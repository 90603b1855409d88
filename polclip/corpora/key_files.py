"""Gold and answer files of word sense disambiguation: a line is `instance_id sense_key [sense_key ...]`."""

import re
from collections.abc import Collection, Iterable

from polclip.errors import UserError

_SYNTACTIC_MARKER = re.compile(r"\((?:a|p|ip)\)")


def without_marker(sense_key: str) -> str:
    """A sense key without WordNet's marker: `every%5:00:00:all(a):00` -> `every%5:00:00:all:00`."""
    return _SYNTACTIC_MARKER.sub("", sense_key)


def read_keys(lines: Iterable[str], source: str, known: Collection[str] | None = None) -> dict[str, list[str]]:
    """The sense keys of each instance, markers stripped, in the order of the file; each key once.

    source: the file's name, for messages. known: the instance ids there are, where the gold has been read.
    Raises UserError with file and line for a line without a key, an instance given twice and an unknown one.
    """
    keys: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        instance_id, *answers = line.lstrip("\ufeff").split()
        if not answers:
            raise UserError(
                f"{source}:{number}: {instance_id} has no sense key. A line is "
                "`instance_id sense_key [sense_key ...]`; leave an unanswered instance out."
            )
        if instance_id in keys:
            raise UserError(f"{source}:{number}: {instance_id} stands in the file twice. Keep one line an instance.")
        if known is not None and instance_id not in known:
            raise UserError(
                f"{source}:{number}: {instance_id} is not an instance of the gold. Both must be of one benchmark."
            )
        keys[instance_id] = list(dict.fromkeys(map(without_marker, answers)))
    if not keys:
        raise UserError(f"{source} holds no instance. A line is `instance_id sense_key [sense_key ...]`.")
    return keys
