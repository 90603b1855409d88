# Pictures and what is asked about them: the visual task, corpora whose senses come with pictures, drawn icons.


# The test sets, and by the same scripts the training set with the trial: each can be had without the other.
rule vwsd_pictures:
    input:
        archive=archive("vwsd_test_images"),
    output:
        folder=directory(result("pictures/vwsd")),
        table=result("corpora/vwsd/pictures.parquet"),
    log:
        result("logs/vwsd_pictures/vwsd_pictures.log"),
    benchmark:
        result("benchmarks/vwsd_pictures/vwsd_pictures.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
        disk_mb=40000,
    params:
        splits=["test"],
        code=code_of("vwsd_pictures"),
    script:
        "../workflow_scripts/vwsd_pictures.py"


use rule vwsd_pictures as vwsd_train_pictures with:
    input:
        archive=archive("vwsd_train"),
    output:
        folder=directory(result("pictures/vwsd_train")),
        table=result("corpora/vwsd_train/pictures.parquet"),
    log:
        result("logs/vwsd_train_pictures/vwsd_train_pictures.log"),
    benchmark:
        result("benchmarks/vwsd_train_pictures/vwsd_train_pictures.tsv")
    params:
        splits=["train", "trial"],
        code=code_of("vwsd_pictures"),


rule vwsd:
    input:
        archive=archive("vwsd_test"),
        pictures=result("corpora/vwsd/pictures.parquet"),
    output:
        instances=expand(result("corpora/vwsd/vwsd_{language}.parquet"), language=VWSD_LANGUAGES),
        counts=result("corpora/vwsd/counts.json"),
    log:
        result("logs/vwsd/vwsd.log"),
    benchmark:
        result("benchmarks/vwsd/vwsd.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        sets=[["test", language] for language in VWSD_LANGUAGES],
        missing_pictures=config["corpora"]["vwsd"]["missing_pictures"],
        code=code_of("vwsd"),
    script:
        "../workflow_scripts/vwsd.py"


use rule vwsd as vwsd_train with:
    input:
        archive=archive("vwsd_train"),
        pictures=result("corpora/vwsd_train/pictures.parquet"),
    output:
        instances=expand(result("corpora/vwsd_train/{split}.parquet"), split=["train", "trial"]),
        counts=result("corpora/vwsd_train/counts.json"),
    log:
        result("logs/vwsd_train/vwsd_train.log"),
    benchmark:
        result("benchmarks/vwsd_train/vwsd_train.tsv")
    params:
        sets=[["train", "en"], ["trial", "en"]],
        missing_pictures=config["corpora"]["vwsd"]["missing_pictures"],
        code=code_of("vwsd"),


# Their texts need no pictures, which are hundreds of GB: those are unpacked by a rule of their own.
rule image_senses:
    input:
        **INVENTORY,
        metadata=lambda wildcards: corpus_archives(wildcards.corpus)[0],
    output:
        train=result("corpora/{corpus}/train.parquet"),
        phrases=result("corpora/{corpus}/phrases.parquet"),
        shown=result("corpora/{corpus}/shown.parquet"),
        counts=result("corpora/{corpus}/counts.json"),
    log:
        result("logs/image_senses/{corpus}.log"),
    benchmark:
        result("benchmarks/image_senses/{corpus}.tsv")
    wildcard_constraints:
        corpus=one_of(IMAGE_SENSES),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        code=code_of("image_senses"),
    script:
        "../workflow_scripts/image_senses.py"


rule sense_pictures:
    input:
        shown=result("corpora/{corpus}/shown.parquet"),
        images=lambda wildcards: corpus_archives(wildcards.corpus)[1],
    output:
        pictures=result("corpora/{corpus}/pictures.parquet"),
        folder=directory(result("pictures/{corpus}")),
        skipped=result("pictures/{corpus}.skipped.json"),
    log:
        result("logs/sense_pictures/{corpus}.log"),
    benchmark:
        result("benchmarks/sense_pictures/{corpus}.tsv")
    wildcard_constraints:
        corpus=one_of(IMAGE_SENSES),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(600),
        disk_mb=250000,
    params:
        code=code_of("sense_pictures"),
    script:
        "../workflow_scripts/sense_pictures.py"


rule babelpic:
    input:
        **INVENTORY,
        archive=corpus_archive("babelpic"),
    output:
        pictures=result("corpora/babelpic/pictures.parquet"),
        phrases=result("corpora/babelpic/phrases.parquet"),
        folder=directory(result("pictures/babelpic")),
        counts=result("corpora/babelpic/counts.json"),
    log:
        result("logs/babelpic/babelpic.log"),
    benchmark:
        result("benchmarks/babelpic/babelpic.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
        disk_mb=20000,
    params:
        code=code_of("babelpic"),
    script:
        "../workflow_scripts/babelpic.py"


rule render_pictures:
    input:
        **INVENTORY,
        archive=lambda wildcards: archive(config["pictures"]["styles"][wildcards.style]["dataset"]),
    output:
        folder=directory(result("pictures/{style}")),
        table=result("pictures/{style}.parquet"),
        skipped=result("pictures/{style}.skipped.json"),
    log:
        result("logs/render_pictures/{style}.log"),
    benchmark:
        result("benchmarks/render_pictures/{style}.tsv")
    wildcard_constraints:
        style=one_of(STYLES),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        style=lambda wildcards: config["pictures"]["styles"][wildcards.style],
        settings=pick("pictures", "size", "max_per_synset"),
        code=code_of(
            "render_pictures",
            files=["corpora/tables/picture_senses.tsv", "corpora/tables/emoji_icons.tsv"],
        ),
    script:
        "../workflow_scripts/render_pictures.py"


rule picture_corpora:
    input:
        **INVENTORY,
        pictures=expand(result("pictures/{style}.parquet"), style=STYLES),
    output:
        pictures=result("corpora/pictures/train.parquet"),
        phrases=result("corpora/pictures/phrases.parquet"),
        dev_style=result("corpora/dev_style/dev.parquet"),
        dev_words=result("corpora/dev_words/dev.parquet"),
        unseen_style=result("corpora/unseen_style/test.parquet"),
        unseen_words=result("corpora/unseen_words/test.parquet"),
        hard=result("corpora/hard/test.parquet"),
        counts=result("corpora/pictures/counts.json"),
    log:
        result("logs/picture_corpora/picture_corpora.log"),
    benchmark:
        result("benchmarks/picture_corpora/picture_corpora.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=pick("pictures", "dev_families", "test_families") | config["pictures"]["split"],
        code=code_of("picture_corpora", files=["corpora/tables/phrases.tsv"]),
    script:
        "../workflow_scripts/picture_corpora.py"
