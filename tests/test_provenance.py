"""What a result came from: fingerprints of code, checksums of archives, what a rule says when it fails."""

import json
import logging
import sys
import types
from dataclasses import replace

import pytest

from polclip import provenance
from polclip.definitions import model_check
from polclip.devices import choose_device
from polclip.downloads.manifest import ByHand, Dataset, Pip
from polclip.errors import UserError
from polclip.rule_log import rule_log
from polclip.setup_check import check_setup


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A little package of its own, and a way to write its modules."""
    root = tmp_path / "polclip"
    monkeypatch.setattr(provenance, "PACKAGE", root)

    def write(name, text):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        provenance._parsed.cache_clear()

    write("__init__.py", "")
    write("model/__init__.py", "")
    write("model/losses.py", '"""Doc."""\nimport numpy\n\ndef loss(x):\n    """Doc."""\n    return x + 1  # why\n')
    write("model/fusion.py", "from .losses import loss\n")
    write("train.py", "def train():\n    from polclip.model import fusion\n    return fusion\n")
    write("score.py", "import polclip.files\n")
    write("files.py", "A = 1\n")
    yield write
    provenance._parsed.cache_clear()


def test_comments_docstrings_and_layout_do_not_count(package):
    before = provenance.fingerprint("polclip.train")
    package("model/losses.py", '"""Other."""\nimport numpy\ndef loss(x):\n    "Other."\n\n    return (x\n  + 1)\n')
    assert provenance.fingerprint("polclip.train") == before


def test_an_edit_counts_for_all_that_import_the_module_and_no_other(package):
    train, score = provenance.fingerprint("polclip.train"), provenance.fingerprint("polclip.score")
    package("model/losses.py", '"""Doc."""\nimport numpy\n\ndef loss(x):\n    return x + 2\n')
    assert provenance.fingerprint("polclip.train") != train
    assert provenance.fingerprint("polclip.score") == score
    package("files.py", "A = 2\n")
    assert provenance.fingerprint("polclip.score") != score


def test_a_string_that_is_no_docstring_counts(package):
    before = provenance.fingerprint("polclip.files")
    package("files.py", 'A = 1\nB = "text"\n')
    changed = provenance.fingerprint("polclip.files")
    package("files.py", 'A = 1\nB = "other"\n')
    assert len({before, changed, provenance.fingerprint("polclip.files")}) == 3


def test_the_packages_on_the_way_count(package):
    before = provenance.fingerprint("polclip.train")
    package("model/__init__.py", "X = 1\n")
    assert provenance.fingerprint("polclip.train") != before


def test_data_files_count_by_content(package, tmp_path):
    package("tables/a.tsv", "1\n")
    before = provenance.fingerprint("polclip.files", files=["tables/a.tsv"])
    package("tables/a.tsv", "2\n")
    assert provenance.fingerprint("polclip.files", files=["tables/a.tsv"]) != before


def test_a_module_that_does_not_exist_is_an_error(package):
    with pytest.raises(FileNotFoundError, match=r"polclip\.nothing"):
        provenance.fingerprint("polclip.nothing")


def test_a_script_counts_what_it_imports_but_not_how_it_logs(package, tmp_path):
    package("rule_log.py", "A = 1\n")
    script = tmp_path / "score.py"
    script.write_text("from polclip.score import x\nfrom polclip.rule_log import rule_log\nimport json\n")
    before = provenance.script_fingerprint(script)
    package("rule_log.py", "A = 2\n")
    assert provenance.script_fingerprint(script) == before
    package("score.py", "import polclip.files\nx = 1\n")
    assert provenance.script_fingerprint(script) != before


def test_a_script_counts_itself_but_not_its_comments(package, tmp_path):
    script = tmp_path / "score.py"
    script.write_text("from polclip.score import x\nprint(x)\n")
    before = provenance.script_fingerprint(script)
    script.write_text('"""Doc."""\nfrom polclip.score import x  # why\n\nprint(x)\n')
    assert provenance.script_fingerprint(script) == before
    script.write_text("from polclip.score import x\nprint(x + 1)\n")
    assert provenance.script_fingerprint(script) != before


def dataset(name, **more):
    entry = {"file": f"{name}.zip", "version": "1", "licence": "MIT", "description": "d", "citation": "c"}
    return Dataset(name=name, **{**entry, "source": Pip("p", "1", "wheel"), **more})


def test_provenance_tells_archives_settings_and_what_was_skipped(tmp_path):
    known, recorded, neither = (tmp_path / f"{name}.zip" for name in "abc")
    for path in (known, recorded, neither):
        path.write_bytes(b"abc")
    (tmp_path / "b.zip.sha256").write_text("beef  b.zip\n")
    (tmp_path / "skipped.json").write_text('{"too large": 2, "missing": 0}')
    (tmp_path / "counts.json").write_text('{"ALL": {"instances": 9, "gold_missing": 1}}')
    output = tmp_path / "provenance.json"
    provenance.write_provenance(
        output,
        {"name": "x", "seeds": [1]},
        [(dataset("a", sha256="f00d"), known), (dataset("b"), recorded), (dataset("c"), neither)],
        [("embed_pictures noto", tmp_path / "skipped.json")] * 2,
        {"unified_wsd": tmp_path / "counts.json"},
    )
    told = json.loads(output.read_text())
    assert [archive["sha256"][:4] for archive in told["archives"]] == ["f00d", "beef", "ba78"]
    assert {archive["size"] for archive in told["archives"]} == {3}
    assert told["config"] == {"name": "x", "seeds": [1]}
    assert told["versions"]["python"] == sys.version.split()[0] and "numpy" in told["versions"]
    assert told["skipped"] == [
        {"step": "embed_pictures noto", "reason": "too large", "count": 4},
        {
            "step": "unified_wsd ALL",
            "reason": "the gold is not among the candidates (kept)",
            "count": 1,
        },
    ]


def job(tmp_path):
    return types.SimpleNamespace(log=[str(tmp_path / "logs" / "rule.log")], rule="train")


def test_a_user_error_is_one_sentence_and_no_traceback(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped, rule_log(job(tmp_path)):
        logging.getLogger("polclip").info("reading")
        raise UserError("There is no gold.")
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "train: There is no gold.\n"
    log = (tmp_path / "logs" / "rule.log").read_text()
    assert "reading" in log and "There is no gold." in log and "Traceback" not in log


def test_another_error_leaves_its_traceback_in_the_log(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped, rule_log(job(tmp_path)):
        raise ZeroDivisionError("by zero")
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "ZeroDivisionError" in said and "rule.log" in said
    assert "Traceback" in (tmp_path / "logs" / "rule.log").read_text()


def test_the_log_ends_with_the_rule(tmp_path):
    with rule_log(job(tmp_path)):
        pass
    logging.getLogger("polclip").warning("after")
    assert "after" not in (tmp_path / "logs" / "rule.log").read_text()


def test_devices(monkeypatch):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert choose_device("auto", 1) == choose_device("cpu", 1) == "cpu"
        assert torch.get_num_threads() == 1
        with pytest.raises(UserError, match="no GPU"):
            choose_device("cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device("auto") == choose_device("cuda") == "cuda"
        assert choose_device("cpu") == "cpu"
        with pytest.raises(UserError, match=r"auto \| cpu \| cuda"):
            choose_device("gpu")
    finally:
        torch.set_num_threads(before)


def test_the_setup_is_told_without_the_key_itself(tmp_path, monkeypatch):
    config = {
        "name": "paper",
        "machine": {"device": "cpu"},
        "definitions": {"source": "openai", "of": ["visual"], "model": "gpt-6-luna", "base_url": ""},
        "accept_licences": ["b"],
    }
    (tmp_path / "a.zip").write_bytes(b"")
    sets = [
        dataset("a"),
        dataset("b", licence_note="Not for commercial use.", size=2_000_000_000),
        dataset("c", licence_note="Not for sale.", source=ByHand("Ask the librarian.")),
    ]
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    monkeypatch.setattr(model_check, "model_report", lambda definitions: f"{definitions['model']}: here")
    page = check_setup(config, sets, tmp_path)
    assert "OPENAI_API_KEY is set" in page and "canary" not in page and "\nmodel       gpt-6-luna: here\n" in page
    assert "1 of 3 present" in page and "2.00 GB and 1 of unknown size" in page
    assert "Ask the librarian." in page
    sets[2] = replace(sets[2], approximate_size=17_000_000_000)
    assert "still to come: about 19.00 GB\n" in check_setup(config, sets, tmp_path)
    assert "1 to accept" in page and "Not for sale." in page and "commercial" not in page
    assert "accept_licences: [b, c]" in page
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "OPENAI_API_KEY is not set: definitions need it" in check_setup(config, sets, tmp_path)
    config["definitions"]["base_url"] = "http://localhost:8000/v1"
    assert "not needed, unless http://localhost:8000/v1 asks for one" in check_setup(config, sets, tmp_path)
    config["definitions"]["of"] = []
    assert "not needed (definitions.source is openai, of none)" in check_setup(config, sets, tmp_path)
