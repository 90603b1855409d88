"""The environments: locked with checksums, the same for conda and the recipes of images as for `make`."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
RECIPES = ("Dockerfile", "polclip.def")
LOCKS = ("requirements.lock", "requirements-uv.lock")
INSTALLED = [
    "pip install --no-cache-dir --require-hashes --requirement /polclip/requirements-uv.lock",
    "uv pip install --system --no-cache --no-deps --require-hashes --build-constraints /polclip/requirements.lock "
    "--requirement /polclip/requirements.lock",
]


def locked(name):
    """The packages of a lock, each with the text behind it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    packages = re.split(r"^(?=[A-Za-z])", text, flags=re.MULTILINE)[1:]
    return {re.match(r"[A-Za-z0-9_.-]+", package)[0]: package for package in packages}


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_of_a_lock_has_one_version_and_checksums(name):
    assert locked(name)
    for package in locked(name).values():
        head, *checksums = package.replace(" \\\n", "\n").splitlines()
        (version,) = Requirement(head).specifier
        assert version.operator == "==" and "*" not in version.version, head
        assert checksums and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in checksums), head


def test_the_lock_holds_all_that_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    for names, lock in (
        (project["project"]["dependencies"] + groups["dev"], "requirements.lock"),
        (groups["uv"], "requirements-uv.lock"),
    ):
        held = {name.lower().replace("_", "-") for name in locked(lock)}
        assert {Requirement(name).name.lower().replace("_", "-") for name in names} <= held
    assert project["build-system"]["requires"][0].startswith("setuptools") and "setuptools" in locked(LOCKS[0])


def test_condas_environment_is_the_lock():
    spec = importlib.util.spec_from_file_location("lock", ROOT / "containers" / "lock.py")
    lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock)
    written = (ROOT / "environment.yaml").read_text(encoding="utf-8")
    assert written == lock.environment((ROOT / "requirements.lock").read_text(encoding="utf-8")), "type make lock"
    packages = yaml.safe_load(written)["dependencies"][-1]["pip"]
    assert [package.split("==")[0] for package in packages] == [name for name in locked(LOCKS[0]) if name != "pip"]
    assert all("--hash=sha256:" in package for package in packages)


def test_the_images_and_conda_have_one_python():
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text(encoding="utf-8"))
    (version,) = (part.partition("=")[2] for part in environment["dependencies"] if str(part).startswith("python="))
    dockerfile, definition = ((ROOT / "containers" / name).read_text(encoding="utf-8") for name in RECIPES)
    base = rf"python:{re.escape(version)}\.\d+-slim-bookworm"
    tag, digest = re.search(rf"^FROM ({base})@(sha256:[0-9a-f]{{64}})$", dockerfile, re.MULTILINE).groups()
    assert re.search(rf"^From: python@{digest}$", definition, re.MULTILINE) and tag in definition


def test_the_images_hold_the_lock_and_nothing_else():
    for name in RECIPES:
        recipe = (ROOT / "containers" / name).read_text(encoding="utf-8")
        assert re.findall(r"(?:uv pip|(?<!uv )pip|apt-get|conda) install.*$", recipe, re.MULTILINE) == INSTALLED, name
        for lock in LOCKS:
            assert lock in re.findall(r"(?<!/polclip/)requirements[a-z-]*\.lock", recipe), name
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert {f"!{lock}" for lock in LOCKS} <= set(ignored)


def test_what_the_profiles_need_is_in_the_lock():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    plugins = {"slurm": "executor-plugin-slurm", "cluster-generic": "executor-plugin-cluster-generic"}
    for profile in sorted((ROOT / "profiles").glob("*/config.yaml")):
        asked = yaml.safe_load(profile.read_text(encoding="utf-8"))
        if asked.get("executor") in plugins:
            assert f"snakemake-{plugins[asked['executor']]}==" in lock, profile
        if "default-storage-provider" in asked:
            assert f"snakemake-storage-plugin-{asked['default-storage-provider']}==" in lock, profile
