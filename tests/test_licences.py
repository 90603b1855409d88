"""Data sets that may not be used for everything come only after their names stand in the config."""

import re
from pathlib import Path

import pytest
import yaml
from download_server import BODY, dataset, fetch_quickly, serving
from tiny_project import ROOT, copy_workflow, planned, snakemake, write_yaml, write_zip

from polclip.downloads.manifest import ByHand, Http
from polclip.errors import UserError

NOTE = "Not for commercial use."
ARCHIVES = ROOT.parent / "shared" / "data" / "archives"
AT_HAND = {
    "WSD_Unified_Evaluation_Datasets.zip": 422_713,
    "semcor3.0.tar.gz": 4_058_507,
    "wsd_hard_benchmark.zip": 686_616,
    "semeval-2023-task-1-V-WSD-train-v1.zip": 5_070_873,
    "test.data.v1.1.gold.zip": 41_169,
}


def bats(source, name="bats", **changes):
    return dataset(source, **{"name": name, "licence": "CC-BY-NC-4.0", "licence_note": NOTE, **changes})


@pytest.fixture(params=["source", "mirror", "web mirror", "by hand"])
def place(request, tmp_path):
    """Each place that an archive may come from: the data set and the arguments of fetch, and the server's requests."""
    destination = tmp_path / "resources" / "archives" / "bats.zip"
    with serving() as server:
        if request.param in ("mirror", "by hand"):
            folder = tmp_path / ("mirror" if request.param == "mirror" else "resources/by_hand")
            folder.mkdir(parents=True)
            (folder / "bats.zip").write_bytes(BODY)
        mirror = {"mirror": str(tmp_path / "mirror"), "web mirror": server.url.removesuffix("/bats.zip")}
        source = Http((server.url,)) if request.param == "source" else ByHand("Ask.")
        yield source, (destination, mirror.get(request.param)), server.paths


def test_nothing_is_fetched_from_anywhere_before_the_licence_is_accepted(place):
    source, where, requests = place
    with pytest.raises(UserError) as error:
        fetch_quickly(bats(source), *where, accept_licences=["cats"])
    told = str(error.value)
    assert "`bats`" in told and "CC-BY-NC-4.0 (Not for commercial use)" in told
    assert told.splitlines()[-1] == "    accept_licences: [cats, bats]"
    assert requests == [] and not where[0].exists()
    fetch_quickly(bats(source), *where, accept_licences=["cats", "bats"])
    assert where[0].read_bytes() == BODY


def test_the_error_lists_all_of_the_run_that_are_still_to_accept(tmp_path):
    archives = tmp_path / "archives"
    archives.mkdir()
    (archives / "there.zip").write_bytes(BODY)
    ask = ByHand("Ask.")
    run = [
        bats(ask),
        bats(ask, "accepted", file="accepted.zip"),
        bats(ask, "there", file="there.zip"),
        bats(ask, "owls", file="owls.zip"),
        dataset(ask, name="free", file="free.zip"),
    ]
    with pytest.raises(UserError, match=r"names all data sets of this run") as error:
        fetch_quickly(bats(ask), archives / "bats.zip", accept_licences=["accepted"], run=run)
    assert yaml.safe_load(str(error.value).splitlines()[-1]) == {"accept_licences": ["accepted", "bats", "owls"]}


def test_an_archive_in_place_is_not_refused_again(tmp_path):
    destination = tmp_path / "archives" / "bats.zip"
    fetch_place = tmp_path / "by_hand"
    fetch_place.mkdir()
    (fetch_place / "bats.zip").write_bytes(BODY)
    fetch_quickly(bats(ByHand("Ask.")), destination, accept_licences=["bats"])
    assert fetch_quickly(bats(ByHand("Ask.")), destination)[0] == "already there"


