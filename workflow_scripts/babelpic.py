"""The pictures of BabelPic, unpacked and tied to WordNet's synsets."""

from polclip.corpora.babelpic import build
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    outputs = dict(snakemake.output.items())
    counts = outputs.pop("counts")
    inventory = Inventory.read(snakemake.input.senses, snakemake.input.synsets)
    build(inventory, snakemake.input.archive, outputs, counts)
