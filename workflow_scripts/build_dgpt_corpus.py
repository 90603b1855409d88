"""Chat lines to fine-tune a language model on, of the training corpora alone."""

from polclip.definitions.dgpt_corpus import build_dgpt_corpus
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given = snakemake.input
    build_dgpt_corpus(
        given.train,
        given.textual,
        given.visual,
        Inventory.read(given.senses, given.synsets),
        snakemake.output.corpus,
        snakemake.output.about,
        snakemake.config["definitions"],
    )
