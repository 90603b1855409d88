# D-GPT: a language model fine-tuned on glosses of the training corpora, or on the corpus that came with the paper.


localrules:
    finetune_dgpt,


rule build_dgpt_corpus:
    input:
        **INVENTORY,
        train=instance_files("textual", "train"),
        textual=instance_files("textual", "dev", "test"),
        visual=instance_files("visual", "dev", "test"),
    output:
        corpus=result("dgpt/corpus.jsonl"),
        about=result("dgpt/corpus.json"),
    log:
        result("logs/build_dgpt_corpus/build_dgpt_corpus.log"),
    benchmark:
        result("benchmarks/build_dgpt_corpus/build_dgpt_corpus.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        asked=pick("definitions", "model", "base_url", "system", "prompt", "prices"),
        finetuning={
            key: config["definitions"]["finetuning"][key] for key in ("lines", "epochs", "seed")
        },
        code=code_of("build_dgpt_corpus"),
    script:
        "../workflow_scripts/build_dgpt_corpus.py"


# Where Snakemake was started: the key stays there.
rule finetune_dgpt:
    input:
        corpus=(
            archive("dgpt_corpus")
            if config["definitions"]["finetuning"]["corpus"] == "released"
            else rules.build_dgpt_corpus.output.corpus
        ),
    output:
        model=result("dgpt/model.json"),
    log:
        result("logs/finetune_dgpt/finetune_dgpt.log"),
    benchmark:
        result("benchmarks/finetune_dgpt/finetune_dgpt.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(1440),
    params:
        asked=pick("definitions", "model", "base_url"),
        finetuning={
            key: config["definitions"]["finetuning"][key] for key in ("epochs", "seed", "suffix")
        },
        code=code_of("finetune_dgpt"),
    script:
        "../workflow_scripts/finetune_dgpt.py"
