"""Sentences of one's own: JSON Lines, or the unified framework's XML, as TextualInstance."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from polclip.corpora.gold_missing import counted, in_words
from polclip.corpora.key_files import read_keys, without_marker
from polclip.corpora.mentions import LemmaFinder
from polclip.corpora.text_lines import text_lines
from polclip.corpora.unified_wsd import read_instances
from polclip.corpora.words import token_spans
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, TextualInstance

log = logging.getLogger(__name__)

_FORM = '{"text": "The bat flew off .", "gold": "bat%1:05:00::"}'


def build(source: str | Path, name: str, inventory: Inventory, instances_path: str | Path) -> dict[str, int]:
    """Write the sentences of one file (Parquet of TextualInstance) and return what was counted, as `unified_wsd`.

    source: `*.jsonl`, or `*.data.xml` with its `*.gold.key.txt` beside it. name: the data set's, in front of ids that
    are made up. Raises UserError that names the line for one that cannot be read.
    """
    source, counts = Path(source), Counter()
    if source.name.endswith(".data.xml"):
        keys = source.with_name(source.name.removesuffix(".data.xml") + ".gold.key.txt")
        gold = read_keys(text_lines(_content(keys), str(keys)), str(keys))
        with source.open("rb") as xml:
            found = read_instances(xml, gold, inventory.sense_keys, str(source), counts)
            write_parquet(instances_path, map(vars, counted(found, counts, inventory)), SCHEMAS[TextualInstance])
    else:
        found = list(read_lines(source, name, inventory))
        counts["sentences"] = len({instance.sentence_id for instance in found})
        write_parquet(instances_path, map(vars, counted(found, counts, inventory)), SCHEMAS[TextualInstance])
    log.info("%s: %s", name, in_words(counts))
    return dict(counts)


def read_lines(source: str | Path, name: str, inventory: Inventory) -> Iterator[TextualInstance]:
    """The instances of JSON Lines: an object a line with `text` and `gold`, a sense key or a list of them.

    `target` is the word meant, or its two character positions in the text; without it the first form of the gold's
    lemma. `id` names the instance, and sentences of one `document` are read with their neighbours.
    """
    finder = LemmaFinder(inventory)
    sentences: dict[tuple[str | None, str], str] = {}
    seen: set[str] = set()
    for number, line in enumerate(text_lines(_content(source), str(source)), start=1):
        where = f"{source}:{number}"
        try:
            record = json.loads(line)
            text, gold, target = record["text"], record["gold"], record.get("target")
            keys = [without_marker(key) for key in ([gold] if isinstance(gold, str) else gold)]
            sense = inventory.sense(keys[0])
            start, end = target if isinstance(target, list) else _find(finder, text, target or sense.lemma, sense.pos)
            within = [at for at, span in enumerate(token_spans(text)) if span[0] < end and span[1] > start]
            first, last = within[0], within[-1]
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise UserError(
                f"{where}: cannot be read ({type(error).__name__}: {error}). A line has a text and the sense keys that "
                f"are meant, such as {_FORM}; `target` is a word of the text or two character positions."
            ) from None
        document = record.get("document")
        own = f"{document}.{len(sentences)}" if document else f"{name}-{len(sentences)}"
        instance_id = str(record.get("id", f"{name}.{number}"))
        if instance_id in seen:
            raise UserError(f"{where}: the id {instance_id!r} comes twice. Each instance needs one of its own.")
        seen.add(instance_id)
        yield TextualInstance(
            instance_id=instance_id,
            sentence_id=sentences.setdefault((document, text), own),
            tokens=[text[slice(*span)] for span in token_spans(text)],
            target_start=first,
            target_end=last + 1,
            lemma=sense.lemma,
            pos=sense.pos,
            candidates=inventory.sense_keys(sense.lemma, sense.pos),
            gold=keys,
        )
    if not seen:
        raise UserError(f"{source} is empty. A line is {_FORM}")


def _find(finder: LemmaFinder, text: str, target: str, pos: str) -> tuple[int, int]:
    mention = finder.find(text, target, pos)
    if mention is None:
        raise UserError(f"{target!r} is not in the text {text!r}. Name the `target` as it stands there.")
    return mention.start, mention.end


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
