"""The sets of an archive in the unified framework's XML, one file each."""

from polclip.corpora.unified_wsd import build
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    inventory = Inventory.read(snakemake.input.senses, snakemake.input.synsets)
    counts = {
        name: build(snakemake.input.archive, name, inventory, path)
        for name, path in zip(snakemake.params.sets, snakemake.output.instances, strict=True)
    }
    write_json(snakemake.output.counts, counts)
