"""Starts a training: here, or spread over several GPUs of this machine by torchrun.

`python -m polclip.training.launch ARGUMENTS.json` is what each of torchrun's processes runs.
"""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.inventory import Inventory
from polclip.training.loop import train
from polclip.training.preemption import EXIT_CODE, when_told_to_stop
from polclip.training.settings import TrainingSettings


def launch(arguments: dict, processes: int = 1) -> None:
    """Train with the arguments of `run`, in so many processes with a GPU each.

    SIGTERM ends all of them, the state saved, with SystemExit(143).
    """
    if processes <= 1:
        run(arguments)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "arguments.json")
        path.write_text(json.dumps(arguments), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += ["-m", "polclip.training.launch", str(path)]
        with when_told_to_stop() as told, subprocess.Popen(command) as torchrun:
            while torchrun.poll() is None and not told.wait(0.2):
                pass
            # Whoever told this process need not have told the others; being told twice does them no harm.
            for process in psutil.Process(torchrun.pid).children() if told.is_set() else ():
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
    if told.is_set() and torchrun.returncode:
        raise SystemExit(EXIT_CODE)
    if torchrun.returncode:
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
