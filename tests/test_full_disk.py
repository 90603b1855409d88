"""A full disk, a used-up quota and a file that may not grow end in one sentence, whatever library writes."""

import errno
import os
import resource
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from polclip.encoders.feature_store import shard_writer
from polclip.errors import UserError
from polclip.files import complete_or_absent, write_json, write_json_lines, write_parquet, write_table
from polclip.full_disk import full_disk
from polclip.rule_log import rule_log
from polclip.training.state import MetricsLog, SavedState

NUMBERS = np.random.default_rng(0).random(100_000, dtype=np.float32)  # which no compression makes smaller
LIMIT = 100_000


@pytest.fixture
def small_files():
    """No file of this process may have more than 100 kB: the real error of the system, in every library."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def features(path):
    with shard_writer(path) as writer:
        writer.add(["a"], [NUMBERS[:, None]], np.zeros((1, 2)))


def weights(path):
    SavedState(path.parent, 1).save_best({"a": torch.from_numpy(NUMBERS)}, path.name)


def state(path):
    SavedState(path.parent, 1).save({"model": torch.from_numpy(NUMBERS), "position": {"best_file": ""}})


def picture(path):
    with complete_or_absent(path) as temporary:
        Image.fromarray((NUMBERS * 255).astype(np.uint8).reshape(250, 400)).resize((1000, 1000)).save(temporary)


WRITERS = {
    "a.json": lambda path: write_json(path, NUMBERS.tolist()),
    "a.jsonl": lambda path: write_json_lines(path, NUMBERS.tolist()),
    "a.parquet": lambda path: write_parquet(path, ({"x": x} for x in NUMBERS.tolist()), pa.schema([("x", "float32")])),
    "a.tsv": lambda path: write_table(path, pd.DataFrame({"x": NUMBERS})),
    "a.png": picture,
    "best-1.safetensors": weights,
    "state.pt": state,
    "shard-0": features,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_tells_of_a_file_that_may_not_grow_and_leaves_nothing(tmp_path, small_files, name):
    with pytest.raises(UserError) as caught:
        WRITERS[name](tmp_path / name)
    assert str(caught.value) == (
        f"The largest size of a file is reached (see `ulimit -f`) while writing {tmp_path / name}. "
        "Nothing half-written was kept: free some space and run the same command again."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("a"),
        lambda path: torch.save({"a": torch.zeros(9)}, path.open("wb")),
        lambda path: pd.DataFrame({"a": [1]}).to_parquet(path),
    ],
)
def test_a_full_disk_is_told(tmp_path, write):
    with (
        pytest.raises(UserError, match=r"^No space left on the disk while writing .*a\.bin\. Nothing half-written"),
        complete_or_absent(tmp_path / "a.bin") as temporary,
    ):
        temporary.symlink_to("/dev/full")
        write(temporary)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EDQUOT, "The disk quota is used up while"), (errno.ENOSPC, "No space left on the disk")]
)
def test_a_quota_is_told_however_deep_its_error_is(tmp_path, number, said):
    def by_python():
        raise OSError(number, os.strerror(number))

    def by_torch():
        try:
            by_python()
        finally:
            raise RuntimeError("unexpected pos 704 vs 598")

    def by_rust():
        raise RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})")

    for fail in (by_python, by_torch, by_rust):
        with pytest.raises(UserError, match=f"^{said}"), complete_or_absent(tmp_path / "a"):
            fail()
    with pytest.raises(PermissionError), complete_or_absent(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert full_disk(RuntimeError("(os error 13)")) is None


def test_where_no_folder_can_be_made_the_file_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(UserError, match=r"^The disk quota is used up while writing .*a\.json"):
        write_json(tmp_path / "a.json", 1)


def test_the_log_of_a_training_tells_too(tmp_path, small_files):
    log = MetricsLog(tmp_path, 0, 0.0)
    with pytest.raises(UserError, match=r"while writing .*metrics\.jsonl\. The state that was saved last is kept"):
        log.write(1, {"x": "long" * LIMIT})


def test_a_rule_ends_in_one_line_and_a_full_log_says_nothing_more(tmp_path, small_files, capsys):
    job = types.SimpleNamespace(log=[str(tmp_path / "rule.log")], rule="train")
    with pytest.raises(SystemExit), rule_log(job) as log:
        log.warning("x" * 2 * LIMIT)
        raise OSError(errno.ENOSPC, "No space left on device", "elsewhere")
    said = capsys.readouterr().err
    assert said.startswith("train: No space left on the disk") and "elsewhere" in said and said.count("\n") == 1
    assert "free some space and run the same command again" in said


def test_a_log_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "logs").write_text("a file")
    with (
        pytest.raises(SystemExit),
        rule_log(types.SimpleNamespace(log=[str(tmp_path / "logs" / "a.log")], rule="train")),
    ):
        pass
    assert capsys.readouterr().err.count("\n") == 1
