"""BabelNet ids (bn:00037030n), and the WordNet synsets that a table of the user's ties them to.

BabelNet's own mapping to WordNet may not be passed on, so none comes with this project. A table is a text file, a
line `bn:00037030n<TAB>sense`, where a sense of WordNet 3.0 is a synset id (02139199-n), an offset as BabelNet writes it
(wn:02139199n) or a sense key (bat%1:05:00::). Of several, tabs between, the first that WordNet 3.0 has is taken.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from polclip.errors import UserError
from polclip.records import Sense

log = logging.getLogger(__name__)

_ID = re.compile(r"bn:\d+([nvar])")
_OFFSET = re.compile(r"(?:wn:)?(\d{8})-?([nvasr])")


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

    synset_of_key: of WordNet's sense keys. synset_ids: all there are. What WordNet 3.0 does not have is left out and
    counted in the log. Raises UserError with file and line for a line of another form, and where nothing is left.
    """
    seen: set[str] = set()
    unknown = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip() or line.startswith("#"):
                    continue
                babelnet_id, *senses = line.rstrip("\r\n").split("\t")
                if pos_of(babelnet_id) is None or not any(senses):
                    raise UserError(
                        f"{path}:{number}: {line.strip()[:60]!r} is no line of a sense mapping. A line is a BabelNet "
                        "id, a tab and a sense of WordNet 3.0: bn:00037030n<TAB>02139199-n (or wn:02139199n, or a "
                        "sense key)."
                    )
                synsets = (_synset(sense.strip(), synset_of_key, synset_ids) for sense in senses)
                synset_id = next(filter(None, synsets), None)
                unknown += synset_id is None
                if synset_id is not None and babelnet_id not in seen:
                    seen.add(babelnet_id)
                    yield babelnet_id, synset_id
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a sense mapping ({error}); it is a text file in UTF-8.") from error
    log.info("%s: %d BabelNet ids tied to WordNet, %d lines name nothing of WordNet 3.0", path, len(seen), unknown)
    if not seen:
        raise UserError(f"{path} ties no BabelNet id to WordNet 3.0. Are its offsets those of another version?")


def _synset(sense: str, synset_of_key: Mapping[str, str], synset_ids: Collection[str]) -> str | None:
    offset = _OFFSET.fullmatch(sense)
    if offset is None:
        return synset_of_key.get(sense)
    # Satellite adjectives are "a" in other resources and "s" in the ids here.
    names = (f"{offset[1]}-{pos}" for pos in ("as" if offset[2] == "a" else offset[2]))
    return next((name for name in names if name in synset_ids), None)


def mapped_senses(path: str | Path, synset_of_key: Mapping[str, str], synset_ids: Collection[str]) -> Iterator[Sense]:
    """The pairs of `read_mapping` as senses of no lemma: found by their id alone."""
    for babelnet_id, synset_id in read_mapping(path, synset_of_key, synset_ids):
        yield Sense(babelnet_id, "", pos_of(babelnet_id), synset_id[-1], 0, 0, synset_id)
