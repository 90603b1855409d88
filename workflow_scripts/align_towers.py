"""The heads over the frozen towers: trained for a pair, copied of a CLIP."""

from polclip.corpora.texts import class_synsets
from polclip.devices import choose_device
from polclip.encoders.feature_store import FeatureStore
from polclip.inventory import Inventory
from polclip.rule_log import rule_log
from polclip.training.alignment import AlignmentSettings, align, copy_clip_heads

with rule_log(snakemake):
    given, encoder = snakemake.input, snakemake.params.encoder
    choose_device(snakemake.config["machine"]["device"], snakemake.threads)
    if encoder["kind"] == "clip":
        copy_clip_heads(snakemake.output.folder, encoder["clip_architecture"], given.weights)
    else:
        (phrases,), (pictures,) = given.phrases, given.pictures_train
        dev_style, dev_words = given.visual_dev
        align(
            snakemake.output.folder,
            Inventory.read(given.senses, given.synsets),
            FeatureStore(given.text_features),
            FeatureStore(given.picture_features),
            class_synsets(given.classes),
            phrases,
            pictures,
            dev_style,
            dev_words,
            snakemake.params.forms,
            AlignmentSettings(**snakemake.params.settings),
            int(snakemake.wildcards.seed),
        )
