"""The pictures of one drawing style."""

from polclip.corpora.picture_sets import Style, render_style
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    skipped = render_style(
        Style(name=snakemake.wildcards.style, **snakemake.params.style),
        snakemake.input.archive,
        Inventory.read(snakemake.input.senses, snakemake.input.synsets),
        snakemake.output.folder,
        snakemake.output.table,
        size=snakemake.params.settings["size"],
        per_synset=snakemake.params.settings["max_per_synset"],
    )
    write_json(snakemake.output.skipped, skipped)
