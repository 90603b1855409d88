"""Where the model fails: accuracy by kinds of instance, ways of being wrong, pairs most often confused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polclip.records import Picture, TextualInstance, VisualInstance
from polclip.reporting.outcomes import FIRST, LATER, PARTS, Learned, Tally, answered, candidates_bin, is_right, reasons

BY_POS = "By part of speech"
BY_CANDIDATES = "By number of candidates"
BY_ORDER = "By WordNet's order of the gold sense"
BY_STYLE = "By style of the gold picture"
BY_RIVALS = "By rivals among the candidates"


@dataclass
class Failures:
    """One benchmark, one experiment, all seeds.

    reasons: ways of wrong answers, each answer in one. against: what stood against the right one, several an answer.
    confusions: (gold, answer) ids.
    """

    benchmark: str
    task: str
    tables: dict[str, dict[str, Tally]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    against: Counter[str] = field(default_factory=Counter)
    confusions: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, table: str, label: str, instance_id: str, right: bool) -> None:
        self.tables.setdefault(table, {}).setdefault(label, Tally()).add(instance_id, right)

    def add_wrong(self, why: Sequence[str]) -> None:
        """The way of a wrong answer, then what stood against a right one."""
        self.reasons[why[0]] += 1
        self.against.update(why[1:])

    def ordered(self) -> list[tuple[str, list[tuple[str, Tally]]]]:
        """The tables with several rows, these as in WordNet, by number, or the largest first."""

        def largest_first(row: tuple[str, Tally]) -> tuple:
            return -row[1].n, row[0]

        orders = {
            BY_ORDER: lambda row: row[0] != FIRST,
            BY_POS: lambda row: [*PARTS.values(), row[0]].index(row[0]),
            BY_CANDIDATES: lambda row: int(row[0].split("\u2013")[0].removeprefix("over ")),
        }
        return [
            (title, sorted(rows.items(), key=orders.get(title, largest_first)))
            for title, rows in self.tables.items()
            if len(rows) > 1
        ]

    def top_confusions(self, count: int) -> list[tuple[str, str, int]]:
        ranked = sorted(self.confusions.items(), key=lambda item: (-item[1], item[0]))
        return [(gold, answer, times) for (gold, answer), times in ranked[:count]]


def textual_failures(
    benchmark: str, path: str | Path, seeds: Sequence[Mapping[str, str | None]], learned: Learned
) -> Failures:
    failures = Failures(benchmark, "textual")
    for instance, answers in answered(path, TextualInstance, seeds):
        first = instance.first_sense in instance.gold
        for answer in answers:
            right = is_right(instance, answer)
            key = instance.instance_id
            failures.add(BY_POS, PARTS.get(instance.pos, instance.pos), key, right)
            failures.add(BY_CANDIDATES, candidates_bin(len(instance.candidates)), key, right)
            if instance.by_frequency:
                failures.add(BY_ORDER, FIRST if first else LATER, key, right)
            if not right:
                failures.add_wrong(reasons(instance, answer, learned, {}))
                if answer is not None and instance.gold:
                    failures.confusions[instance.gold[0], answer] += 1
    return failures


def visual_failures(
    benchmark: str,
    path: str | Path,
    seeds: Sequence[Mapping[str, str | None]],
    learned: Learned,
    pictures: Mapping[str, Picture],
) -> Failures:
    """As above; `confusions` counts concepts (`concept_of`), so a pair can come from several styles."""
    failures = Failures(benchmark, "visual")
    for instance, answers in answered(path, VisualInstance, seeds):
        gold = pictures.get(instance.gold)
        for answer in answers:
            right = is_right(instance, answer)
            key = instance.instance_id
            failures.add(BY_STYLE, gold.style if gold else "unknown", key, right)
            rivals = "with another sense of the word" if instance.rivals else "other concepts only"
            failures.add(BY_RIVALS, rivals, key, right)
            if not right:
                failures.add_wrong(reasons(instance, answer, learned, pictures))
                if answer is not None:
                    failures.confusions[concept_of(instance.gold, pictures), concept_of(answer, pictures)] += 1
    return failures


def concept_of(picture_id: str, pictures: Mapping[str, Picture]) -> str:
    """The name of a picture, or its id where the picture is not in the tables."""
    picture = pictures.get(picture_id)
    return picture.name if picture else picture_id
