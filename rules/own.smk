# Data sets of one's own, a folder each (corpora.own): {name}/texts, {name}/pictures and {name}/queries.


rule own_texts:
    input:
        **INVENTORY,
        texts=lambda wildcards: own_texts(wildcards.corpus),
    output:
        instances=result("corpora/{corpus}/texts.parquet"),
    log:
        result("logs/own_texts/{corpus}.log"),
    benchmark:
        result("benchmarks/own_texts/{corpus}.tsv")
    wildcard_constraints:
        corpus=one_of(OWN),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        code=code_of("own_texts"),
    script:
        "../workflow_scripts/own_texts.py"


rule own_pictures:
    input:
        **INVENTORY,
        tables=lambda wildcards: own_tables(wildcards.corpus),
    output:
        folder=directory(result("pictures/{corpus}")),
        pictures=result("corpora/{corpus}/pictures.parquet"),
        phrases=result("corpora/{corpus}/phrases.parquet"),
    log:
        result("logs/own_pictures/{corpus}.log"),
    benchmark:
        result("benchmarks/own_pictures/{corpus}.tsv")
    wildcard_constraints:
        corpus=one_of(OWN),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        code=code_of("own_pictures"),
    script:
        "../workflow_scripts/own_pictures.py"


rule own_queries:
    input:
        **INVENTORY,
        queries=lambda wildcards: f"{OWN[wildcards.corpus]}/queries.tsv",
        pictures=result("corpora/{corpus}/pictures.parquet"),
    output:
        instances=result("corpora/{corpus}/queries.parquet"),
    log:
        result("logs/own_queries/{corpus}.log"),
    benchmark:
        result("benchmarks/own_queries/{corpus}.tsv")
    wildcard_constraints:
        corpus=one_of(OWN),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code_of("own_queries"),
    script:
        "../workflow_scripts/own_queries.py"
