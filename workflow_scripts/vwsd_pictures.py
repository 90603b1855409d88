"""The pictures of the visual task, unpacked and listed."""

from polclip.corpora.vwsd import unpack_pictures
from polclip.rule_log import rule_log

with rule_log(snakemake):
    archives = dict.fromkeys(snakemake.params.splits, snakemake.input.archive)
    unpack_pictures(archives, snakemake.output.folder, snakemake.output.table)
