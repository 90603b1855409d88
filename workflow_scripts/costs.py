"""Seconds, memory and USD by rule."""

from polclip.files import read_json
from polclip.reporting.costs import write_costs
from polclip.rule_log import rule_log

with rule_log(snakemake):
    usd = {"write_definitions": sum(read_json(path)["usd"] for path in snakemake.input.paid)}
    if snakemake.input.model:
        usd["finetune_dgpt"] = read_json(snakemake.input.model)["usd"]
    write_costs(snakemake.params.benchmarks, snakemake.output.costs, usd)
