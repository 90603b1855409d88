# Tables, what it cost, what it came from, and the page.


# What the corpora hold: needs no model, so that it can be looked at before one is trained.
rule data_page:
    input:
        **INVENTORY,
        **{
            f"{task}_{side}": instance_files(task, side)
            for task in ("textual", "visual")
            for side in ("train", "dev", "test")
        },
        pictures=[picture_table(style) for style in PICTURE_SETS],
    output:
        page=report(result("report/data.html"), caption="report/data_page.rst", category="Pages"),
        table=report(
            result("tables/statistics.tsv"), caption="report/data_page.rst", category="Tables"
        ),
        corpora=report(
            result("tables/corpora.tsv"), caption="report/corpora.rst", category="Tables"
        ),
    log:
        result("logs/data_page/data_page.log"),
    benchmark:
        result("benchmarks/data_page/data_page.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        name=config["name"],
        code=code_of("data_page", files=package_files("reporting/templates")),
    script:
        "../workflow_scripts/data_page.py"


rule tables:
    input:
        scores=score_files(),
        predictions=prediction_files(),
        instances=TEST_FILES,
    output:
        scores=report(result("tables/scores.tsv"), caption="report/scores.rst", category="Tables"),
        significance=report(
            result("tables/significance.tsv"), caption="report/significance.rst", category="Tables"
        ),
    log:
        result("logs/tables/tables.log"),
    benchmark:
        result("benchmarks/tables/tables.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        benchmarks=BENCHMARKS,
        main=MAIN,
        resamples=config["evaluation"]["resamples"],
        seed=config["evaluation"]["seed"],
        code=code_of("tables"),
    script:
        "../workflow_scripts/tables.py"


# The benchmark files of all jobs are beside the outputs and not among them: the tables stand for all that ran.
rule costs:
    input:
        tables=[*rules.tables.output, *rules.data_page.output],
        paid=definition_costs(),
        model=rules.finetune_dgpt.output.model if FINE_TUNES else [],
    output:
        costs=report(result("costs.json"), caption="report/costs.rst", category="Run"),
    log:
        result("logs/costs/costs.log"),
    benchmark:
        result("benchmarks/costs/costs.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(5),
    params:
        code=code_of("costs"),
    script:
        "../workflow_scripts/costs.py"


rule provenance:
    input:
        tables=rules.tables.output,
        archives=[archive(name) for name in DATASETS],
        rendered=expand(result("pictures/{style}.skipped.json"), style=STYLES),
        unpacked=expand(result("pictures/{style}.skipped.json"), style=used(*IMAGE_SENSES)),
        embedded=[f"{folder}.skipped.json" for folder in PICTURE_FEATURES if ENCODES],
        counts=[result(f"corpora/{corpus}/counts.json") for corpus in COUNTED_CORPORA],
    output:
        provenance=result("provenance.json"),
    log:
        result("logs/provenance/provenance.log"),
    benchmark:
        result("benchmarks/provenance/provenance.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(5),
    params:
        config=config,
        datasets=DATASETS,
        code=code_of("provenance"),
    script:
        "../workflow_scripts/provenance.py"


rule report:
    input:
        **INVENTORY,
        scores=rules.tables.output.scores,
        significance=rules.tables.output.significance,
        corpora=rules.data_page.output.corpora,
        costs=rules.costs.output.costs,
        provenance=rules.provenance.output.provenance,
        metrics=trained_files("metrics.jsonl"),
        predictions=prediction_files(),
        instances=TEST_FILES,
        pictures=[picture_table(style) for style in PICTURE_SETS],
        # Those that the page shows: where files are in a bucket they have to be fetched.
        folders=[result(f"pictures/{style}") for style in STYLES + used("vwsd", "vwsd_train")],
        definition_costs=definition_costs(),
        defined=defined_files("dev", "test"),
        definitions=definition_files("dev", "test"),
        textual_train=instance_files("textual", "train"),
        visual_train=instance_files("visual", "train"),
    output:
        page=report(result("report/index.html"), caption="report/page.rst", category="Pages"),
        figures=report(
            directory(result("report/figures")),
            patterns=["{figure}.svg"],
            caption="report/figures.rst",
            category="Figures",
        ),
    log:
        result("logs/report/report.log"),
    benchmark:
        result("benchmarks/report/report.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        name=config["name"],
        main=MAIN,
        benchmarks=BENCHMARKS,
        baselines=TEXTUAL_BASELINES + OTHER_BASELINES,
        code=code_of(
            "report",
            files=["reporting/published.tsv", *package_files("reporting/templates")],
        ),
    script:
        "../workflow_scripts/report.py"


# What each part is worth: every experiment and every ablation beside main.
rule ablations:
    input:
        scores=score_files(EXPERIMENTS),
    output:
        table=report(
            result("tables/ablations.tsv"), caption="report/ablations.rst", category="Tables"
        ),
    log:
        result("logs/ablations/ablations.log"),
    benchmark:
        result("benchmarks/ablations/ablations.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(5),
    params:
        main=MAIN,
        code=code_of("ablations"),
    script:
        "../workflow_scripts/ablations.py"


# Without outputs it runs whenever it is asked for; a benchmark file would count as one.
rule check_setup:
    log:
        result("logs/check_setup/check_setup.log"),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        datasets=DATASETS,
    script:
        "../workflow_scripts/check_setup.py"
