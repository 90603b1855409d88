"""The heads over a pair of frozen towers, trained into the stand-in for a CLIP."""

from polclip.corpora.texts import class_synsets
from polclip.devices import choose_device
from polclip.encoders.feature_store import FeatureStore
from polclip.inventory import Inventory
from polclip.rule_log import rule_log
from polclip.training.alignment import align
from polclip.training.settings import AlignmentSettings

with rule_log(snakemake):
    given = snakemake.input
    choose_device("cpu", snakemake.threads)  # which the small heads need no GPU for
    align(
        snakemake.output.folder,
        Inventory.read(given.senses, given.synsets),
        FeatureStore(given.text_features),
        FeatureStore(given.picture_features),
        class_synsets(given.classes),
        given.phrases,
        given.pictures_train,
        given.visual_dev,
        snakemake.params.forms,
        given.textual_train,
        snakemake.params.context_words,
        AlignmentSettings(**snakemake.params.settings),
        int(snakemake.wildcards.seed),
    )
