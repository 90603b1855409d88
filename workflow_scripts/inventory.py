"""WordNet as two tables."""

from polclip.inventory import build_inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    build_inventory(
        snakemake.input.archive,
        snakemake.output.senses,
        snakemake.output.synsets,
        counts=(snakemake.params.synsets, snakemake.params.senses),
        mapping=snakemake.input.get("mapping") or None,
    )
