# What the target of a visual query means here, in a sentence: D-GPT's part in the paper.


rule write_definitions:
    input:
        **INVENTORY,
        instances=result("corpora/{corpus}/{split}.parquet"),
        released=archive("dgpt_corpus") if config["definitions"]["source"] == "released" else [],
    output:
        definitions=result("definitions/{corpus}.{split}.jsonl"),
        cost=result("definitions/{corpus}.{split}.cost.json"),
    log:
        result("logs/write_definitions/{corpus}.{split}.log"),
    benchmark:
        result("benchmarks/write_definitions/{corpus}.{split}.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        settings=config["definitions"],
        code=code_of("write_definitions"),
    script:
        "../workflow_scripts/write_definitions.py"
