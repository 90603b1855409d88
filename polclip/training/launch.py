"""Starts a training: here, or spread over several GPUs by torchrun, of this machine or of all nodes of a Slurm job.

`python -m polclip.training.launch ARGUMENTS.json` is what each of torchrun's processes runs.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.inventory import Inventory
from polclip.training.loop import train
from polclip.training.preemption import EXIT_CODE, when_told_to_stop
from polclip.training.settings import TrainingSettings
from polclip.workplaces import workplace


def launch(arguments: dict, processes: int = 1, nodes: int = 1) -> None:
    """Train with the arguments of `run`, in so many processes with a GPU each, spread evenly over so many nodes.

    Several nodes are those of the Slurm job that this is called in. SIGTERM ends all processes, the state saved, with
    SystemExit(143). Raises UserError where the processes cannot be spread, and where one of them fails.
    """
    if processes <= 1 and nodes <= 1:
        run(arguments)
        return
    # Other nodes see what is saved, and nothing of this machine's own disk.
    shared = Path(arguments["resume"]).parent
    shared.mkdir(parents=True, exist_ok=True)
    with workplace(shared, "launch") as folder:
        path = folder / "arguments.json"
        path.write_text(json.dumps(arguments), encoding="utf-8")
        command = [*_torchrun(processes, nodes), "-m", "polclip.training.launch", str(path)]
        with when_told_to_stop() as told, subprocess.Popen(command) as started:
            while started.poll() is None and not told.wait(0.2):
                pass
            # Whoever told this process need not have told the others; being told twice does them no harm. Of several
            # nodes srun tells them.
            if told.is_set():
                with suppress(psutil.NoSuchProcess):
                    for process in [started] if nodes > 1 else psutil.Process(started.pid).children():
                        process.terminate()
    if told.is_set() and started.returncode:
        raise SystemExit(EXIT_CODE)
    if started.returncode:
        raise UserError(f"Training over {processes} processes failed; what they said stands above in this log.")


def _torchrun(processes: int, nodes: int) -> list[str]:
    """The command that starts the processes; over several nodes srun starts it on each, and they meet at this one."""
    here = [sys.executable, "-m", "torch.distributed.run"]
    if nodes <= 1:
        return [*here, "--standalone", f"--nproc-per-node={processes}"]
    if processes % nodes:
        raise UserError(
            f"{processes} GPUs cannot be spread evenly over {nodes} nodes: --set-resources train:gpu=NUMBER"
        )
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(
            f"Training over {nodes} nodes is started by srun in a Slurm job, and this is none: "
            "leave the resource `nodes` out."
        )
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={socket.gethostname()}:{port}"]
    return [
        *("srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"),
        f"--cpus-per-task={os.environ.get('SLURM_CPUS_PER_TASK', 1)}",  # srun takes one where it is not told
        *(*here, f"--nnodes={nodes}", f"--nproc-per-node={processes // nodes}", *meeting),
        f"--rdzv-id={os.environ['SLURM_JOB_ID']}",
    ]


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
