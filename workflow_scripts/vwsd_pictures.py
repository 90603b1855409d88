"""The pictures of the visual task, unpacked and listed."""

from polclip.corpora.vwsd import unpack_pictures
from polclip.rule_log import rule_log

with rule_log(snakemake):
    unpack_pictures(
        {"train": snakemake.input.train, "trial": snakemake.input.train, "test": snakemake.input.test},
        snakemake.output.folder,
        snakemake.output.table,
    )
