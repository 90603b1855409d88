"""Sentences of one's own as instances."""

from polclip.corpora.own_texts import build
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    inventory = Inventory.read(snakemake.input.senses, snakemake.input.synsets)
    build(snakemake.input.texts[0], snakemake.wildcards.corpus, inventory, snakemake.output.instances)
