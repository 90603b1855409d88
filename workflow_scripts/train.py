"""One experiment with one seed."""

from pathlib import Path

from polclip.devices import choose_device
from polclip.encoders.feature_store import FeatureStore
from polclip.inventory import Inventory
from polclip.model.polclip import ModelSettings
from polclip.rule_log import rule_log
from polclip.training.loop import TrainingSettings, train

with rule_log(snakemake):
    given = snakemake.input
    train(
        Path(snakemake.output.model).parent,
        Inventory.read(given.senses, given.synsets),
        FeatureStore(given.text_features),
        FeatureStore(given.picture_features),
        towers=given.towers,
        textual_train=given.textual_train,
        textual_dev=given.textual_dev,
        pictures_train=given.pictures_train,
        phrases=given.phrases,
        visual_dev=given.visual_dev,
        definitions=given.definitions_dev,
        forms=snakemake.params.forms,
        model=ModelSettings(**snakemake.params.model),
        settings=TrainingSettings(**snakemake.params.training),
        seed=int(snakemake.wildcards.seed),
        device=choose_device(snakemake.config["machine"]["device"], snakemake.threads),
    )
