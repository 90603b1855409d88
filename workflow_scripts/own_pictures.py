"""Pictures of one's own, copied and tied to WordNet's synsets."""

from pathlib import Path

from polclip.corpora.own_pictures import build_pictures
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, made = snakemake.input, snakemake.output
    inventory = Inventory.read(given.senses, given.synsets)
    source = Path(given.tables[0]).parent
    build_pictures(source, snakemake.wildcards.corpus, inventory, made.folder, made.pictures, made.phrases)
