"""A baseline's ranking of every candidate of the benchmarks it knows."""

from pathlib import Path

from polclip.evaluation.baselines import predict_baseline
from polclip.evaluation.prediction_files import write_official
from polclip.inventory import Inventory
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, tasks = snakemake.input, snakemake.params.tasks
    predict_baseline(
        snakemake.params.baseline,
        Inventory.read(given.senses, given.synsets),
        tasks=tasks,
        instances=given.instances,
        predictions=snakemake.output.predictions,
        seed=int(snakemake.wildcards.seed),
        # Of zero_shot alone:
        definitions=dict(zip(given.get("defined", []), given.get("definitions", []), strict=True)),
        text_features=given.get("text_features"),
        picture_features=given.get("picture_features"),
        forms=snakemake.params.forms,
        context_words=snakemake.params.context_words,
        classes=given.get("classes") or None,
    )
    for task, benchmark, instances, predictions in zip(
        tasks, snakemake.params.benchmarks, given.instances, snakemake.output.predictions, strict=True
    ):
        write_official(task, benchmark, instances, predictions, Path(predictions).parent)
