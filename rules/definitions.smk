# What the target of an instance means here, in a sentence: D-GPT's part in the paper. Planned and priced without key or
# network, then asked for; both kinds of instances (definitions.of) are asked about.

ASKS = config["definitions"]["source"] == "openai"
FINE_TUNES = ASKS and config["definitions"]["finetuning"]["corpus"] != "none"
PLAN = Path(result("definitions/plan.txt"))
# A dry run tells what definitions_plan has found.
PLANNED = (
    PLAN.read_text(encoding="utf-8").split("\n")[0].replace("{", "{{").replace("}", "}}")
    if PLAN.exists()
    else "`snakemake definitions_plan` tells what they cost, without key or network."
)
ASKING = (
    f"Definitions of {{wildcards.corpus}}/{{wildcards.split}}. All of this run: {PLANNED}"
    if ASKS
    else None
)


# The key stays on the machine where Snakemake was started, and one job at a time asks.
localrules:
    write_definitions,


rule plan_definitions:
    input:
        instances=result("corpora/{corpus}/{split}.parquet"),
    output:
        requests=result("definitions/{corpus}.{split}.requests.jsonl"),
        plan=result("definitions/{corpus}.{split}.plan.json"),
    log:
        result("logs/plan_definitions/{corpus}.{split}.log"),
    benchmark:
        result("benchmarks/plan_definitions/{corpus}.{split}.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        task=task_of,
        asked=pick("definitions", *ASKED_KEYS),
        prices=config["definitions"]["prices"],
        finetuning=config["definitions"]["finetuning"]["corpus"],
        code=code_of("plan_definitions", files=["definitions/openai_models.tsv"]),
    script:
        "../workflow_scripts/plan_definitions.py"


# The plans of all corpora as one table, and in words.
rule definitions_plan:
    input:
        plans=[
            file.removesuffix(".jsonl") + ".plan.json"
            for file in definition_files("dev", "test")
            if ASKS
        ],
    output:
        table=result("definitions/plan.tsv"),
        said=str(PLAN),
    log:
        result("logs/definitions_plan/definitions_plan.log"),
    benchmark:
        result("benchmarks/definitions_plan/definitions_plan.tsv")
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(5),
    params:
        code=code_of("definitions_plan", files=["definitions/openai_models.tsv"]),
    script:
        "../workflow_scripts/definitions_plan.py"


rule write_definitions:
    input:
        **(INVENTORY if config["definitions"]["source"] == "wordnet" else {}),
        instances=result("corpora/{corpus}/{split}.parquet"),
        requests=result("definitions/{corpus}.{split}.requests.jsonl") if ASKS else [],
        model=rules.finetune_dgpt.output.model if FINE_TUNES else [],
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
        mem_mb=growing(1000),
        runtime=growing(1440),
        llm=1 if ASKS else 0,
    params:
        task=task_of,
        source=config["definitions"]["source"],
        asked=pick("definitions", *ASKED_KEYS) if ASKS else {},
        language=config["definitions"]["language"],
        code=code_of("write_definitions"),
    message:
        ASKING
    script:
        "../workflow_scripts/write_definitions.py"
