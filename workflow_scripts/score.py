"""The scores of one experiment with one seed, a file a benchmark."""

from polclip.evaluation.scores import score_predictions
from polclip.files import write_json
from polclip.rule_log import rule_log

with rule_log(snakemake):
    for task, benchmark, instances, predictions, scores in zip(
        snakemake.params.tasks,
        snakemake.params.benchmarks,
        snakemake.input.instances,
        snakemake.input.predictions,
        snakemake.output.scores,
        strict=True,
    ):
        rows = score_predictions(
            task,
            benchmark,
            instances,
            predictions,
            experiment=snakemake.wildcards.experiment,
            seed=int(snakemake.wildcards.seed),
            resamples=snakemake.params.evaluation["resamples"],
            bootstrap_seed=snakemake.params.evaluation["seed"],
        )
        write_json(scores, rows)
