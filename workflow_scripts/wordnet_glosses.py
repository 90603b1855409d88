"""Words of WordNet's glosses whose sense its pointers tell, as a textual corpus."""

from polclip.corpora.wordnet_glosses import build
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    counts = build(
        Inventory.read(snakemake.input.senses, snakemake.input.synsets),
        snakemake.output.train,
        **snakemake.params.settings,
    )
    write_json(snakemake.output.counts, counts)
