"""The unified XML of word sense disambiguation: Raganato et al. 2017, training corpora, hard benchmark.

An archive holds `NAME.data.xml` and, beside it, `NAME.gold.key.txt` for each of its sets. The hard benchmark
(Maru et al. 2022) holds ALLamended, S10amended, 42D, hardEN and softEN in the same form.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from polclip.corpora.key_files import read_keys
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, TextualInstance

POS = {"NOUN": "n", "VERB": "v", "ADJ": "a", "ADV": "r"}
COUNTS = ("sentences", "instances", "gold_missing", "no_candidates")


def build(archive: str | Path, name: str, inventory: Inventory, instances_path: str | Path) -> dict[str, int]:
    """Write one set of a zip archive as TextualInstance (Parquet), streaming; return what was counted.

    name: ALL, senseval2, semeval2007 ..., hardEN ..., or semcor of the training corpora; case does not
    matter. Counts: sentences, instances, gold_missing (no gold key among the candidates), no_candidates (the
    lemma is not in WordNet). Such instances are kept, since the official scores count them. Raises UserError
    when the set is missing or broken, or XML and gold file do not name the same instances.
    """
    counts = Counter(dict.fromkeys(COUNTS, 0))
    with open_set(archive, name) as (xml, gold):
        rows = map(vars, read_instances(xml, gold, inventory.sense_keys, f"{archive}:{name}", counts))
        write_parquet(instances_path, rows, SCHEMAS[TextualInstance])
    return dict(counts)


@contextmanager
def open_set(archive: str | Path, name: str) -> Iterator[tuple[BinaryIO, dict[str, list[str]]]]:
    """The XML stream and the gold keys of one set, wherever in the zip it lies; errors as in `build`."""
    try:
        file = zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive} is not a readable zip archive ({error}). Download it again.") from error
    with file:
        stems = [member.removesuffix(".data.xml") for member in file.namelist() if member.endswith(".data.xml")]
        sets = {PurePosixPath(stem).name: stem for stem in stems}
        stem = next((sets[found] for found in sets if found.lower() == name.lower()), None)
        if stem is None:
            raise UserError(f"{archive} has no set {name!r}. Allowed: {', '.join(sorted(sets)) or 'none'}.")
        if f"{stem}.gold.key.txt" not in file.namelist():
            raise UserError(f"{archive} has no gold file {stem}.gold.key.txt. Download it again.")
        try:
            with file.open(f"{stem}.gold.key.txt") as keys:
                gold = read_keys(io.TextIOWrapper(keys, "utf-8"), f"{archive}:{stem}.gold.key.txt")
            with file.open(f"{stem}.data.xml") as xml:
                yield xml, gold
        except (zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"{archive} is broken ({error}). Delete it and download it again.") from error


def read_instances(
    xml: BinaryIO,
    gold: dict[str, list[str]],
    candidates: Callable[[str, str], list[str]],
    source: str,
    counts: Counter[str],
    without: tuple[str, ...] = (),
) -> Iterator[TextualInstance]:
    """The instances of one XML stream, a sentence at a time; documents with a DTD or entities are refused.

    gold: senses by instance id. candidates: the senses of a lemma (lower case, words joined by "_") and part of speech
    (n v a r), first sense first. source: the name for messages. Adds to `counts` (see `build`). without: sentences and
    gold lines whose ids begin so are passed over.
    """
    unseen = {instance_id for instance_id in gold if not instance_id.startswith(without)}
    for sentence in _sentences(xml, source):
        if sentence.get("id", "").startswith(without):
            continue
        counts["sentences"] += 1
        tokens: list[str] = []
        targets: list[tuple[Element, int, int]] = []
        for word in sentence:
            start = len(tokens)
            tokens += (word.text or "").replace("_", " ").split() or ["_"]
            if word.tag == "instance":
                targets.append((word, start, len(tokens)))
        for word, start, end in targets:
            instance_id, pos = word.get("id", ""), POS.get(word.get("pos", ""))
            if instance_id not in unseen or pos is None:
                raise UserError(
                    f"{source}: instance {instance_id!r} (pos {word.get('pos')!r}) has no gold line, comes "
                    f"twice or is not one of {' '.join(POS)}. XML and gold file must be of one set."
                )
            unseen.remove(instance_id)
            lemma = word.get("lemma", "").lower().replace(" ", "_")
            instance = TextualInstance(
                instance_id=instance_id,
                sentence_id=sentence.get("id", ""),
                tokens=tokens,
                target_start=start,
                target_end=end,
                lemma=lemma,
                pos=pos,
                candidates=candidates(lemma, pos),
                gold=gold[instance_id],
            )
            count_instance(instance, counts)
            yield instance
    if unseen:
        raise UserError(f"{source}: {len(unseen)} gold lines have no instance in the XML, such as {min(unseen)}.")


def count_instance(instance: TextualInstance, counts: Counter[str]) -> None:
    """Add one instance to the counts that `build` returns."""
    counts["instances"] += 1
    counts["no_candidates"] += not instance.candidates
    counts["gold_missing"] += not set(instance.gold) & set(instance.candidates)


def _sentences(xml: BinaryIO, source: str) -> Iterator[Element]:
    try:
        for _, element in iterparse(xml, events=("end",), forbid_dtd=True):
            if element.tag == "sentence":
                yield element
            if element.tag in ("sentence", "text"):
                element.clear()  # what was read is let go: a corpus never stands in memory whole
    except (ParseError, DefusedXmlException) as error:
        raise UserError(
            f"{source}: not the XML of the unified framework ({error!r}). Expected a <corpus> of <text>, "
            "<sentence>, <wf> and <instance>, without DTD or entities."
        ) from error
