"""Seconds, memory and USD by rule."""

from pathlib import Path

from polclip.files import read_json
from polclip.reporting.costs import write_costs
from polclip.rule_log import rule_log

with rule_log(snakemake):
    usd = {"write_definitions": sum(read_json(path)["usd"] for path in snakemake.input.paid)}
    if snakemake.input.model:
        usd["finetune_dgpt"] = read_json(snakemake.input.model)["usd"]
    # Beside the outputs also where those are in a bucket: there what this machine measured.
    write_costs(Path(snakemake.output.costs).with_name("benchmarks"), snakemake.output.costs, usd)
