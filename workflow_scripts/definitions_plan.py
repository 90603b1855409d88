"""What all definitions of the run would cost, by corpus and model."""

from polclip.definitions.plan import write_plan_table
from polclip.rule_log import rule_log

with rule_log(snakemake):
    print(write_plan_table(snakemake.input.plans, snakemake.output.table, snakemake.output.said))
