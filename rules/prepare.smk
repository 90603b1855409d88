# The inventory of senses, and the corpora of sentences.


rule inventory:
    input:
        archive=archive(config["inventory"]["dataset"]),
        mapping=config["corpora"]["xl_wsd"]["sense_mapping"] or [],
    output:
        **INVENTORY,
    log:
        result("logs/inventory/inventory.log"),
    benchmark:
        result("benchmarks/inventory/inventory.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        synsets=config["inventory"]["synsets"],
        senses=config["inventory"]["senses"],
        code=code_of("inventory"),
    script:
        "../workflow_scripts/inventory.py"


rule wordnet_examples:
    input:
        **INVENTORY,
    output:
        train=result("corpora/wordnet_examples/train.parquet"),
        dev=result("corpora/wordnet_examples/dev.parquet"),
        test=result("corpora/wordnet_examples/test.parquet"),
        counts=result("corpora/wordnet_examples/counts.json"),
    log:
        result("logs/wordnet_examples/wordnet_examples.log"),
    benchmark:
        result("benchmarks/wordnet_examples/wordnet_examples.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=config["corpora"]["wordnet_examples"],
        code=code_of("wordnet_examples"),
    script:
        "../workflow_scripts/wordnet_examples.py"


rule semcor:
    input:
        **INVENTORY,
        archive=corpus_archive("semcor"),
    output:
        train=result("corpora/semcor/train.parquet"),
        dev=result("corpora/semcor/dev.parquet"),
        counts=result("corpora/semcor/counts.json"),
    log:
        result("logs/semcor/semcor.log"),
    benchmark:
        result("benchmarks/semcor/semcor.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        dev_fraction=config["corpora"]["semcor"]["dev_fraction"],
        code=code_of("semcor"),
    script:
        "../workflow_scripts/semcor.py"


UNIFIED_SETS = [
    "ALL",
    "senseval2",
    "senseval3",
    "semeval2007",
    "semeval2013",
    "semeval2015",
]
HARD_SETS = ["ALLamended", "S10amended", "42D", "hardEN", "softEN"]


rule unified_wsd:
    input:
        **INVENTORY,
        archive=corpus_archive("unified_wsd"),
    output:
        instances=expand(result("corpora/unified_wsd/{split}.parquet"), split=UNIFIED_SETS),
        counts=result("corpora/unified_wsd/counts.json"),
    log:
        result("logs/unified_wsd/unified_wsd.log"),
    benchmark:
        result("benchmarks/unified_wsd/unified_wsd.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        sets=UNIFIED_SETS,
        code=code_of("unified_wsd"),
    script:
        "../workflow_scripts/unified_wsd.py"


# The same XML, so the same script.
use rule unified_wsd as hard_benchmark with:
    input:
        **INVENTORY,
        archive=corpus_archive("hard_benchmark"),
    output:
        instances=expand(result("corpora/hard_benchmark/{split}.parquet"), split=HARD_SETS),
        counts=result("corpora/hard_benchmark/counts.json"),
    log:
        result("logs/hard_benchmark/hard_benchmark.log"),
    benchmark:
        result("benchmarks/hard_benchmark/hard_benchmark.tsv")
    params:
        sets=HARD_SETS,
        code=code_of("unified_wsd"),


# SemCor once more, as one XML file; named in place of semcor.
use rule unified_wsd as semcor_unified with:
    input:
        **INVENTORY,
        archive=corpus_archive("semcor_unified"),
    output:
        instances=[result("corpora/semcor_unified/train.parquet")],
        counts=result("corpora/semcor_unified/counts.json"),
    log:
        result("logs/semcor_unified/semcor_unified.log"),
    benchmark:
        result("benchmarks/semcor_unified/semcor_unified.tsv")
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        sets=["semcor"],
        code=code_of("unified_wsd"),


# Of 37 sets those that the settings name; an archive that lacks another one serves as well.
XL_WSD_SPLITS = [
    split
    for split in dict.fromkeys(
        entry.split("/")[1]
        for entry in entries("textual", "train", "dev", "test")
        if entry.startswith("xl_wsd/")
    )
    if re.fullmatch("xl_([a-z]{2}(_dev)?|en_without_semeval2010)", split)
]


rule xl_wsd:
    input:
        **INVENTORY,
        archive=corpus_archive("xl_wsd"),
    output:
        instances=expand(result("corpora/xl_wsd/{split}.parquet"), split=XL_WSD_SPLITS),
        counts=result("corpora/xl_wsd/counts.json"),
    log:
        result("logs/xl_wsd/xl_wsd.log"),
    benchmark:
        result("benchmarks/xl_wsd/xl_wsd.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        splits=XL_WSD_SPLITS,
        code=code_of("xl_wsd"),
    script:
        "../workflow_scripts/xl_wsd.py"
