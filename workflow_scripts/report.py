"""Write the report page."""

from polclip.reporting.inputs import ReportInputs, ReportSettings
from polclip.reporting.page import write_report
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given, settings = snakemake.input, snakemake.params
    inputs = ReportInputs(
        scores=given.scores,
        significance=given.significance,
        corpora=given.corpora,
        costs=given.costs,
        provenance=given.provenance,
        metrics=given.get("metrics", []),
        predictions=given.predictions,
        instances=dict(zip(settings.benchmarks, given.instances, strict=True)),
        pictures=given.get("pictures", []),
        senses=given.senses,
        synsets=given.synsets,
        definition_costs=given.definition_costs,
        definitions=dict(zip(given.defined, given.definitions, strict=True)),
        sentences_trained_on=given.textual_train,
        pictures_trained_on=given.visual_train,
    )
    what = ReportSettings(name=settings.name, main=settings.main, baselines=settings.baselines)
    write_report(what, inputs, snakemake.output.page, snakemake.output.figures)
