"""Experiments against each other, instance by instance: how often each alone is right, and where.

Seeds do not mix: of each experiment its lowest seed answers.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from markupsafe import Markup

from polclip.records import Picture, TextualInstance, VisualInstance
from polclip.reporting.gallery import seeded_hash
from polclip.reporting.outcomes import Meaning, answered, is_right

MOST_ROWS = 400  # a benchmark: 100 kB of the page
CONTEXT = 160  # characters on either side of a target
GLOSS = 120


@dataclass(frozen=True)
class Pair:
    """Of one benchmark, how many instances both experiments, one or neither have right."""

    benchmark: str
    first: str
    second: str
    both: int
    only_first: int
    only_second: int
    neither: int


@dataclass(frozen=True)
class Compared:
    """One benchmark: the answers of all its experiments.

    outcomes: (right or not by experiment) -> instances, of all that every experiment has a prediction for.
    instances: those on which experiments differ, at most MOST_ROWS by a seeded hash of their ids, with their answers;
    differing: how many there are.
    """

    benchmark: str
    experiments: list[str]
    outcomes: Counter[tuple[bool, ...]]
    instances: list[tuple[TextualInstance | VisualInstance, list[str | None]]]
    differing: int

    def pairs(self, main: str) -> list[Pair]:
        """`main` against each other experiment."""
        found = []
        for place, other in enumerate(self.experiments):
            if other != main and main in self.experiments:
                of_main = self.experiments.index(main)
                both = Counter()
                for right, times in self.outcomes.items():
                    both[right[of_main], right[place]] += times
                counts = (both[one] for one in ((True, True), (True, False), (False, True), (False, False)))
                found.append(Pair(self.benchmark, main, other, *counts))
        return found

    def ids(self) -> set[str]:
        """Every sense key or picture id that is gold or an answer."""
        found = {answer for _, answers in self.instances for answer in answers if answer is not None}
        return found | {key for instance, _ in self.instances for key in gold_of(instance)}


def gold_of(instance: TextualInstance | VisualInstance) -> list[str]:
    return instance.gold if isinstance(instance, TextualInstance) else [instance.gold]


def compare(
    benchmark: str, path: str | Path, kind: type, answers: Mapping[str, Mapping[str, str | None]], seed: int
) -> Compared:
    """answers: experiment -> instance id -> what it ranks first; instances that one of them lacks are left out."""
    outcomes: Counter[tuple[bool, ...]] = Counter()
    kept: list[tuple[str, TextualInstance | VisualInstance, list[str | None]]] = []
    differing = 0
    for instance, said in answered(path, kind, list(answers.values())):
        if len(said) < len(answers):
            continue
        right = tuple(is_right(instance, answer) for answer in said)
        outcomes[right] += 1
        if len(set(right)) > 1:
            differing += 1
            kept.append((seeded_hash(seed, instance.instance_id), instance, said))
            if len(kept) > 4 * MOST_ROWS:
                kept = nsmallest(MOST_ROWS, kept, key=lambda one: one[0])
    chosen = nsmallest(MOST_ROWS, kept, key=lambda one: one[0])
    return Compared(benchmark, list(answers), outcomes, [one[1:] for one in chosen], differing)


def as_json(compared: Sequence[Compared], known: Mapping[str, Meaning], pictures: Mapping[str, Picture]) -> Markup:
    """What the page's script shows, to stand inside a script element."""
    data = {}
    for one in compared:
        place: dict[str, int] = {}
        rows = []
        for instance, answers in one.instances:
            before, target, after = in_context(instance)
            gold = [place.setdefault(key, len(place)) for key in gold_of(instance)]
            said = [None if answer is None else place.setdefault(answer, len(place)) for answer in answers]
            rows.append({"before": before, "target": target, "after": after, "gold": gold, "answers": said})
        data[one.benchmark] = {
            "experiments": one.experiments,
            "n": one.outcomes.total(),
            "told": one.differing,
            "labels": [label(key, known, pictures) for key in place],
            "rows": rows,
        }
    return Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def in_context(instance: TextualInstance | VisualInstance) -> tuple[str, str, str]:
    """What is before the target, the target, what is behind it; of a visual query the phrase around the word."""
    if isinstance(instance, VisualInstance):
        if instance.word_span is None:
            return f"{instance.phrase} (", instance.word, ")"
        start, end = instance.word_span
        return instance.phrase[:start], instance.phrase[start:end], instance.phrase[end:]
    start, end = instance.target_span
    before, after = instance.text[:start], instance.text[end:]
    if len(before) > CONTEXT:
        before = "… " + before[-CONTEXT:].partition(" ")[2]
    return before, instance.text[start:end], clipped(after, CONTEXT)


def label(key: str, known: Mapping[str, Meaning], pictures: Mapping[str, Picture]) -> tuple[str, str, str]:
    """A sense: its lemma, gloss and key; a picture: its name, style and id."""
    if key in known:
        return known[key].lemma, clipped(known[key].gloss, GLOSS), key
    picture = pictures.get(key)
    return (picture.name, picture.style, key) if picture else ("", "", key)


def clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most].rpartition(" ")[0] + " …"
