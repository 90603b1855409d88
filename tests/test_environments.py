"""The environments for clusters: conda's file and the recipes of images hold the lock's versions, and no others."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
RECIPES = {"Dockerfile": r"^FROM (\S+)$", "polclip.def": r"^From: (\S+)$"}


def test_the_images_and_conda_have_one_python():
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text(encoding="utf-8"))
    (version,) = (part.partition("=")[2] for part in environment["dependencies"] if str(part).startswith("python="))
    for name, base in RECIPES.items():
        recipe = (ROOT / "containers" / name).read_text(encoding="utf-8")
        assert re.findall(base, recipe, re.MULTILINE) == [f"python:{version}-slim-bookworm"], name


def test_the_images_hold_the_lock_and_nothing_else():
    for name in RECIPES:
        recipe = (ROOT / "containers" / name).read_text(encoding="utf-8")
        installed = re.findall(r"(?:pip|apt-get|conda) install.*$", recipe, re.MULTILINE)
        assert installed == ["pip install --no-cache-dir --requirement /polclip/requirements.lock"], name
        assert re.search(r"requirements\.lock /polclip/", recipe), name
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert "!requirements.lock" in ignored


def test_what_the_profiles_need_is_in_the_lock():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    plugins = {"slurm": "executor-plugin-slurm", "cluster-generic": "executor-plugin-cluster-generic"}
    for profile in sorted((ROOT / "profiles").glob("*/config.yaml")):
        asked = yaml.safe_load(profile.read_text(encoding="utf-8"))
        if asked.get("executor") in plugins:
            assert f"snakemake-{plugins[asked['executor']]}==" in lock, profile
        if "default-storage-provider" in asked:
            assert f"snakemake-storage-plugin-{asked['default-storage-provider']}==" in lock, profile
