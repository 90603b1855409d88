"""SemCor's tag files as a textual corpus."""

from polclip.corpora.semcor_tags import build
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, out = snakemake.input, snakemake.output
    inventory = Inventory.read(given.senses, given.synsets)
    write_json(out.counts, build(given.archive, inventory, out.train, out.dev, snakemake.params.dev_fraction))
