"""SemCor's tag files as a textual corpus."""

from polclip.corpora.semcor_tags import build
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    inventory = Inventory.read(snakemake.input.senses, snakemake.input.synsets)
    write_json(snakemake.output.counts, build(snakemake.input.archive, inventory, snakemake.output.train))
