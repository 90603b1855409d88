"""The sets of XL-WSD that the settings name, one file each."""

from polclip.corpora.xl_wsd import build
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    wordnet = Inventory.read(snakemake.input.senses, snakemake.input.synsets)
    counts = {
        split: build(snakemake.input.archive, split, path, wordnet)
        for split, path in zip(snakemake.params.splits, snakemake.output.instances, strict=True)
    }
    write_json(snakemake.output.counts, counts)
