"""The queries of the visual task, a file a split and language."""

from pathlib import Path

from polclip.corpora.vwsd import build
from polclip.files import write_json
from polclip.records import Picture, read_records
from polclip.rule_log import rule_log

with rule_log(snakemake):
    at_hand = {picture.picture_id for picture in read_records(snakemake.input.pictures, Picture)}
    counts = {}
    for (split, language), path in zip(snakemake.params.sets, snakemake.output.instances, strict=True):
        policy = snakemake.params.missing_pictures
        counts[Path(path).stem] = build(snakemake.input.archive, split, language, path, at_hand, policy)
    write_json(snakemake.output.counts, counts)
