"""Gather the scores, test the parts against each other, count the corpora."""

from polclip.reporting.tables import write_corpora, write_scores, write_significance
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, settings, output = snakemake.input, snakemake.params, snakemake.output
    instances = dict(zip(settings.benchmarks, given.instances, strict=True))
    write_scores(given.scores, output.scores)
    write_significance(
        given.predictions, instances, settings.main, output.significance, settings.resamples, settings.seed
    )
    write_corpora(given.corpora, output.corpora)
