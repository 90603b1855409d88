"""Paths inside the results of a run that both the rules and the commands need: rules write there, commands read there.

The patterns are Snakemake's, with its wildcards, and start from the folder of the results, such as results/demo.
"""

from pathlib import Path

PICTURE_FEATURES = "embeddings/pictures/{style}/shard-{shard}"
RENDERED_PICTURES = "pictures/{style}.parquet"  # table of a drawing style
CORPUS_PICTURES = "corpora/{style}/pictures.parquet"  # table of pictures that come with a corpus


def picture_features(results: Path) -> dict[str, list[Path]]:
    """The finished shards of stored features of each picture set."""
    found: dict[str, list[Path]] = {}
    pattern = PICTURE_FEATURES.format(style="*", shard="*")
    for index in sorted(results.glob(f"{pattern}/index.parquet")):
        found.setdefault(index.parent.parent.name, []).append(index.parent)
    return found


def picture_table(results: Path, style: str) -> Path:
    """The table of a picture set, as far as the run has written it: one of the two patterns."""
    tables = [results / pattern.format(style=style) for pattern in (RENDERED_PICTURES, CORPUS_PICTURES)]
    return next(filter(Path.exists, tables), tables[0])


def has_pictures(results: Path) -> bool:
    """Whether a run rendered or unpacked pictures, embedded or not."""
    tables = (RENDERED_PICTURES, CORPUS_PICTURES)
    return any(any(results.glob(table.format(style="*"))) for table in tables)
