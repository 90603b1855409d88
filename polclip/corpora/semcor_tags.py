"""SemCor 3.0 from its tag files: SGML with unquoted attributes, Latin-1, one element a line.

A word is an instance when any part of its `wnsn` is a sense number other than 0; its sense keys are
`lemma%lexsn`, several joined by ";" (README of the SemCor 3.0 archive).
"""

import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from polclip.corpora.key_files import without_marker
from polclip.corpora.unified_wsd import COUNTS, count_instance
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, TextualInstance

_ELEMENT = re.compile(r"<(wf|punc)\b([^>]*)>(.*?)</\1>")
_ATTRIBUTE = re.compile(r"(\w+)=(\S+)")
_SENTENCE = re.compile(r"<s snum=(\w+)")
_POS_OF_KEY = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_PUNCTUATION = {"``": '"', "''": '"', "`": "'", "-LRB-": "(", "-RRB-": ")"}


def build(archive: str | Path, inventory: Inventory, instances_path: str | Path) -> dict[str, int]:
    """Write all of SemCor as TextualInstance (Parquet), streaming, and return what was counted.

    archive: semcor3.0.tar.gz. Counts as in `unified_wsd.build`; whole: 37,176 sentences, 226,036 instances.
    Raises UserError when the archive is broken or holds no tag file.
    """
    counts = Counter(dict.fromkeys(COUNTS, 0))
    write_parquet(instances_path, map(vars, _archive_instances(archive, inventory, counts)), SCHEMAS[TextualInstance])
    return dict(counts)


def _archive_instances(archive: str | Path, inventory: Inventory, counts: Counter[str]) -> Iterator[TextualInstance]:
    try:
        with tarfile.open(archive) as file:
            for member in file:
                path = PurePosixPath(member.name)
                if member.isfile() and path.parent.name == "tagfiles":
                    lines = file.extractfile(member).read().decode("latin-1").splitlines()
                    yield from read_instances(lines, path.name, inventory, counts)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{archive} is not a readable SemCor archive ({error}). Download it again.") from error
    if not counts["sentences"]:
        raise UserError(f"{archive} holds no SemCor tag file (a folder `tagfiles`). Expected: semcor3.0.tar.gz")


def read_instances(
    lines: Iterable[str], document: str, inventory: Inventory, counts: Counter[str]
) -> Iterator[TextualInstance]:
    """The instances of one tag file. document: its name (br-a01), the front part of every id."""
    sentence_id, tokens, tagged = "", [], []
    for line in lines:
        opening = _SENTENCE.match(line)
        if opening:
            sentence_id, tokens, tagged = f"{document}.s{opening[1]}", [], []
        for tag, attributes, text in _ELEMENT.findall(line):
            start = len(tokens)
            tokens += [_PUNCTUATION.get(part, part) for part in text.replace("_", " ").split()]
            if tag == "wf" and len(tokens) > start:
                fields = dict(_ATTRIBUTE.findall(attributes))
                if any(number != "0" for number in fields.get("wnsn", "0").split(";")):
                    tagged.append((fields, start, len(tokens)))
        if line.startswith("</s>"):
            counts["sentences"] += 1
            for number, (fields, start, end) in enumerate(tagged):
                lemma = without_marker(fields["lemma"]).lower()
                gold = [without_marker(f"{lemma}%{sense}") for sense in fields["lexsn"].split(";")]
                pos = _POS_OF_KEY[fields["lexsn"][0]]
                instance = TextualInstance(
                    instance_id=f"{sentence_id}.t{number}",
                    sentence_id=sentence_id,
                    tokens=tokens,
                    target_start=start,
                    target_end=end,
                    lemma=lemma,
                    pos=pos,
                    candidates=inventory.sense_keys(lemma, pos),
                    gold=gold,
                )
                count_instance(instance, counts)
                yield instance
