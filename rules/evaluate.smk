# Both tasks by one model, beside baselines: every candidate of every instance ranked, then scored.


rule predict:
    input:
        unpack(definitions_of("test")),
        **FEATURES,
        **INVENTORY,
        model=result("models/{experiment}/seed-{seed}/model.safetensors"),
        config=result("models/{experiment}/seed-{seed}/config.json"),
        instances=TEST_FILES,
    output:
        predictions=predictions_of(BENCHMARKS),
        official=official_of(BENCHMARKS),
    log:
        result("logs/predict/{experiment}.seed-{seed}.log"),
    benchmark:
        result("benchmarks/predict/{experiment}.seed-{seed}.tsv")
    wildcard_constraints:
        experiment=one_of(TRAINED),
    conda:
        "../environment.yaml"
    threads: threads_of("predict")
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
        gpu=GPUS,
    params:
        tasks=[TASKS[name] for name in BENCHMARKS],
        benchmarks=BENCHMARKS,
        forms=config["definitions"]["query_forms"],
        context_words=config["encoder"]["context_words"],
        code=code_of("predict"),
    script:
        "../workflow_scripts/predict.py"


# `random` and `zero_shot` know both tasks.
rule baseline:
    input:
        unpack(read_by_baseline),
        **INVENTORY,
        instances=TEST_FILES,
    output:
        predictions=predictions_of(BENCHMARKS),
        official=official_of(BENCHMARKS),
    log:
        result("logs/baseline/{experiment}.seed-{seed}.log"),
    benchmark:
        result("benchmarks/baseline/{experiment}.seed-{seed}.tsv")
    wildcard_constraints:
        experiment=one_of(OTHER_BASELINES),
    conda:
        "../environment.yaml"
    threads: threads_of("predict")
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        baseline=lambda wildcards: EXPERIMENTS[wildcards.experiment]["baseline"],
        tasks=[TASKS[name] for name in BENCHMARKS],
        benchmarks=BENCHMARKS,
        forms=config["definitions"]["query_forms"],
        context_words=config["encoder"]["context_words"],
        code=code_of("baseline"),
    script:
        "../workflow_scripts/baseline.py"


use rule baseline as baseline_textual with:
    input:
        **INVENTORY,
        instances=instance_files("textual", "test"),
    output:
        predictions=predictions_of(TEXTUAL_BENCHMARKS),
        official=official_of(TEXTUAL_BENCHMARKS),
    wildcard_constraints:
        experiment=one_of(TEXTUAL_BASELINES),
    params:
        baseline=lambda wildcards: EXPERIMENTS[wildcards.experiment]["baseline"],
        tasks=["textual"] * len(TEXTUAL_BENCHMARKS),
        benchmarks=TEXTUAL_BENCHMARKS,
        forms=[],
        context_words=0,
        code=code_of("baseline"),


rule score:
    input:
        predictions=predictions_of(BENCHMARKS),
        instances=TEST_FILES,
        # Which lemmas and senses a model could have seen.
        train=instance_files("textual", "train"),
    output:
        scores=scores_of(BENCHMARKS + list(TOGETHER)),
    log:
        result("logs/score/{experiment}.seed-{seed}.log"),
    benchmark:
        result("benchmarks/score/{experiment}.seed-{seed}.tsv")
    wildcard_constraints:
        experiment=one_of(TRAINED + OTHER_BASELINES),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        tasks=[TASKS[name] for name in BENCHMARKS],
        benchmarks=BENCHMARKS,
        together=TOGETHER,
        evaluation=config["evaluation"],
        code=code_of("score"),
    script:
        "../workflow_scripts/score.py"


use rule score as score_textual with:
    input:
        predictions=predictions_of(TEXTUAL_BENCHMARKS),
        instances=instance_files("textual", "test"),
        train=instance_files("textual", "train"),
    output:
        scores=scores_of(TEXTUAL_BENCHMARKS),
    wildcard_constraints:
        experiment=one_of(TEXTUAL_BASELINES),
    params:
        tasks=["textual"] * len(TEXTUAL_BENCHMARKS),
        benchmarks=TEXTUAL_BENCHMARKS,
        together={},
        evaluation=config["evaluation"],
        code=code_of("score"),
