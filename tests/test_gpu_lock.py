"""Jobs side by side on a machine without a scheduler take different GPUs."""

import os
import subprocess
import sys
import time

import pytest

from polclip import gpu_lock
from polclip.errors import UserError

CLAIM = """
import os, sys
from pathlib import Path
from polclip.gpu_lock import claim_gpus
claim_gpus(int(sys.argv[1]), Path(sys.argv[2]), pause=0.05)
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Start a job that claims GPUs of those named, tells which it got, and keeps them until it is ended."""
    jobs = []

    def start(wanted, there="0,1", **environment):
        kept = {name: value for name, value in os.environ.items() if name not in gpu_lock.SCHEDULERS}
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-c", CLAIM, str(wanted), str(tmp_path)],
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=kept | {"CUDA_VISIBLE_DEVICES": there, **environment},
            )
        )
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def test_two_jobs_take_different_gpus_and_the_third_waits_for_one(start):
    first, second = start(1), start(1)
    got = [job.stdout.readline().strip() for job in (first, second)]
    assert sorted(got) == ["0", "1"]
    third = start(1)
    time.sleep(1.5)
    second.kill()  # a killed job holds nothing
    assert third.stdout.readline().strip() == got[1]


def test_a_job_of_several_takes_all_at_once(start):
    assert start(1, "4,GPU-a,GPU-b").stdout.readline().strip() == "4"
    assert start(2, "4,GPU-a,GPU-b").stdout.readline().strip() == "GPU-a,GPU-b"


def test_a_scheduler_has_chosen_already(start):
    for _ in range(2):
        assert start(1, "0", SLURM_JOB_ID="7").stdout.readline().strip() == "0"


def test_none_wanted_and_none_there_change_nothing(start):
    assert start(0).stdout.readline().strip() == "0,1"
    assert start(1, "").stdout.readline().strip() == ""


def test_more_than_there_are_is_an_error(monkeypatch, tmp_path):
    for name in gpu_lock.SCHEDULERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match="asks for 4 GPUs, and 2 are here"):
        gpu_lock.claim_gpus(4, tmp_path)
