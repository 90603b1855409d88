"""A model folder from elsewhere among the models of this run; it has no log of a training."""

import shutil
from pathlib import Path

from polclip.files import complete_or_absent, write_text
from polclip.rule_log import rule_log

with rule_log(snakemake):
    for name in ("model", "config"):
        with complete_or_absent(snakemake.output[name]) as temporary:
            shutil.copyfile(snakemake.input[name], temporary)
    write_text(Path(snakemake.output.metrics), "")
