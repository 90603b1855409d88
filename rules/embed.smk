# Each distinct text and picture through its frozen tower, once.


rule collect_texts:
    input:
        **INVENTORY,
        textual=instance_files("textual", "train", "dev", "test"),
        visual=instance_files("visual", "dev", "test"),
        phrases=phrase_files(),
        defined=defined_files("dev", "test"),
        definitions=definition_files("dev", "test"),
        classes=CLASSES,
        captions=instance_files("textual", "train") if WITH_CAPTIONS else [],
    output:
        texts=result("texts/texts.parquet"),
    log:
        result("logs/collect_texts/collect_texts.log"),
    benchmark:
        result("benchmarks/collect_texts/collect_texts.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        forms=config["definitions"]["query_forms"],
        context_words=config["encoder"]["context_words"],
        code=code_of("collect_texts"),
    script:
        "../workflow_scripts/collect_texts.py"


rule embed_texts:
    input:
        texts=result("texts/texts.parquet"),
        weights=TEXT_WEIGHTS,
    output:
        folder=directory(result("embeddings/texts/shard-{shard}")),
    log:
        result("logs/embed_texts/shard-{shard}.log"),
    benchmark:
        result("benchmarks/embed_texts/shard-{shard}.tsv")
    wildcard_constraints:
        shard=r"\d+",
    conda:
        "../environment.yaml"
    threads: threads_of("embed")
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu=GPUS,
    params:
        encoder=pick(
            "encoder", "kind", "clip_architecture", "clip_weights", "text_layers", "text_precision"
        ),
        shards=config["encoder"]["text_shards"],
        code=code_of("embed_texts"),
    script:
        "../workflow_scripts/embed_texts.py"


rule embed_pictures:
    input:
        pictures=lambda wildcards: picture_table(wildcards.style),
        files=result("pictures/{style}"),
        weights=IMAGE_WEIGHTS,
    output:
        folder=directory(result(run_layout.PICTURE_FEATURES)),
        skipped=result(f"{run_layout.PICTURE_FEATURES}.skipped.json"),
    log:
        result("logs/embed_pictures/{style}.shard-{shard}.log"),
    benchmark:
        result("benchmarks/embed_pictures/{style}.shard-{shard}.tsv")
    wildcard_constraints:
        style=one_of(PICTURE_SETS),
        shard=r"\d+",
    conda:
        "../environment.yaml"
    threads: threads_of("embed")
    resources:
        mem_mb=growing(4000),
        runtime=growing(480),
        gpu=GPUS,
    params:
        encoder=pick("encoder", *ENCODER_KEYS),
        shards=lambda wildcards: picture_shards(wildcards.style),
        code=code_of("embed_pictures"),
    script:
        "../workflow_scripts/embed_pictures.py"
