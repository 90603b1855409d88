# PolCLIP, from archives to a report. Settings: config.yaml, a preset over it (--configfile presets/demo.yaml).
# A step is a rule, its script and its log folder by one name; rules/ are included in the order of the data.


report: "rules/report/workflow.rst"


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/prepare.smk"
include: "rules/pictures.smk"
include: "rules/own.smk"
include: "rules/dgpt.smk"
include: "rules/definitions.smk"
include: "rules/embed.smk"
include: "rules/train.smk"
include: "rules/index.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


localrules:
    all,
    datasets,
    corpora,
    definitions,
    embeddings,
    models,
    predictions,
    scores,


# Named targets; `inventory`, `report`, `data_page`, `ablations` and `check_setup` are rules of their own.
rule all:
    default_target: True
    input:
        score_files(),
        rules.report.output,
        rules.data_page.output,


rule datasets:
    input:
        [archive(name) for name in DATASETS],


rule corpora:
    input:
        [instance_files(task, "train", "dev", "test") for task in ("textual", "visual")],


rule definitions:
    input:
        definition_files("dev", "test"),


rule embeddings:
    input:
        TEXT_FEATURES + PICTURE_FEATURES,


rule models:
    input:
        trained_files("model.safetensors"),


rule predictions:
    input:
        prediction_files(),


rule scores:
    input:
        score_files(),
