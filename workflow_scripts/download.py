"""Fetch one archive of the manifest."""

from pathlib import Path

from polclip.downloads.fetching import fetch
from polclip.downloads.manifest import read_manifest
from polclip.rule_log import rule_log

with rule_log(snakemake):
    manifest = read_manifest(Path(snakemake.scriptdir).parent / "rules" / "datasets.yaml")
    (dataset,) = (entry for entry in manifest.values() if entry.file == snakemake.wildcards.file)
    fetch(
        dataset,
        snakemake.output[0],
        snakemake.config["archives_mirror"] or None,
        accept_licences=snakemake.config["accept_licences"],
        run=[manifest[name] for name in snakemake.params.run],
    )
