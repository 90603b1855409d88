"""One table of what each part is worth."""

from polclip.reporting.tables import write_ablations
from polclip.rule_log import rule_log

with rule_log(snakemake):
    write_ablations(snakemake.input.scores, snakemake.params.main, snakemake.output.table)
