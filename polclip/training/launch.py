"""Starts a training: here, or spread over several GPUs of this machine by torchrun.

`python -m polclip.training.launch ARGUMENTS.json` is what each of torchrun's processes runs.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.inventory import Inventory
from polclip.training.loop import train
from polclip.training.settings import TrainingSettings


def launch(arguments: dict, processes: int = 1) -> None:
    """Train with the arguments of `run`, in so many processes with a GPU each."""
    if processes <= 1:
        run(arguments)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "arguments.json")
        path.write_text(json.dumps(arguments), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        done = subprocess.run([*command, "-m", "polclip.training.launch", str(path)], check=False)
    if done.returncode:
        raise UserError(f"Training over {processes} processes failed; what they said stands above in this log.")


def run(arguments: dict) -> None:
    """`train` with plain values: paths of the inventory and of the features, and the settings as a block."""
    given = dict(arguments)
    train(
        given.pop("folder"),
        Inventory.read(given.pop("senses"), given.pop("synsets")),
        FeatureStore(given.pop("text_features")),
        FeatureStore(given.pop("picture_features")),
        settings=TrainingSettings(**given.pop("training")),
        **given,
    )


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
