"""Where a model is opened from: a folder, a repository of the model hub; what a saved model says of itself."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
from hub_server import serving_model
from models_in_use import make_archives, write_model
from tiny_project import ROOT

import polclip
from polclip import Disambiguator
from polclip.errors import UserError
from polclip.model.polclip import PolCLIP
from polclip.opening import open_model


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return make_archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, archives):
    """The results of a run with two models."""
    results = tmp_path_factory.mktemp("run") / "results" / "tiny"
    for seed in (1, 2):
        write_model(results / "models" / "main" / f"seed-{seed}", "frozen", archives)
    return results


@pytest.mark.parametrize("depth", ["", "models", "models/main"])
def test_a_folder_above_models_is_refused_with_the_models_below_it(run_folder, depth):
    with pytest.raises(UserError, match=r"is not a model: it has no model\.safetensors") as refused:
        open_model(run_folder / depth)
    assert f"--model {run_folder}/models/main/seed-1" in str(refused.value) and "seed-2" in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "../x", "a/b/c"])
def test_what_can_be_neither_a_folder_nor_a_repository_is_refused(name):
    with pytest.raises(UserError, match=r"does not exist.*make demo"):
        open_model(name)


def senses(model, archives, hub, home, *options):
    environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(home)}
    command = [sys.executable, "-m", "polclip.cli", "senses", "we saw the bat", "--target", "bat", "--json"]
    command += ["--model", model, "--archives", str(archives), *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_a_repository_of_the_model_hub_is_used_like_a_folder(run_folder, archives, tmp_path):
    folder = run_folder / "models" / "main" / "seed-1"
    with serving_model(folder, "someone/polclip") as hub:
        answered = senses("someone/polclip", archives, hub, tmp_path)
        unknown = senses("someone/else", archives, hub, tmp_path)
    assert answered.returncode == 0, answered.stderr
    (word,) = json.loads(answered.stdout)["words"]
    expected = Disambiguator.from_pretrained(folder, archives=archives, download=False).senses("we saw the bat", "bat")
    assert [sense["sense_key"] for sense in word["senses"]] == [s.sense_key for s in expected.words[0].senses]
    assert unknown.returncode == 2 and "neither a folder here nor a repository" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    again = senses("someone/polclip", archives, "http://127.0.0.1:9", tmp_path, "--offline")
    assert again.returncode == 0 and again.stdout == answered.stdout


def test_a_saved_model_has_a_card_without_blanks(run_folder, archives, tmp_path):
    PolCLIP.from_pretrained(run_folder / "models" / "main" / "seed-1").save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "More Information Needed" not in card and "PairPolCLIP" in card and "library_name: polclip" in card
    encoders = json.loads((tmp_path / "saved" / "encoders.json").read_text())
    assert all(encoders[role]["sha256"] in card for role in ("text", "image", "inventory"))


def test_a_pushed_model_s_card_names_its_repository(run_folder, archives, monkeypatch):
    sent = []
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.HfApi.create_repo", lambda self, repo_id, **_: type("Url", (), {"repo_id": repo_id})
    )
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.HfApi.upload_folder",
        lambda self, folder_path, **_: sent.append((folder_path / "README.md").read_text()),
    )
    PolCLIP.from_pretrained(run_folder / "models" / "main" / "seed-1").push_to_hub("someone/polclip")
    assert 'Disambiguator.from_pretrained("someone/polclip")' in sent[0]


def test_the_version_has_one_source():
    assert importlib.metadata.version("polclip") == polclip.__version__
    said = subprocess.run([sys.executable, "-m", "polclip.cli", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout == f"polclip {polclip.__version__}\n"


def test_a_disambiguator_says_what_it_is_in_one_line(run_folder, archives):
    folder = run_folder / "models" / "main" / "seed-1"
    opened = Disambiguator.from_pretrained(folder, archives=archives, download=False)
    assert repr(opened) == (
        f"Disambiguator('{folder}': PairPolCLIP on cpu, 44 synsets, without an index of the glosses)"
    )
