# A pair of towers is aligned first, as CLIP is already; then PolCLIP is trained over the frozen features.

TRAINING_CORPORA = {
    "textual_train": instance_files("textual", "train"),
    "textual_dev": instance_files("textual", "dev"),
    "pictures_train": instance_files("visual", "train"),
    "phrases": phrase_files(),
    "visual_dev": instance_files("visual", "dev"),
    "definitions_dev": definition_files("dev"),
}


rule align_towers:
    input:
        **FEATURES,
        **INVENTORY,
        weights=TEXT_WEIGHTS,
        pictures_train=TRAINING_CORPORA["pictures_train"],
        phrases=TRAINING_CORPORA["phrases"],
        visual_dev=TRAINING_CORPORA["visual_dev"],
    output:
        folder=directory(result("towers/seed-{seed}")),
    log:
        result("logs/align_towers/seed-{seed}.log"),
    benchmark:
        result("benchmarks/align_towers/seed-{seed}.tsv")
    conda:
        "../environment.yaml"
    threads: threads_of("align")
    resources:
        mem_mb=8000,
        runtime=120,
        gpu=GPUS,
    params:
        settings=config["alignment"] if PAIR else {},
        encoder=pick("encoder", "kind", "clip_architecture"),
        forms=config["definitions"]["query_forms"],
        code=code_of("align_towers"),
    script:
        "../workflow_scripts/align_towers.py"


rule train:
    input:
        **FEATURES,
        **TRAINING_CORPORA,
        **INVENTORY,
        towers=result("towers/seed-{seed}"),
    output:
        model=result("models/{experiment}/seed-{seed}/model.safetensors"),
        config=result("models/{experiment}/seed-{seed}/config.json"),
        metrics=result("models/{experiment}/seed-{seed}/metrics.jsonl"),
    log:
        result("logs/train/{experiment}.seed-{seed}.log"),
    benchmark:
        result("benchmarks/train/{experiment}.seed-{seed}.tsv")
    wildcard_constraints:
        experiment=one_of(TRAINED),
    conda:
        "../environment.yaml"
    threads: threads_of("train")
    resources:
        mem_mb=16000,
        runtime=2880,
        gpu=GPUS,
    params:
        model=block_of("model"),
        training=block_of("training"),
        forms=config["definitions"]["query_forms"],
        code=code_of("train"),
    script:
        "../workflow_scripts/train.py"
