"""Each distinct text that any later step asks the text encoder for."""

from polclip.corpora.texts import class_synsets, collect
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given = snakemake.input
    collect(
        snakemake.output.texts,
        Inventory.read(given.senses, given.synsets),
        textual=given.textual,
        visual=given.visual,
        phrases=given.phrases,
        definitions=dict(zip(given.defined, given.definitions, strict=True)),
        forms=snakemake.params.forms,
        captions=given.captions,
        classes=class_synsets(given.classes) if given.classes else (),
        context_words=snakemake.params.context_words,
    )