# ---- in the workflow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The workflow, and a mirror with small archives under the names of the visual benchmark's."""
    folder = tmp_path_factory.mktemp("licences")
    project, mirror = copy_workflow(folder / "project"), folder / "mirror"
    mirror.mkdir()
    for name in ("semeval-2023-task-1-V-WSD-train-v1.zip", "test.data.v1.1.gold.zip", "test_images_resized.zip"):
        write_zip(mirror / name, {"a.txt": "a"})
    write_yaml(project / "mirror.yaml", {"archives_mirror": str(mirror)})
    return project


VWSD = [f"resources/archives/{name}" for name in ("test.data.v1.1.gold.zip", "test_images_resized.zip")]


def test_the_workflow_tells_the_line_and_runs_with_it(project):
    assert planned(project, *VWSD, presets=("mirror.yaml",)) == {"download": 2}
    done = snakemake(project, *VWSD, presets=("mirror.yaml",))
    said = done.stdout + done.stderr
    lines = {line.strip() for line in said.splitlines() if line.strip().startswith("accept_licences:")}
    assert done.returncode != 0 and len(lines) == 1, said
    assert "Traceback" not in said
    accepted = yaml.safe_load(lines.pop())
    manifest = yaml.safe_load((ROOT / "rules" / "datasets.yaml").read_text(encoding="utf-8"))
    assert {"vwsd_test", "vwsd_test_images", "vwsd_train"} <= set(accepted["accept_licences"])
    assert all(manifest[name].get("licence_note") for name in accepted["accept_licences"])
    write_yaml(project / "accepted.yaml", accepted)
    done = snakemake(project, *VWSD, presets=("mirror.yaml", "accepted.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((project / file).exists() for file in VWSD)


def test_an_archive_is_not_fetched_again_because_the_run_or_the_licences_changed(project):
    """After the test above: what the run's other data sets are is no reason to fetch 195 GB once more."""
    assert (project / VWSD[0]).exists()
    fewer = {"corpora": {"textual": {"test": ["unified_wsd/ALL"]}, "visual": {"train": ["image_vwsd_kb/pictures"]}}}
    write_yaml(project / "fewer.yaml", fewer)
    assert planned(project, *VWSD, presets=("mirror.yaml", "fewer.yaml")) == {}


def test_the_cpu_preset_needs_no_archive_by_hand_and_one_licence(tmp_path):
    project = copy_workflow(tmp_path / "project")
    done = snakemake(project, "-n", "datasets", presets=("presets/cpu.yaml",))
    assert done.returncode == 0, done.stdout + done.stderr
    asked = set(re.findall(r"^    output: resources/archives/([^,\n]+)", done.stdout + done.stderr, re.MULTILINE))
    manifest = yaml.safe_load((ROOT / "rules" / "datasets.yaml").read_text(encoding="utf-8"))
    needed = {name: entry for name, entry in manifest.items() if entry["file"] in asked}
    assert len(needed) == len(asked) > 10
    assert not [name for name, entry in needed.items() if "by_hand" in entry["source"]]
    assert sum(entry.get("size") or entry["approximate_size"] for entry in needed.values()) < 200e6
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (accepted,) = re.findall(r"^accept_licences: \[(.*)\]$", readme, re.MULTILINE)
    assert [name for name, entry in needed.items() if entry.get("licence_note")] == accepted.split(", ")


@pytest.mark.skipif(not Path(ARCHIVES).is_dir(), reason="the public archives are not at ../shared")
def test_a_folder_of_the_public_archives_serves_as_a_mirror_by_one_line(tmp_path):
    project = copy_workflow(tmp_path / "project")
    (project / "mirror.yaml").write_text(f"archives_mirror: {ARCHIVES}\n", encoding="utf-8")
    accepted = ["wsd_hard_benchmark", "vwsd_train", "vwsd_test"]
    write_yaml(project / "licences.yaml", {"accept_licences": accepted})
    asked = [f"resources/archives/{name}" for name in AT_HAND]
    done = snakemake(project, *asked, presets=("mirror.yaml", "licences.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: (project / "resources" / "archives" / name).stat().st_size for name in AT_HAND}
    assert found == AT_HAND
