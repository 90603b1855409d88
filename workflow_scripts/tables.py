"""Gather the scores, and test the parts against each other."""

from polclip.reporting.tables import write_scores, write_significance
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, settings, output = snakemake.input, snakemake.params, snakemake.output
    instances = dict(zip(settings.benchmarks, given.instances, strict=True))
    write_scores(given.scores, output.scores)
    write_significance(
        given.predictions, instances, settings.main, output.significance, settings.resamples, settings.seed
    )
