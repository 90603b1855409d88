"""A Slurm of this machine's own, for as long as the tests need it: a controller and two nodes, n1 and n2.

Slurm's programs read /etc/slurm, so what is there is put aside and put back. Only root can start it, and only where no
other Slurm answers. Sizes are pretended: each node has as many processors, as much memory and as many GPUs as the
tests ask for. Memory is watched each second, and a job that takes more than it asked for is killed.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = Path("/etc/slurm")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
WRITTEN = "# Written by a test; what stood here before is in the file .kept beside.\n"
NODES = ("n1", "n2")


class NoSlurm(Exception):
    """Says why no Slurm can be started here."""


def installed() -> None:
    """Make sure that the programs are there, by Debian's packages if need be; raises NoSlurm."""
    if os.geteuid() != 0:
        raise NoSlurm("only root can start a Slurm")
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise NoSlurm("no Slurm here, and no apt-get to install slurm-wlm and munge with")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]):
        done = subprocess.run(["apt-get", *command], env=quiet, capture_output=True, text=True)
        if done.returncode:
            raise NoSlurm(f"apt-get {' '.join(command)} failed: {done.stderr[-300:]}")


@contextmanager
def local_slurm(folder: Path) -> Iterator[None]:
    """Run Slurm with its state, spool and logs in `folder`; raises NoSlurm where that cannot be."""
    installed()
    if said("sinfo", check=False).returncode == 0:
        raise NoSlurm("another Slurm runs here")
    processes = []
    gpus = "".join(f"Name=gpu File=/dev/{name}\n" for name in ("null", "zero", "full"))
    with settings({"slurm.conf": slurm_conf(folder), "gres.conf": gpus}):
        try:
            for command in daemons(folder):
                log = open(folder / f"{'-'.join(map(str, command[:3])).replace('/', '_')}.out", "w")  # noqa: SIM115
                # They end with the tests, even with killed ones.
                command = ["setpriv", "--pdeathsig", "TERM", *map(str, command)]
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
                log.close()
                if len(processes) == 1:
                    wait_until((folder / "munge.socket").exists)
            wait_until(lambda: states() == dict.fromkeys(NODES, "idle"))
            yield
        finally:
            if processes and processes[1:]:
                said("scancel", "--signal=KILL", "--full", "--user=root", check=False)
                said("scancel", "--user=root", check=False)
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def daemons(folder: Path) -> list[list]:
    """The commands that make a Slurm, none of which goes to the background."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
    munge = [f"--{option}={folder / name}" for option, name in files.items()]
    return [
        ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", node] for node in NODES),
    ]


def slurm_conf(folder: Path) -> str:
    folder.chmod(0o755)
    (folder / "state").mkdir()
    return f"""
ClusterName=test
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
MpiDefault=none
ReturnToService=2
KillWait=10
MinJobAge=86400
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=4 RealMemory=64000 Gres=gpu:3
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def settings(texts: dict[str, str]) -> Iterator[None]:
    """Let files of /etc/slurm say these texts, for a while; a killed test's are of no account."""
    SETTINGS.mkdir(exist_ok=True)
    for name, text in texts.items():
        path, kept = SETTINGS / name, SETTINGS / f"{name}.kept"
        if path.exists() and not path.read_text(encoding="utf-8").startswith(WRITTEN):
            path.rename(kept)
        path.write_text(WRITTEN + text, encoding="utf-8")
    try:
        yield
    finally:
        for name in texts:
            (SETTINGS / name).unlink()
            if (SETTINGS / f"{name}.kept").exists():
                (SETTINGS / f"{name}.kept").rename(SETTINGS / name)


def said(*command: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run a program of Slurm; what it says comes as text."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


def states() -> dict[str, str]:
    """The state of each node."""
    return dict(line.split() for line in said("sinfo", "-hN", "-o", "%N %t", check=False).stdout.splitlines())


def wait_until(done, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
