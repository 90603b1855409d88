"""What the results came from: packages, archives, settings, and what was skipped."""

from pathlib import Path

from polclip.downloads.manifest import read_manifest
from polclip.provenance import write_provenance
from polclip.rule_log import rule_log

with rule_log(snakemake):
    manifest = read_manifest(Path(snakemake.scriptdir).parent / "rules" / "datasets.yaml")
    skipped = [(f"render_pictures {Path(path).name.split('.')[0]}", path) for path in snakemake.input.rendered]
    skipped += [(f"sense_pictures {Path(path).name.split('.')[0]}", path) for path in snakemake.input.unpacked]
    skipped += [(f"embed_pictures {Path(path).parent.name}", path) for path in snakemake.input.embedded]
    write_provenance(
        snakemake.output.provenance,
        snakemake.params.config,
        archives=zip((manifest[name] for name in snakemake.params.datasets), snakemake.input.archives, strict=True),
        skipped=skipped,
        counts={Path(path).parent.name: path for path in snakemake.input.counts},
    )
