"""Sentences of one's own: JSON Lines, or the unified framework's XML, as TextualInstance."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from polclip.corpora.gold_missing import counted, in_words
from polclip.corpora.key_files import read_keys, without_marker
from polclip.corpora.mentions import LemmaFinder
from polclip.corpora.text_lines import lone_surrogate, text_lines
from polclip.corpora.unified_wsd import read_instances
from polclip.corpora.words import token_spans
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.inventory import Inventory
from polclip.records import SCHEMAS, Sense, TextualInstance

log = logging.getLogger(__name__)

_FORM = '{"text": "The bat flew off .", "gold": "bat%1:05:00::"}'


def build(source: str | Path, name: str, inventory: Inventory, instances_path: str | Path) -> dict[str, int]:
    """Write the sentences of one file (Parquet of TextualInstance) and return what was counted, as `unified_wsd`.

    source: `*.jsonl`, or `*.data.xml` with its `*.gold.key.txt` beside it. name: the data set's, in front of ids that
    are made up. Raises UserError that names the line for one that cannot be read.
    """
    source, counts = Path(source), Counter()

    def candidates(lemma: str, pos: str) -> list[str]:
        return [key for named in inventory.lookup.named(lemma, pos) for key in inventory.sense_keys(*named)]

    if source.name.endswith(".data.xml"):
        keys = source.with_name(source.name.removesuffix(".data.xml") + ".gold.key.txt")
        gold = read_keys(text_lines(_content(keys), str(keys)), str(keys))
        with source.open("rb") as xml:
            found = read_instances(xml, gold, candidates, str(source), counts)
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
            record = _record(line)
            text, document = _text(record), _document(record)
            keys = _gold(record, inventory)
            sense = inventory.sense(keys[0])
            first, last = _tokens(record, finder, text, sense)
            instance_id = _id(record, f"{name}.{number}")
        except (UserError, ValueError) as error:
            raise UserError(f"{where}: {error}") from None
        if instance_id in seen:
            raise UserError(f"{where}: the id {instance_id!r} comes twice. Each instance needs one of its own.")
        seen.add(instance_id)
        own = f"{document}.{len(sentences)}" if document else f"{name}-{len(sentences)}"
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


def _record(line: str) -> dict:
    """The object of one line; ValueError says what is wrong with it, as below."""
    if not line.strip():
        raise ValueError(f"an empty line. Take it out; a line is {_FORM}")
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1}). A line is {_FORM}") from None
    except RecursionError:
        raise ValueError(f"not JSON that can be read (nested too deeply). A line is {_FORM}") from None
    if not isinstance(record, dict):
        raise ValueError(f"not a JSON object. A line is {_FORM}")
    if half := lone_surrogate(json.dumps(record, ensure_ascii=False)):
        raise ValueError(f"the line has {half}. Take it out.")
    return record


def _text(record: dict) -> str:
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"`text` is {_shown(text)}. It has to be a sentence: {_FORM}")
    return text


def _gold(record: dict, inventory: Inventory) -> list[str]:
    gold = record.get("gold")
    keys = [gold] if isinstance(gold, str) else gold
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key.strip() for key in keys):
        raise ValueError(f"`gold` is {_shown(gold)}. It has to be a sense key or a list of them: {_FORM}")
    keys = [without_marker(key.strip()) for key in keys]
    for key in keys:
        inventory.sense(key)
    return list(dict.fromkeys(keys))


def _tokens(record: dict, finder: LemmaFinder, text: str, sense: Sense) -> tuple[int, int]:
    """The first and the last token of the target."""
    target = record.get("target")
    if target is None:
        start, end = _find(finder, text, sense.lemma, sense.pos)
    elif isinstance(target, str) and target.strip():
        start, end = _find(finder, text, target, sense.pos)
    elif isinstance(target, list) and len(target) == 2 and all(type(at) is int for at in target):
        start, end = target
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"`target` is {_shown(target)}, but the text has {len(text)} characters. Give the first character and "
                "the one behind the last, counted from 0."
            )
    else:
        raise ValueError(
            f"`target` is {_shown(target)}. It has to be a word of the text or two character positions, such as [4, 7]."
        )
    within = [at for at, span in enumerate(token_spans(text)) if span[0] < end and span[1] > start]
    if not within:
        raise ValueError(f"`target` {_shown(target)} covers no word of the text, only {text[start:end]!r}.")
    return within[0], within[-1]


def _id(record: dict, made_up: str) -> str:
    own = record.get("id", made_up)
    if type(own) is int:
        return str(own)
    if not isinstance(own, str) or not own or any(letter.isspace() for letter in own):
        raise ValueError(
            f"`id` is {_shown(own)}. It has to be a number or a text without blanks, since key files separate ids from "
            "keys by a blank. Without `id`, one is made up."
        )
    return own


def _document(record: dict) -> str | None:
    document = record.get("document")
    if document is not None and (not isinstance(document, str) or not document.strip()):
        raise ValueError(f"`document` is {_shown(document)}. It has to be a name, or to be left out.")
    return document


def _shown(value: object) -> str:
    """A value as JSON writes it, cut where it is long."""
    written = json.dumps(value)
    return written if len(written) <= 60 else f"{written[:60]}..."


def _find(finder: LemmaFinder, text: str, target: str, pos: str) -> tuple[int, int]:
    mention = finder.find(text, target, pos)
    if mention is None:
        raise UserError(f"{target!r} is not in the text {text!r}. Name the `target` as it is written there.")
    return mention.start, mention.end


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
