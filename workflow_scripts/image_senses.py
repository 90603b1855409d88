"""A corpus whose senses come with pictures: its instances and phrases, and what the pictures show."""

from polclip.corpora.image_senses import build
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    outputs = dict(snakemake.output.items())
    counts = outputs.pop("counts")
    inventory = Inventory.read(snakemake.input.senses, snakemake.input.synsets)
    build(inventory, snakemake.input.metadata, outputs, counts, snakemake.wildcards.corpus)
