"""A model folder from elsewhere among the models of this run; it has no log of a training."""

import shutil
from pathlib import Path

from polclip.files import complete_or_absent, write_json, write_text
from polclip.rule_log import rule_log

with rule_log(snakemake):
    for name in ("model", "config"):
        with complete_or_absent(snakemake.output[name]) as temporary:
            shutil.copyfile(snakemake.input[name], temporary)
    own = Path(snakemake.input.config).parent / "encoders.json"
    if own.exists():
        with complete_or_absent(snakemake.output.encoders) as temporary:
            shutil.copyfile(own, temporary)
    else:  # one of before there was such a file: it is evaluated with the encoders of this run
        write_json(snakemake.output.encoders, snakemake.params.encoders)
    write_text(Path(snakemake.output.metrics), "")
