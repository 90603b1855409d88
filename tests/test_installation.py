"""Where the project can be installed: in folders with blanks and other signs; elsewhere one sentence comes first."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from tiny_project import ROOT, copy_workflow, make_project, surroundings

from polclip import installation
from polclip.errors import UserError

ALLOWED = ["My Project (v1)", "it's mine", "[a] & b; c|d", "50% #1 *?!<>=", "back\\slash", "Ünï 項目", "-x", "~"]
REFUSED = ["{id}", "co:lon", "$HOME", 'a "b"', "`id`", "tab\there", "new\nline", "latin-\udce9"]


@pytest.fixture
def here(tmp_path):
    """Make a folder below tmp_path with the Makefile and the workflow."""

    def project(name):
        folder = copy_workflow(tmp_path / name)
        for file in ("Makefile", "requirements.lock", "requirements-uv.lock", "pyproject.toml"):
            shutil.copy(ROOT / file, folder)
        return folder

    return project


def test_a_job_runs_in_a_folder_whose_name_the_shell_would_take_apart(tmp_path, mirror):
    project = make_project(tmp_path / "My Project (v1), it's [mine]; 50% & more", mirror)
    (project / ".venv").symlink_to(sys.prefix)
    command = [
        project / ".venv/bin/python",
        "-m",
        "snakemake",
        "inventory",
        "--cores",
        "1",
        "--configfile",
        "tiny.yaml",
    ]
    ended = subprocess.run(command, cwd=project, env=surroundings(project), capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert list((project / "results/tiny/inventory").iterdir())


@pytest.mark.parametrize("name", ALLOWED)
def test_a_folder_may_have_these_signs(name):
    installation.check_folder(Path("/home") / name)


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_may_not_have_these(name):
    with pytest.raises(UserError, match="rename or move the folder"):
        installation.check_folder(Path("/home") / name / "polclip")


def test_the_check_needs_nothing_that_is_not_installed_yet(here):
    command = [sys.executable, "-S", "-m", "polclip.installation", "gpu"]  # -S: without site-packages
    ended = subprocess.run(command, cwd=here("plain"), env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.startswith("TORCH=gpu is unknown: type TORCH=cpu"), ended.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_such_a_folder_before_it_installs_anything(here):
    project = here("{id}")
    ended = subprocess.run(
        ["make", "demo", f"PYTHON={sys.executable}"], cwd=project, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0 and not (project / ".venv").exists()
    assert "its path has '{'" in ended.stderr and "Traceback" not in ended.stderr


def test_snakemake_refuses_such_a_folder_before_any_rule(here):
    project = here("co:lon")
    ended = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--configfile", "presets/demo.yaml"],
        cwd=project, env=surroundings(project), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode != 0 and "its path has ':'" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("platform", "arguments", "free", "enough"),
    [
        ("linux", [], 7.1, True),
        ("linux", [], 6.9, False),
        ("linux", ["cpu"], 2.1, True),
        ("linux", ["cpu"], 1.9, False),
        ("darwin", [], 2.1, True),
    ],
)
def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch, platform, arguments, free, enough):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "argv", ["installation.py", *arguments])
    small = namedtuple("Usage", "total used free")(10**10, 0, int(free * 10**9))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    if enough:
        installation.main()
    else:
        with pytest.raises(SystemExit, match=r"The installation needs .* GB free"):
            installation.main()


def test_what_is_there_already_needs_no_space_again(tmp_path, monkeypatch):
    small = namedtuple("Usage", "total used free")(10**10, 0, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    environment = tmp_path / ".venv"
    environment.mkdir()
    with pytest.raises(UserError):
        installation.check_disk(environment, 2 * 10**6)
    (environment / "wheel").write_bytes(bytes(10**6))  # an installation that was cut short
    installation.check_disk(environment, 2 * 10**6)
    (environment / "installed").touch()
    installation.check_disk(environment, 9 * 10**9)


def test_without_cuda_neither_torch_nor_its_libraries_are_of_the_lock(here):
    """What `make TORCH=cpu` leaves out of the lock, by the Makefile's own line."""
    project = here("plain")
    (line,) = (line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "awk '" in line)
    command = line.strip().removesuffix("> $$lock; \\")
    environment = os.environ | {"LC_ALL": "C"}
    kept = subprocess.run(["bash", "-c", command], cwd=project, env=environment, capture_output=True, text=True).stdout
    heads = [row for row in kept.splitlines() if row[0] not in " #"]
    whole = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    left_out = {row.split("==")[0] for row in whole if row[:1] not in (" ", "#") and row not in heads}
    assert {"torch", "torchvision", "triton", "cuda-toolkit", "nvidia-cublas"} <= left_out
    assert all(name.startswith(("torch", "triton", "cuda-", "nvidia-")) for name in left_out)
    assert kept.count("--hash") > 1000
