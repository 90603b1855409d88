"""What is to be asked about each instance of a corpus, and what that comes to by model."""

from polclip.definitions.plan import plan_definitions
from polclip.records import INSTANCES
from polclip.rule_log import rule_log

with rule_log(snakemake):
    plan_definitions(
        snakemake.input.instances,
        INSTANCES[snakemake.params.task],
        snakemake.output.requests,
        snakemake.output.plan,
        snakemake.config["definitions"],
    )
