"""What others have published on the same benchmarks, to stand beside the scores of a run."""

from dataclasses import dataclass
from importlib.resources import files

from polclip.reporting.summary import ScoreTable


@dataclass(frozen=True)
class PublishedSystem:
    name: str
    trained_on: str
    sources: list[str]
    values: dict[tuple[str, str], float]  # (benchmark, metric) -> 0 to 100


def published_systems(table: ScoreTable) -> list[PublishedSystem]:
    """Those of `published.tsv` that have a figure for a column of the table, in the file's order."""
    lines = files("polclip.reporting").joinpath("published.tsv").read_text(encoding="utf-8").splitlines()
    header, *rows = (line.split("\t") for line in lines)
    systems: dict[str, PublishedSystem] = {}
    for row in rows:
        one = dict(zip(header, row, strict=True))
        column = (one["benchmark"], one["metric"])
        if one["task"] == table.task and column in table.columns:
            system = systems.setdefault(one["system"], PublishedSystem(one["system"], one["trained_on"], [], {}))
            system.values[column] = float(one["value"])
            if one["source"] not in system.sources:
                system.sources.append(one["source"])
    return list(systems.values())
