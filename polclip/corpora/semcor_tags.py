"""SemCor 3.0 from its tag files: SGML with unquoted attributes, Latin-1, one element a line.

A word is an instance when any part of its `wnsn` is a sense number other than 0; its sense keys are
`lemma%lexsn`, several joined by ";" (README of the SemCor 3.0 archive).
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from polclip.corpora.gold_missing import REASONS, counted, in_words
from polclip.corpora.key_files import without_marker
from polclip.corpora.unified_wsd import COUNTS
from polclip.downloads.unpacking import open_members
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, TextualInstance
from polclip.selection import fraction

log = logging.getLogger(__name__)

_ELEMENT = re.compile(r"<(wf|punc)\b([^>]*)>(.*?)</\1>")
_ATTRIBUTE = re.compile(r"(\w+)=(\S+)")
_BEGINNING = re.compile(r"<(?:wf|punc)\b")
_SENTENCE = re.compile(r"<s snum=(\w+)")
_POS_OF_KEY = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_PUNCTUATION = {"``": '"', "''": '"', "`": "'", "-LRB-": "(", "-RRB-": ")"}


def build(
    archive: str | Path, inventory: Inventory, train_path: str | Path, dev_path: str | Path, dev_fraction: float = 0.0
) -> dict[str, int]:
    """Write SemCor as TextualInstance (two Parquet files), streaming, and return what was counted.

    Args:
        archive: semcor3.0.tar.gz.
        dev_fraction: share of the documents that go to dev, chosen by the digest of their names; the rest is train.

    Counts as in `unified_wsd.build`; whole: 37,176 sentences, 226,036 instances. Raises UserError when the archive is
    broken or holds no tag file.
    """
    counts = Counter(dict.fromkeys((*COUNTS, *REASONS), 0))
    instances = counted(_archive_instances(archive, inventory, counts), counts, inventory)
    dev: list[TextualInstance] = []  # a small part of all, so that it may be held

    def train() -> Iterator[TextualInstance]:
        for instance in instances:
            if fraction(instance.document, seed=0) < dev_fraction:
                dev.append(instance)
            else:
                yield instance

    write_parquet(train_path, map(vars, train()), SCHEMAS[TextualInstance])
    write_parquet(dev_path, map(vars, dev), SCHEMAS[TextualInstance])
    log.info("SemCor: %s; %d of the instances are dev", in_words(counts), len(dev))
    return dict(counts)


def _archive_instances(archive: str | Path, inventory: Inventory, counts: Counter[str]) -> Iterator[TextualInstance]:
    seen: set[str] = set()
    for name, stream in open_members(archive, ["tagfiles/*", "*/tagfiles/*"], missing_ok=True):
        document = PurePosixPath(name).name
        if document in seen:
            raise UserError(f"{archive}: the tag file {document} is there twice. Download it again.")
        seen.add(document)
        # Bytes are cut into lines: as letters, 0x85 would end one too.
        lines = [line.decode("latin-1") for line in stream.read().splitlines()]
        yield from read_instances(lines, document, inventory, counts, f"{archive}:{name}")
    if not counts["sentences"]:
        raise UserError(f"{archive} holds no SemCor tag file (a folder `tagfiles`). Expected: semcor3.0.tar.gz")


def read_instances(
    lines: Iterable[str], document: str, inventory: Inventory, counts: Counter[str], source: str = ""
) -> Iterator[TextualInstance]:
    """The instances of one tag file. document: its name (br-a01), the front part of every id.

    source: the file's name for messages, if it is another. Raises UserError with file and line for a word that is
    not of this form, a sentence that comes twice or does not end, and for a file without sentences.
    """
    source, number, sentence_id, seen = source or document, 0, "", set()
    tokens, tagged = [], []
    for number, line in enumerate(lines, start=1):
        if opening := _SENTENCE.match(line):
            if sentence_id or opening[1] in seen:
                raise UserError(
                    f"{source}:{number}: sentence {opening[1]} comes twice, or the one before does not end."
                )
            seen.add(opening[1])
            sentence_id, tokens, tagged = f"{document}.s{opening[1]}", [], []
        elements = _ELEMENT.findall(line)
        if len(elements) != len(_BEGINNING.findall(line)):
            raise UserError(f"{source}:{number}: a <wf> or <punc> has no end here. Expected <wf ...>word</wf>.")
        for tag, attributes, text in elements:
            start = len(tokens)
            tokens += [_PUNCTUATION.get(part, part) for part in text.replace("_", " ").split()]
            if tag == "wf":
                fields = dict(_ATTRIBUTE.findall(attributes))
                if any(sense != "0" for sense in fields.get("wnsn", "0").split(";")):
                    tagged.append((*_senses(fields, text, f"{source}:{number}"), start, len(tokens)))
        if line.startswith("</s>"):
            counts["sentences"] += 1
            for place, (lemma, pos, gold, start, end) in enumerate(tagged):
                yield TextualInstance(
                    instance_id=f"{sentence_id}.t{place}",
                    sentence_id=sentence_id,
                    tokens=tokens,
                    target_start=start,
                    target_end=end,
                    lemma=lemma,
                    pos=pos,
                    candidates=inventory.sense_keys(lemma, pos),
                    gold=gold,
                )
            sentence_id = ""
    if sentence_id or not seen:
        raise UserError(f"{source}:{number}: the tag file ends inside a sentence, or has none. Download it again.")


def _senses(fields: dict[str, str], text: str, where: str) -> tuple[str, str, list[str]]:
    """Lemma, part of speech and sense keys of a tagged word; UserError where one of them is not there."""
    lemma, senses = without_marker(fields.get("lemma", "")).lower(), fields.get("lexsn", "").split(";")
    wrong = (
        "no text" if not text.strip(" _")
        else "no lemma" if not lemma
        else "no lexsn" if senses == [""]
        else f"wnsn={fields['wnsn']} beside lexsn={fields['lexsn']}, which must be of as many parts"
        if len(senses) != len(fields["wnsn"].split(";"))
        else f"lexsn={fields['lexsn']}, which must begin with 1 to 5"
        if not all(sense[:1] in _POS_OF_KEY for sense in senses)
        else None
    )  # fmt: skip
    if wrong:
        raise UserError(f"{where}: a tagged word has {wrong}. Expected <wf lemma=say wnsn=1 lexsn=2:32:00::>said</wf>.")
    return lemma, _POS_OF_KEY[senses[0][0]], [without_marker(f"{lemma}%{sense}") for sense in senses]
