"""What the target of each instance means, in a sentence, and what it cost."""

from polclip.definitions.write import write_definitions
from polclip.inventory import Inventory
from polclip.records import INSTANCES
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, settings = snakemake.input, snakemake.config["definitions"]
    write_definitions(
        given.instances,
        INSTANCES[snakemake.params.task],
        snakemake.output.definitions,
        snakemake.output.cost,
        settings,
        inventory=Inventory.read(given.senses, given.synsets) if settings["source"] == "wordnet" else None,
        released=given.released or None,
        requests=given.requests or None,
        model=given.model or None,
        cache="resources/llm_cache",
        run=snakemake.config["name"],
    )
