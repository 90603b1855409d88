"""A trained model's ranking of every candidate of every benchmark."""

from pathlib import Path

from polclip.devices import choose_device
from polclip.encoders.feature_store import FeatureStore
from polclip.evaluation.predict import predict
from polclip.evaluation.prediction_files import write_official
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, tasks = snakemake.input, snakemake.params.tasks
    predict(
        Path(given.model).parent,
        Inventory.read(given.senses, given.synsets),
        FeatureStore(given.text_features),
        FeatureStore(given.picture_features),
        tasks=tasks,
        instances=given.instances,
        predictions=snakemake.output.predictions,
        definitions=dict(zip(given.defined, given.definitions, strict=True)),
        forms=snakemake.params.forms,
        context_words=snakemake.params.context_words,
        device=choose_device(
            snakemake.config["machine"]["device"], snakemake.threads, snakemake.resources.get("gpu", 0)
        ),
    )
    for task, benchmark, instances, predictions in zip(
        tasks, snakemake.params.benchmarks, given.instances, snakemake.output.predictions, strict=True
    ):
        write_official(task, benchmark, instances, predictions, Path(predictions).parent)
