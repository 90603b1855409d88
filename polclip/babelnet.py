"""BabelNet ids (bn:00037030n), and the WordNet synsets that a table of the user's ties them to.

BabelNet's own mapping to WordNet may not be passed on, so none comes with this project. A table is a text file with
lines `bn:00037030n<TAB>sense`, where a sense of WordNet 3.0 is a synset id (02139199-n), an offset as BabelNet writes
it (wn:02139199n) or a sense key (bat%1:05:00::). Of several senses, the first that WordNet 3.0 has is taken.

What public scripts print is read too: blanks, commas or semicolons between senses, the brackets and quotes of Python's
lists, offsets with the version in front (wn30:02139199n, eng-30-02139199-n) or the part of speech (n02139199), keys
with %3 for the %5 of satellite adjectives, and keys with WordNet's markers, such as (a).
"""

import logging
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from polclip.errors import UserError
from polclip.records import Sense

log = logging.getLogger(__name__)

_ID = re.compile(r"bn:\d+([nvar])")
# wn:02139199n and 02139199-n, and with the version 3.0 in front; other versions have other offsets.
_VERSION = r"(?:(?:wn|wordnet|eng|ili)[:-]?(?:3\.?0)?[:-])?"
_OFFSET = re.compile(rf"{_VERSION}(?:(?P<offset>\d{{8}})-?(?P<pos>[nvasr])|(?P<first>[nvasr])(?P<behind>\d{{8}}))")
_BETWEEN = re.compile(r"[\s,;|\[\]{}]+")  # no sense key has these
_MARKER = re.compile(r"\((?:a|p|ip)\)")


def is_babelnet_id(sense: str) -> bool:
    return sense.startswith("bn:")


def pos_of(babelnet_id: str) -> str | None:
    """The part of speech (n v a r) that an id ends with; None for what is no BabelNet id."""
    found = _ID.fullmatch(babelnet_id)
    return found[1] if found else None


def read_mapping(
    path: str | Path, synset_of_key: Mapping[str, str], synset_ids: Collection[str]
) -> Iterator[tuple[str, str]]:
    """BabelNet id and WordNet synset id, a line at a time; an id that comes again keeps its first synset.

    synset_of_key: of WordNet's sense keys. synset_ids: all there are. Lines that name nothing of WordNet 3.0 are left
    out and counted, in the log and on the terminal. Raises UserError with file and line for a line of another form, and
    where nothing is left.
    """
    seen: set[str] = set()
    lines, lost, first_lost = 0, 0, ""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip() or line.startswith("#"):
                    continue
                babelnet_id, *senses = _BETWEEN.sub(" ", line).split() or [""]
                if pos_of(babelnet_id) is None or not senses:
                    raise UserError(
                        f"{path}:{number}: {line.strip()[:60]!r} is not a line of a sense mapping. A line is a "
                        "BabelNet id, a tab and a sense of WordNet 3.0: bn:00037030n<TAB>02139199-n (or "
                        "wn:02139199n, or a sense key)."
                    )
                synsets = (_synset(sense, synset_of_key, synset_ids) for sense in senses)
                synset_id = next(filter(None, synsets), None)
                lines += 1
                if synset_id is None:
                    lost += 1
                    first_lost = first_lost or f"line {number}, {line.strip()[:60]!r}"
                if synset_id is not None and babelnet_id not in seen:
                    seen.add(babelnet_id)
                    yield babelnet_id, synset_id
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a sense mapping ({error}); it is a text file in UTF-8.") from error
    log.info("%s: %d BabelNet ids tied to WordNet", path, len(seen))
    if lost:
        told = f"{path}: {lost:,} of {lines:,} lines name no sense of WordNet 3.0 and are left out: {first_lost}, ..."
        log.info("%s", told)
        print(told, file=sys.stderr)  # a rule's log is a file
    if not seen:
        raise UserError(f"{path} ties no BabelNet id to WordNet 3.0. Are its offsets those of another version?")


def _synset(sense: str, synset_of_key: Mapping[str, str], synset_ids: Collection[str]) -> str | None:
    found = _OFFSET.fullmatch(sense.strip("'\"").lower())
    if found is None:  # some keys begin with an apostrophe, which is not a quote
        keys = (_MARKER.sub("", key) for key in (sense, sense.strip('"'), sense.strip("'")))
        # Other resources write satellite adjectives as adjectives.
        forms = (form for key in keys for form in (key, key.replace("%3:", "%5:", 1)))
        return next((synset_of_key[form] for form in forms if form in synset_of_key), None)
    offset, pos = found["offset"] or found["behind"], found["pos"] or found["first"]
    names = (f"{offset}-{own}" for own in ("as" if pos in "as" else pos))  # the same
    return next((name for name in names if name in synset_ids), None)


def mapped_senses(path: str | Path, synset_of_key: Mapping[str, str], synset_ids: Collection[str]) -> Iterator[Sense]:
    """The pairs of `read_mapping` as senses of no lemma: found by their id alone."""
    for babelnet_id, synset_id in read_mapping(path, synset_of_key, synset_ids):
        yield Sense(babelnet_id, "", pos_of(babelnet_id), synset_id[-1], 0, 0, synset_id)
