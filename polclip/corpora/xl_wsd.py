"""XL-WSD (Pasini, Raganato and Navigli 2021): dev and test sets of 18 languages, with BabelNet's senses.

The zip holds `evaluation_datasets/test-LL/test-LL.data.xml` and `.gold.key.txt`, the same of `dev-LL`, and
`inventories/inventory.LL.txt`, in one top folder. The sets have the unified XML; senses are BabelNet ids. A line of an
inventory is `lemma#NOUN<TAB>bn:...<TAB>bn:...`. (README of the data set, and the authors' code that reads it.) The
inventories are in no order of frequency: the first sense of a line says nothing.

The English test set has SemEval-2010 beside the sets of Raganato et al. 2017, so that its figures are not those of ALL.
"""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from polclip.babelnet import pos_of
from polclip.corpora.gold_missing import counted
from polclip.corpora.pos_tags import wordnet_pos
from polclip.corpora.unified_wsd import COUNTS, open_set, read_instances
from polclip.downloads.unpacking import open_members
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, TextualInstance

log = logging.getLogger(__name__)

LANGUAGES = ("bg", "ca", "da", "de", "en", "es", "et", "eu", "fr", "gl", "hr", "hu", "it", "ja", "ko", "nl", "sl", "zh")
WITHOUT_SEMEVAL2010 = "xl_en_without_semeval2010"
_SPLIT = re.compile(r"xl_([a-z]{2})(_dev)?")


def build(
    archive: str | Path, split: str, instances_path: str | Path, wordnet: Inventory | None = None
) -> dict[str, int]:
    """Write one set as TextualInstance (Parquet), streaming; return what was counted, as `unified_wsd.build` does.

    split: `xl_it` (the Italian test set), `xl_it_dev`, or `xl_en_without_semeval2010`. Candidates are those of the
    language's own inventory; gold and candidates are BabelNet ids. wordnet: WordNet's senses with a mapping of BabelNet
    ids, which gives English candidates WordNet's order (see `in_wordnets_order`). Without it, and in other languages,
    candidates keep the inventory's order and `by_frequency` is false: first_sense_unknown counts these instances.
    Raises UserError for an unknown split, and where set or inventory are missing or broken.
    """
    language, name, without = _set_of(split)
    inventory = _inventory(archive, language)
    counts = Counter(dict.fromkeys((*COUNTS, "first_sense_unknown"), 0))
    wordnet = wordnet if language == "en" else None
    with open_set(archive, name) as (source, xml, gold):
        read = read_instances(xml, gold, lambda lemma, pos: inventory.get((lemma, pos), []), source, counts, without)
        found = (_ordered(instance, wordnet, counts) for instance in read)
        write_parquet(instances_path, map(vars, counted(found, counts)), SCHEMAS[TextualInstance])
    log.info("%s: %s", split, ", ".join(f"{reason} {count:,}" for reason, count in counts.items()))
    return dict(counts)


def _ordered(instance: TextualInstance, wordnet: Inventory | None, counts: Counter[str]) -> TextualInstance:
    candidates, known = instance.candidates, False
    if wordnet is not None:
        candidates, known = in_wordnets_order(candidates, instance.lemma, instance.pos, wordnet)
    counts["first_sense_unknown"] += bool(candidates) and not known
    return replace(instance, candidates=candidates, by_frequency=known)


def in_wordnets_order(candidates: list[str], lemma: str, pos: str, wordnet: Inventory) -> tuple[list[str], bool]:
    """BabelNet ids in the order in which WordNet has their synsets among the senses of an English lemma.

    Those that the mapping does not tie to a sense of the lemma follow in the order given. Also whether the first one is
    WordNet's first sense: not if the mapping ties that to no candidate.
    """
    order = {sense.synset_id: place for place, sense in enumerate(wordnet.senses(lemma, pos))}
    places = {
        candidate: order.get(wordnet.sense(candidate).synset_id, len(order)) if wordnet.has(candidate) else len(order)
        for candidate in candidates
    }
    ordered = sorted(candidates, key=places.__getitem__)
    return ordered, bool(order) and bool(ordered) and places[ordered[0]] == 0


def _set_of(split: str) -> tuple[str, str, tuple[str, ...]]:
    """Of a split: the language, the set's name in the archive, and what ids of sentences to leave out begin with."""
    if split == WITHOUT_SEMEVAL2010:
        return "en", "test-en", ("semeval2010.",)
    found = _SPLIT.fullmatch(split)
    if found is None or found[1] not in LANGUAGES:
        raise UserError(
            f"XL-WSD has no split {split!r}. Allowed: xl_ and a language ({' '.join(LANGUAGES)}) for its test set, the "
            f"same with _dev for its dev set, and {WITHOUT_SEMEVAL2010}."
        )
    return found[1], f"{'dev' if found[2] else 'test'}-{found[1]}", ()


def _inventory(archive: str | Path, language: str) -> dict[tuple[str, str], list[str]]:
    name = f"inventory.{language}.txt"
    with closing(open_members(archive, [name, f"*/{name}"], missing_ok=True)) as members:
        member, stream = next(members, (None, None))
        if stream is None:
            raise UserError(f"{archive} has no inventories/{name}. Is it the archive of XL-WSD?")
        return read_inventory(io.TextIOWrapper(stream, "utf-8-sig"), f"{archive}:{member}")


def read_inventory(lines: Iterable[str], source: str) -> dict[tuple[str, str], list[str]]:
    """The BabelNet ids of each lemma (lower case) and part of speech (n v a r), in the file's order, each once.

    Lines of one lemma that differ in case alone are put together. Other parts of speech, and lemmas without a sense,
    are passed over. source: the name for messages. Raises UserError with file and line for a line of another form.
    """
    senses: dict[tuple[str, str], list[str]] = {}
    try:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            first, *ids = (part.strip() for part in line.split("\t"))
            lemma, _, tag = first.rpartition("#")
            ids = list(filter(None, ids))
            wrong = next((item for item in ids if pos_of(item) is None), None)
            if not lemma or wrong is not None:
                raise UserError(
                    f"{source}:{number}: {wrong or first!r} where {'a BabelNet id' if lemma else 'lemma#POS'} must be. "
                    "A line is lemma#NOUN (or VERB, ADJ, ADV) and BabelNet ids such as bn:00037030n, separated by tabs."
                )
            if (pos := wordnet_pos(tag)) and ids:
                known = senses.setdefault((lemma.lower().replace(" ", "_"), pos), [])
                known += [item for item in dict.fromkeys(ids) if item not in known]
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not a text file in UTF-8 ({error}). Download the archive again.") from error
    return senses
