"""The pictures of a corpus whose senses come with pictures, unpacked and tied to their senses."""

from polclip.corpora.image_senses import build_pictures
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, output = snakemake.input, snakemake.output
    corpus = snakemake.wildcards.corpus
    build_pictures(given.shown, given.images, output.folder, output.pictures, output.skipped, corpus)
