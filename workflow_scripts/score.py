"""The scores of one experiment with one seed, a file a benchmark."""

from polclip.evaluation.scores import score_predictions
from polclip.evaluation.subsets import CORRECTED, read_instance_ids, read_training_senses
from polclip.files import write_json
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, settings = snakemake.input, snakemake.params
    instances = dict(zip(settings.benchmarks, given.instances, strict=True))
    predictions = dict(zip(settings.benchmarks, given.predictions, strict=True))
    tasks = dict(zip(settings.benchmarks, settings.tasks, strict=True))
    training = read_training_senses(given.train)
    parts = {name: [name] for name in settings.benchmarks} | dict(settings.together)
    for (benchmark, members), scores in zip(parts.items(), snakemake.output.scores, strict=True):
        corrected = instances.get(CORRECTED.get(benchmark))
        rows = score_predictions(
            tasks[members[0]],
            benchmark,
            [instances[name] for name in members],
            [predictions[name] for name in members],
            experiment=snakemake.wildcards.experiment,
            seed=int(snakemake.wildcards.seed),
            resamples=settings.evaluation["resamples"],
            bootstrap_seed=settings.evaluation["seed"],
            training=training,
            corrected=read_instance_ids(corrected) if corrected else (),
        )
        write_json(scores, rows)
