# Archives come from a mirror, from resources/by_hand/ or from their source, and are checked against the manifest.


DATASET_OF_FILE = {dataset.file: dataset for dataset in MANIFEST.values()}


localrules:
    download,


rule download:
    output:
        "resources/archives/{file}",
    log:
        result("logs/download/{file}.log"),
    benchmark:
        result("benchmarks/download/{file}.tsv")
    wildcard_constraints:
        file="|".join(map(re.escape, DATASET_OF_FILE)),
    conda:
        "../environment.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(600),
    # No fingerprint of the code: an archive is checked against the manifest, and an edit of how it is fetched would fetch all
    # archives again.
    params:
        sha256=lambda wildcards: DATASET_OF_FILE[wildcards.file].sha256 or "",
        version=lambda wildcards: DATASET_OF_FILE[wildcards.file].version,
        # For the line that accepts all their licences at once. Of what depends on the output Snakemake keeps no record:
        # nothing is fetched again because the run has one more data set.
        run=lambda wildcards, output: DATASETS,
    script:
        "../workflow_scripts/download.py"
