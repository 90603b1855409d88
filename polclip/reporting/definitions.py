"""What was written about the targets: how much of it could be used, what it cost, and a few definitions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from polclip.files import read_json, read_json_lines
from polclip.records import TextualInstance, VisualInstance, read_records
from polclip.reporting.gallery import seeded_hash
from polclip.reporting.inputs import ReportSettings
from polclip.reporting.tables import is_visual

SOURCES = {
    "openai": "a language model, which is asked about each target in its context",
    "wordnet": "WordNet: the gloss that shares the most words with the context",
    "released": "the definitions that came with the paper's corpora",
}
# Why an instance has no definition, as the page says it.
FLAGS = {
    "refused": "Refused",
    "empty": "Empty",
    "overlong": "Overlong",
    "several": "Several definitions",
    "unreadable": "Unreadable",
    "wrong_language": "Wrong language",
    "unknown_word": "Word unknown",
    "no_overlap": "No gloss fits",
    "not_english": "Not English",
    "not_released": "Not released",
}
EACH = 2  # examples of a corpus with and without a definition
LONGEST = 200  # characters shown of an answer that was not used


@dataclass(frozen=True)
class DefinedExample:
    """A target in its context with its definition; or with the flag that says why it has none, and the answer."""

    corpus: str
    before: str
    target: str
    after: str
    definition: str | None
    flag: str | None
    answer: str


def definitions_section(
    settings: ReportSettings, costs: Sequence[str | Path], definitions: Mapping[str | Path, str | Path]
) -> dict:
    """What the page shows of definitions; no rows where no instance is asked with one.

    costs: `definitions/{corpus}.{split}.cost.json`. definitions: a file of instances to that of its definitions.
    """
    rows = [row for row in map(read_json, costs) if row.get("source", "none") != "none"]
    found = {flag for row in rows for flag, count in row["flags"].items() if count}
    flags = [*(flag for flag in FLAGS if flag in found), *sorted(found - set(FLAGS))]
    examples = [example for path in definitions for example in _examples(path, definitions[path], settings.seed)]
    return {
        "definitions": rows,
        "definition_lead": lead(rows) if rows else "",
        "definition_flags": {flag: FLAGS.get(flag, flag.replace("_", " ").capitalize()) for flag in flags},
        "definition_examples": examples if rows else [],
    }


def lead(rows: Sequence[Mapping]) -> str:
    """The section in two or three sentences."""
    by = " and ".join(SOURCES.get(source, source) for source in dict.fromkeys(row["source"] for row in rows))
    instances, defined, requests = (sum(row[key] for row in rows) for key in ("instances", "defined", "requests"))
    share = f" ({100 * defined / instances:.1f} %)" if instances else ""
    said = f"Written by {by}. {defined:,} of {instances:,} instances of the dev and test sets have one{share}"
    said += "; the others are asked without." if defined < instances else "."
    if requests:
        usd = sum(row["usd"] for row in rows)
        said += f" They rest on {requests:,} answers for {usd:.2f} USD, paid in this run or in an earlier one."
    return said


def _examples(instances: str | Path, definitions: str | Path, seed: int) -> Iterator[DefinedExample]:
    """Of those with a definition and of those without, the instances with the smallest seeded hash."""
    picked = {}
    for usable in (True, False):
        lines = (line for line in read_json_lines(definitions) if (line["definition"] is not None) is usable)
        flagged = (line for line in lines if usable or line["flag"])
        for line in nsmallest(EACH, flagged, key=lambda line: seeded_hash(seed, line["instance_id"])):
            picked[line["instance_id"]] = line
    kind = VisualInstance if is_visual(instances) else TextualInstance
    asked = (x for x in read_records(instances, kind) if x.instance_id in picked) if picked else ()
    contexts = {instance.instance_id: _context(instance) for instance in asked}
    path = Path(instances)
    for instance_id, line in picked.items():
        answer = "" if line["definition"] else " ".join((line.get("text") or "").split())
        yield DefinedExample(
            f"{path.parent.name}/{path.stem}",
            *contexts[instance_id],
            line["definition"],
            line["flag"],
            answer if len(answer) <= LONGEST else answer[: LONGEST - 1] + "\u2026",
        )


def _context(instance: TextualInstance | VisualInstance) -> tuple[str, str, str]:
    """What stands before the target, the target, and what stands behind it."""
    if isinstance(instance, VisualInstance):
        start, end = instance.word_span or (len(instance.phrase), len(instance.phrase))
        return instance.phrase[:start], instance.phrase[start:end], instance.phrase[end:]
    start, end = instance.target_span
    return instance.text[:start], instance.text[start:end], instance.text[end:]
