"""A corpus whose senses come with pictures: instances, phrases, and its pictures unpacked."""

from polclip.corpora.image_senses import build
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    metadata, images = snakemake.input.archives
    outputs = dict(snakemake.output.items())
    counts = outputs.pop("counts")
    build(
        Inventory.read(snakemake.input.senses, snakemake.input.synsets),
        metadata,
        images,
        outputs,
        counts,
        snakemake.wildcards.corpus,
    )
