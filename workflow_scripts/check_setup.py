"""What this machine has, and what a run would still need."""

from pathlib import Path

from polclip.downloads.manifest import read_manifest
from polclip.rule_log import rule_log
from polclip.setup_check import check_setup

with rule_log(snakemake):
    manifest = read_manifest(Path(snakemake.scriptdir).parent / "rules" / "datasets.yaml")
    print(check_setup(snakemake.config, [manifest[name] for name in snakemake.params.datasets]))
