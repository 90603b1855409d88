"""One GPU a job on a machine without a scheduler: whoever uses a GPU holds its lock file, for as long as it lives.

Jobs that Snakemake runs side by side (`--resources gpu=4`) would all take the first GPU otherwise. Slurm and others
give each job its own, by CUDA_VISIBLE_DEVICES or by showing no other: then nothing is locked.
"""

import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from polclip.errors import UserError

log = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Each is there in the jobs of one: Slurm, PBS, LSF, Grid Engine, Kubernetes.
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "KUBERNETES_SERVICE_HOST")
_held: list[FileLock] = []  # until the process ends, however it ends


def claim_gpus(wanted: int, folder: Path | None = None, pause: float = 1.0) -> None:
    """Wait until so many GPUs are free, and let this process and its children see these alone.

    Call it before CUDA is asked for anything. Does nothing where no GPU is wanted or there, where a scheduler has given
    this job its own, and where the process holds some already. Of CUDA_VISIBLE_DEVICES only those named are taken.

    Args:
        folder: of the lock files; default: one for each user in the folder for temporary files.
        pause: seconds between two looks.

    Raises UserError where the machine has fewer.
    """
    there = visible_gpus()
    if not wanted or not there or _held or any(name in os.environ for name in SCHEDULERS):
        return
    if wanted > len(there):
        raise UserError(f"The step asks for {wanted} GPUs, and {len(there)} are here: --set-resources STEP:gpu=NUMBER")
    folder = folder or Path(tempfile.gettempdir(), f"polclip-gpus-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    while not (taken := _take(there, wanted, folder)):
        log.info("Waiting for %d of %d GPUs.", wanted, len(there))
        time.sleep(pause)
    _held.extend(taken.values())
    os.environ[VISIBLE] = ",".join(taken)
    log.info("Uses GPU %s.", os.environ[VISIBLE])


def visible_gpus() -> list[str]:
    """The GPUs that a process would see, by the names that CUDA_VISIBLE_DEVICES knows; CUDA itself is not asked."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def _take(there: Sequence[str], wanted: int, folder: Path) -> dict[str, FileLock]:
    """The locks of so many GPUs by name, or of none: a job that held some and waited could block another for ever."""
    taken: dict[str, FileLock] = {}
    for name in there:
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        taken[name] = lock
        if len(taken) == wanted:
            return taken
    for lock in taken.values():
        lock.release()
    return {}
