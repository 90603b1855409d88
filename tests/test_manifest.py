"""The manifest of data sets: what is read from it, what is refused, and the workflow's own."""

import json
from pathlib import Path

import pytest
import yaml

from polclip.downloads.fetching import fetch
from polclip.downloads.manifest import Http, Npm, Pip, read_manifest
from polclip.downloads.unpacking import read_member
from polclip.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
MANIFEST = REPOSITORY / "rules" / "datasets.yaml"

ENTRY = {
    "file": "bats.zip",
    "version": "1.0",
    "licence": "CC0-1.0",
    "description": "Pictures of bats.",
    "citation": "None.",
    "source": {"http": {"urls": ["https://bats.example/bats.zip"]}},
}


def read(tmp_path, text_or_entries):
    path = tmp_path / "datasets.yaml"
    text = text_or_entries if isinstance(text_or_entries, str) else yaml.safe_dump(text_or_entries)
    path.write_text(text)
    return read_manifest(path, REPOSITORY / "rules" / "schemas" / "datasets.schema.yaml")


def test_manifest_gives_datasets(tmp_path):
    npm = {"npm": {"package": "@bats/json", "version": "1.2.3"}}
    manifest = read(tmp_path, {"bats": ENTRY, "icons": {**ENTRY, "file": "i.tgz", "size": 9, "source": npm}})
    assert manifest["bats"].source == Http(("https://bats.example/bats.zip",))
    assert manifest["bats"].sha256 is None
    assert manifest["icons"].source == Npm("@bats/json", "1.2.3") and manifest["icons"].size == 9


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"checksum": "x"}, ["unknown key `checksum`", "sha256"]),
        ({"licence": None}, ["`licence`", "None is not allowed", "string"]),
        ({"version": 1.0}, ["`version`", "1.0 is not allowed", "in quotes"]),
        ({"size": -1}, ["`size`", "-1", "1 or more"]),
        ({"approximate_size": "17 GB"}, ["`approximate_size`", "'17 GB'", "integer"]),
        ({"sha256": "ABC"}, ["`sha256`", "'ABC'", "[0-9a-f]{64}"]),
        ({"file": "../bats.zip"}, ["`file`", "'../bats.zip'"]),
        ({"source": {}}, ["`source`", "exactly one of pip, npm, http, by_hand"]),
        ({"source": {"ftp": {}}}, ["unknown key `ftp`", "pip, npm, http, by_hand"]),
        (
            {"source": {"pip": {"package": "bats", "version": "1.0", "form": "egg"}}},
            ["`source.pip.form`", "'egg'", "wheel, sdist"],
        ),
        ({"source": {"npm": {"package": "bats"}}}, ["`source.npm`", "missing `version`"]),
        ({"source": {"http": {"urls": ["ftp://bats"]}}}, ["`source.http.urls.0`", "'ftp://bats'"]),
    ],
)
def test_wrong_entries_are_told_in_plain_words(tmp_path, change, told):
    with pytest.raises(UserError) as error:
        read(tmp_path, {"bats": {**ENTRY, **change}})
    for piece in ["entry `bats`", "allowed" if "missing" not in told[1] else "needed", *told]:
        assert piece in str(error.value)


def test_wrong_manifests_are_refused(tmp_path):
    incomplete = {key: value for key, value in ENTRY.items() if key != "licence"}
    with pytest.raises(UserError, match="missing `licence`"):
        read(tmp_path, {"bats": incomplete})
    with pytest.raises(UserError, match="both have file"):
        read(tmp_path, {"bats": ENTRY, "more_bats": ENTRY})
    with pytest.raises(UserError, match="'Big Bats' is no name"):
        read(tmp_path, {"Big Bats": ENTRY})
    with pytest.raises(UserError, match=r":2: the key .bats. is given twice"):
        read(tmp_path, f"bats: {json.dumps(ENTRY)}\nbats: {json.dumps(ENTRY)}\n")
    with pytest.raises(UserError, match="not valid YAML"):
        read(tmp_path, "bats: [")
    with pytest.raises(UserError, match="no such file"):
        read_manifest(tmp_path / "nothing.yaml")


def test_the_manifest_of_the_workflow_is_valid():
    manifest = read_manifest(MANIFEST)
    packages = [entry for entry in manifest.values() if isinstance(entry.source, Pip | Npm)]
    assert len(packages) == 17
    assert all(entry.sha256 and entry.size for entry in packages)
    for entry in manifest.values():
        if "non-commercial" in entry.licence or "-NC-" in entry.licence:
            assert entry.licence_note
    assert all(entry.page for entry in manifest.values())
    # Their sources state none, and no copy was at hand.
    unknown = {"wsd_training_corpora", "xl_wsd", "babelpic", "dgpt_corpus"}
    assert {name for name, entry in manifest.items() if not (entry.size or entry.approximate_size)} == unknown


def test_archives_at_hand_fit_the_manifest(tmp_path):
    archives = REPOSITORY.parent / "shared" / "data" / "archives"
    if not archives.is_dir():
        pytest.skip("no ../shared/data/archives on this machine")
    manifest = read_manifest(MANIFEST)
    for name in ("wsd_framework", "semcor_tag_files", "wsd_hard_benchmark", "vwsd_train", "vwsd_test"):
        entry = manifest[name]
        fetch(entry, tmp_path / entry.file, str(archives), accept_licences=[name], log=lambda line: None)
        if entry.approximate_size < 1e9:  # the copy of the 17 GB has none of its pictures
            assert (tmp_path / entry.file).stat().st_size == pytest.approx(entry.approximate_size, rel=0.05)
    gold = read_member(tmp_path / "WSD_Unified_Evaluation_Datasets.zip", "*/ALL.gold.key.txt")
    assert len(gold.splitlines()) == 7253
