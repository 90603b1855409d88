"""The unified XML of word sense disambiguation: Raganato et al. 2017, training corpora, hard benchmark.

An archive holds `NAME.data.xml` and, beside it, `NAME.gold.key.txt` for each of its sets. The hard benchmark
(Maru et al. 2022) holds ALLamended, S10amended, 42D, hardEN and softEN in the same form.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from glob import escape
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.ElementTree import DefusedXMLParser, iterparse

from polclip.corpora.gold_missing import REASONS, counted, in_words
from polclip.corpora.key_files import read_keys
from polclip.corpora.pos_tags import ALLOWED as POS_TAGS
from polclip.corpora.pos_tags import wordnet_pos
from polclip.corpora.text_lines import text_lines
from polclip.downloads.unpacking import file_names, open_members, read_member
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, TextualInstance

log = logging.getLogger(__name__)

COUNTS = ("sentences", "instances", "gold_missing", "gold_partly_missing", "no_candidates", "target_without_text")
_LINE = "line of the file"  # no attribute of an XML element can have this name


def build(archive: str | Path, name: str, inventory: Inventory, instances_path: str | Path) -> dict[str, int]:
    """Write one set of a zip archive as TextualInstance (Parquet), streaming; return what was counted.

    name: ALL, senseval2, semeval2007 ..., hardEN ..., or semcor of the training corpora; case does not
    matter. Counts: sentences, instances, gold_missing (no gold key among the candidates) and the same by reason
    (`gold_missing.REASONS`), gold_partly_missing (some of several keys), target_without_text (the lemma stands
    for it). All are kept, since the official scores count them. Raises UserError when the set is missing or broken,
    or XML and gold file do not name the same instances, with the line where there is one.
    """
    counts = Counter(dict.fromkeys((*COUNTS, *REASONS), 0))
    with open_set(archive, name) as (source, xml, gold):
        instances = counted(read_instances(xml, gold, inventory.sense_keys, source, counts), counts, inventory)
        write_parquet(instances_path, map(vars, instances), SCHEMAS[TextualInstance])
    log.info("%s: %s", name, in_words(counts))
    return dict(counts)


@contextmanager
def open_set(archive: str | Path, name: str) -> Iterator[tuple[str, BinaryIO, dict[str, list[str]]]]:
    """Name and stream of the XML of one set, wherever in the archive, and its gold keys; errors as in `build`."""
    files = file_names(archive)
    stems = [file.removesuffix(".data.xml") for file in files if file.endswith(".data.xml")]
    sets = {PurePosixPath(stem).name: stem for stem in stems}
    stem = next((sets[found] for found in sets if found.lower() == name.lower()), None)
    if stem is None:
        raise UserError(f"{archive} has no set {name!r}. Allowed: {', '.join(sorted(sets)) or 'none'}.")
    keys = f"{stem}.gold.key.txt"
    if keys not in files:
        raise UserError(f"{archive} has no gold file {keys}. Download it again.")
    gold = read_keys(text_lines(read_member(archive, escape(keys)), f"{archive}:{keys}"), f"{archive}:{keys}")
    with closing(open_members(archive, escape(f"{stem}.data.xml"))) as members:
        member, xml = next(members)
        yield f"{archive}:{member}", xml, gold


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
            words = "".join(word.itertext()).replace("_", " ").split()
            if word.tag == "instance":
                _check(word, f"{source}:{word.get(_LINE)}", gold, unseen)
                unseen.remove(word.get("id"))
                counts["target_without_text"] += not words
                words = words or word.get("lemma").replace("_", " ").split()
                targets.append((word, start, start + len(words)))
            tokens += words or ["_"]
        for word, start, end in targets:
            lemma, pos = word.get("lemma").lower().replace(" ", "_"), wordnet_pos(word.get("pos"))
            yield TextualInstance(
                instance_id=word.get("id"),
                sentence_id=sentence.get("id", ""),
                tokens=tokens,
                target_start=start,
                target_end=end,
                lemma=lemma,
                pos=pos,
                candidates=candidates(lemma, pos),
                gold=gold[word.get("id")],
            )
    if unseen:
        raise UserError(f"{source}: {len(unseen)} gold lines have no instance in the XML, such as {min(unseen)}.")


def _check(word: Element, where: str, gold: dict[str, list[str]], unseen: set[str]) -> None:
    """UserError that names the line for an <instance> that cannot be read as one."""
    instance_id = word.get("id")
    wrong = (
        "has no id" if not instance_id
        else "has no gold line. XML and gold file must be of one set" if instance_id not in gold
        else "comes twice" if instance_id not in unseen
        else "has no lemma" if not word.get("lemma", "").strip(" _")
        else f"has the part of speech {word.get('pos')!r}. Allowed: {POS_TAGS}" if not wordnet_pos(word.get("pos", ""))
        else None
    )  # fmt: skip
    if wrong:
        raise UserError(f"{where}: instance {instance_id!r} {wrong}.")


class _WithLines(TreeBuilder):
    """Notes in each element the line that it begins on, for messages."""

    parser: DefusedXMLParser

    def start(self, tag: str, attributes: dict[str, str]) -> Element:
        return super().start(tag, attributes | {_LINE: str(self.parser.parser.CurrentLineNumber)})


def _sentences(xml: BinaryIO, source: str) -> Iterator[Element]:
    builder = _WithLines()
    builder.parser = parser = DefusedXMLParser(target=builder, forbid_dtd=True)
    try:
        for _, element in iterparse(xml, ("end",), parser):
            if element.tag == "sentence":
                yield element
            if element.tag in ("sentence", "text"):
                element.clear()  # what was read is let go: a corpus never stands in memory whole
    except (ParseError, LookupError, ValueError) as error:  # the last two: unknown encodings, and what is forbidden
        line = getattr(error, "position", (parser.parser.CurrentLineNumber,))[0]
        raise UserError(
            f"{source}:{line}: not the XML of the unified framework ({error}). Expected a <corpus> of <text>, "
            "<sentence>, <wf> and <instance>, without DTD or entities."
        ) from error
