"""The queries of the visual task: train and trial in English, test in three languages."""

from polclip.corpora.vwsd import build
from polclip.files import write_json
from polclip.records import Picture, read_records
from polclip.rule_log import rule_log

with rule_log(snakemake):
    at_hand = {picture.picture_id for picture in read_records(snakemake.input.pictures, Picture)}
    policy = snakemake.params.missing_pictures
    counts = {
        split: build(snakemake.input.train, split, "en", snakemake.output[split], at_hand, policy)
        for split in ("train", "trial")
    } | {
        f"vwsd_{language}": build(snakemake.input.test, "test", language, snakemake.output[language], at_hand, policy)
        for language in ("en", "it", "fa")
    }
    write_json(snakemake.output.counts, counts)
