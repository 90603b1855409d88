"""The heads over a pair of frozen towers, trained into the stand-in for a CLIP."""

from polclip.corpora.texts import class_synsets
from polclip.devices import choose_device
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.inventory import Inventory
from polclip.rule_log import rule_log
from polclip.training.alignment import align
from polclip.training.settings import AlignmentSettings

with rule_log(snakemake):
    given = snakemake.input
    for key, files, number in (("train", given.pictures_train, 1), ("dev", given.visual_dev, 2)):
        if len(files) != number:
            raise UserError(
                f"corpora.visual.{key} names {len(files)} sets, and a pair of towers is aligned with {number}: "
                "[pictures/train] for train, [dev_style/dev, dev_words/dev] for dev; or take encoder.kind: clip."
            )
    (phrases,), (pictures,) = given.phrases, given.pictures_train
    dev_style, dev_words = given.visual_dev
    choose_device(snakemake.config["machine"]["device"], snakemake.threads, snakemake.resources.get("gpu", 0))
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
        given.textual_train,
        snakemake.params.context_words,
        AlignmentSettings(**snakemake.params.settings),
        int(snakemake.wildcards.seed),
    )
