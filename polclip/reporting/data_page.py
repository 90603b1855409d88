"""The page of the data: what the corpora of a run hold, drawn and counted, before anything is trained."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from polclip.files import write_table, write_text
from polclip.reporting import figures
from polclip.reporting.corpus_statistics import CORPORA_COLUMNS, CorpusStatistics, mean, quantile
from polclip.reporting.templating import render

# Ranges of the figures: the lower ends, the last one open.
CANDIDATES = (0, 1, 2, 3, 5, 7, 11, 21)
TOKENS = (1, 10, 20, 30, 40, 60, 80)
WORDS = (1, 2, 3, 4, 5, 7)
PICTURES = (1, 2, 3, 5, 10, 20, 50)
PARTS = {"all": "all", "n": "nouns", "v": "verbs", "a": "adjectives", "r": "adverbs"}


def write_data_page(
    name: str, statistics: CorpusStatistics, page: str | Path, table: str | Path, corpora: str | Path
) -> None:
    """Write the page, self-contained, its numbers as a table (corpus, split, statistic, value), and `corpora_table`."""
    write_text(
        page,
        render(
            {
                "name": name,
                "statistics": statistics,
                "mean": mean,
                "quantile": quantile,
                "parts": PARTS,
                "panels": panels(statistics),
            },
            "data.html.j2",
        ),
    )
    write_table(table, statistics_table(statistics))
    write_table(corpora, corpora_table(statistics))


def panels(statistics: CorpusStatistics) -> dict[str, list[Markup]]:
    """The figures of each section."""

    def drawn(rows: Sequence, attribute: str, lower: Sequence[int], title: str) -> list[Markup]:
        return [
            figures.shares(in_ranges(getattr(row, attribute), lower), f"{row.corpus} · {row.split}", title)
            for row in rows
        ]

    return {
        "candidates": drawn(statistics.textual, "candidates", CANDIDATES, "candidate senses"),
        "lengths": drawn(statistics.textual, "lengths", TOKENS, "tokens of a sentence"),
        "phrases": drawn(statistics.visual, "lengths", WORDS, "words of a phrase"),
        "per_sense": drawn(statistics.pictures, "per_sense", PICTURES, "pictures of a sense"),
    }


def in_ranges(distribution: Counter[int], lower: Sequence[int]) -> dict[str, float]:
    """Percent of the items in each range, by its name: "1", or "21+" for the last."""
    ends = [*(bound - 1 for bound in lower[1:]), None]
    shares = {}
    for start, end in zip(lower, ends, strict=True):
        inside = sum(times for value, times in distribution.items() if value >= start and (end is None or value <= end))
        label = f"{start}+" if end is None else str(start) if start == end else f"{start}\u2013{end}"
        shares[label] = 100 * inside / max(1, distribution.total())
    return shares


def corpora_table(statistics: CorpusStatistics) -> pd.DataFrame:
    """A row a corpus and split, of the columns `CORPORA_COLUMNS`: sentences or phrases, and what it holds of each."""
    rows = [
        (row.corpus, row.split, row.lengths.total(), row.instances, round(mean(row.candidates), 2), row.gold_missing, 0)
        for row in statistics.textual
    ]
    rows += [(row.corpus, row.split, 0, 0, 0.0, 0, row.pictures) for row in statistics.pictures]
    rows += [
        (
            *(row.corpus, row.split, row.lengths.total(), row.instances, round(mean(row.candidates), 2)),
            *(row.gold_missing, row.pictures),
        )
        for row in statistics.visual
    ]
    return pd.DataFrame(rows, columns=CORPORA_COLUMNS)


def statistics_table(statistics: CorpusStatistics) -> pd.DataFrame:
    """One number a row, for those who go on computing."""
    rows = []
    for kind in (statistics.textual, statistics.visual, statistics.pictures):
        for corpus in kind:
            for key, value in vars(corpus).items():
                if isinstance(value, int):
                    rows.append((corpus.corpus, corpus.split, key, value))
                elif isinstance(value, Counter) and all(isinstance(item, int) for item in value):
                    rows.append((corpus.corpus, corpus.split, f"{key}_mean", round(mean(value), 3)))
                    rows.append((corpus.corpus, corpus.split, f"{key}_max", max(value, default=0)))
                elif isinstance(value, Counter):
                    rows += [(corpus.corpus, corpus.split, f"{key}_{item}", times) for item, times in value.items()]
    for part in statistics.coverage:
        counts = {"synsets": part.synsets, "in_text": part.in_text, "in_pictures": part.in_pictures}
        rows += [("inventory", part.part, key, value) for key, value in (counts | {"in_both": part.in_both}).items()]
    return pd.DataFrame(rows, columns=["corpus", "split", "statistic", "value"], dtype=object)  # counts stay whole
