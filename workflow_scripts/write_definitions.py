"""What the target of each visual query means, in a sentence, and what it cost."""

from polclip.definitions.write import write_definitions
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    write_definitions(
        snakemake.input.instances,
        snakemake.output.definitions,
        snakemake.output.cost,
        settings=snakemake.params.settings,
        inventory=Inventory.read(snakemake.input.senses, snakemake.input.synsets),
        released=snakemake.input.released or None,
        cache="resources/llm_cache",
    )
