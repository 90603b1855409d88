# Every gloss of the inventory through a trained model, once: for those who use the model.


localrules:
    index,


rule index:
    input:
        index_folders(),


rule gloss_index:
    input:
        **INVENTORY,
        model=result("models/{experiment}/seed-{seed}/model.safetensors"),
        config=result("models/{experiment}/seed-{seed}/config.json"),
        encoders=result("models/{experiment}/seed-{seed}/encoders.json"),
        weights=TEXT_WEIGHTS,
    output:
        folder=directory(result("index/{experiment}/seed-{seed}")),
    log:
        result("logs/gloss_index/{experiment}.seed-{seed}.log"),
    benchmark:
        result("benchmarks/gloss_index/{experiment}.seed-{seed}.tsv")
    wildcard_constraints:
        experiment=one_of(TRAINED),
    conda:
        "../environment.yaml"
    threads: threads_of("embed")
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu=GPUS,
    params:
        code=code_of("gloss_index"),
    script:
        "../workflow_scripts/gloss_index.py"
