"""Seconds, memory and USD by rule."""

from polclip.files import read_json
from polclip.reporting.costs import write_costs
from polclip.rule_log import rule_log

with rule_log(snakemake):
    usd = sum(read_json(path)["usd"] for path in snakemake.input.paid)
    write_costs(snakemake.params.benchmarks, snakemake.output.costs, {"write_definitions": usd})
