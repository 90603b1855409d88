"""What is asked about pictures of one's own."""

from pathlib import Path

from polclip.corpora.own_pictures import build_queries
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given = snakemake.input
    inventory = Inventory.read(given.senses, given.synsets)
    source = Path(given.queries).parent
    build_queries(source, snakemake.wildcards.corpus, inventory, given.pictures, snakemake.output.instances)
