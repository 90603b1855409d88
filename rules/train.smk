# A pair of towers is aligned first, on CPU, as CLIP is already; then PolCLIP is trained over what is stored of the towers.

TRAINING_CORPORA = {
    "textual_train": instance_files("textual", "train"),
    "textual_dev": instance_files("textual", "dev"),
    "pictures_train": instance_files("visual", "train"),
    "phrases": phrase_files(),
    "visual_dev": instance_files("visual", "dev"),
}


rule align_towers:
    input:
        **FEATURES,
        **INVENTORY,
        textual_train=TRAINING_CORPORA["textual_train"],
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
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        settings=config["alignment"],
        context_words=config["encoder"]["context_words"],
        forms=config["definitions"]["query_forms"],
        code=code_of("align_towers"),
    script:
        "../workflow_scripts/align_towers.py"


rule train:
    input:
        unpack(definitions_of("dev")),
        **FEATURES,
        **TRAINING_CORPORA,
        **INVENTORY,
        towers=result("towers/seed-{seed}") if PAIR else [],
        weights=TEXT_WEIGHTS,
        start=start_of,
    output:
        model=result("models/{experiment}/seed-{seed}/model.safetensors"),
        config=result("models/{experiment}/seed-{seed}/config.json"),
        encoders=result("models/{experiment}/seed-{seed}/encoders.json"),
        metrics=result("models/{experiment}/seed-{seed}/metrics.jsonl"),
    log:
        result("logs/train/{experiment}.seed-{seed}.log"),
    benchmark:
        result("benchmarks/train/{experiment}.seed-{seed}.tsv")
    wildcard_constraints:
        experiment=one_of(name for name in TRAINED if name not in CHECKPOINTS),
    conda:
        "../environment.yaml"
    threads: threads_of("train")
    resources:
        mem_mb=growing(16000),
        runtime=2880,  # a second attempt goes on where the first was
        gpu=GPUS,
    params:
        model=block_of("model"),
        training=block_of("training"),
        encoder=pick("encoder", *ENCODER_KEYS, "text_layers", "text_precision"),
        context_words=config["encoder"]["context_words"],
        forms=config["definitions"]["query_forms"],
        encoders=ENCODERS,
        code=code_of("train"),
    script:
        "../workflow_scripts/train.py"


# A model that is there already is only evaluated.
rule use_checkpoint:
    input:
        model=lambda wildcards: f"{EXPERIMENTS[wildcards.experiment]['checkpoint']}/model.safetensors",
        config=lambda wildcards: f"{EXPERIMENTS[wildcards.experiment]['checkpoint']}/config.json",
    output:
        model=result("models/{experiment}/seed-{seed}/model.safetensors"),
        config=result("models/{experiment}/seed-{seed}/config.json"),
        encoders=result("models/{experiment}/seed-{seed}/encoders.json"),
        metrics=result("models/{experiment}/seed-{seed}/metrics.jsonl"),
    log:
        result("logs/use_checkpoint/{experiment}.seed-{seed}.log"),
    benchmark:
        result("benchmarks/use_checkpoint/{experiment}.seed-{seed}.tsv")
    wildcard_constraints:
        experiment=one_of(CHECKPOINTS),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        encoders=ENCODERS,
        code=code_of("use_checkpoint"),
    script:
        "../workflow_scripts/use_checkpoint.py"
