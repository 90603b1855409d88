"""Training pictures and phrases, and visual queries with ten candidates for dev and test."""

from polclip.corpora.visual_queries import QuerySettings, build
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    outputs = dict(snakemake.output.items())
    counts = outputs.pop("counts")
    build(
        Inventory.read(snakemake.input.senses, snakemake.input.synsets),
        snakemake.input.pictures,
        outputs,
        counts,
        QuerySettings(**snakemake.params.settings),
    )
