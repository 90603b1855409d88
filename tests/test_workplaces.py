"""What a killed process left is removed by the next one; what a living one writes to never is."""

import multiprocessing
import os
import signal
import tempfile
import time
from contextlib import contextmanager

import pytest

from polclip import workplaces
from polclip.files import complete_or_absent, write_text
from polclip.workplaces import scratch_folder, workplace

OTHER = "0" * 12
DAY = 24 * 3600


@pytest.fixture(autouse=True)
def new_process():
    """As in a process that has looked into no folder yet."""
    workplaces._swept.clear()


def write(path, ready, scratch):
    with complete_or_absent(path) as temporary, scratch_folder() as other:
        temporary.mkdir()
        (temporary / "states.npy").write_bytes(b"1" * 1000)
        (other / "unpacked").touch()
        scratch.put(str(other))
        ready.set()
        signal.pause()


@contextmanager
def writing(path):
    """Another process in the middle of writing a folder; its scratch folder."""
    context = multiprocessing.get_context("spawn")
    ready, scratch = context.Event(), context.Queue()
    process = context.Process(target=write, args=(path, ready, scratch))
    process.start()
    assert ready.wait(60)
    try:
        yield process, scratch.get()
    finally:
        process.kill()
        process.join()


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_to_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    with writing(tmp_path / "shard-1"), writing(tmp_path / "shard-0") as (killed, scratch):
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        assert len(hidden(tmp_path)) == 4 and len(hidden(tmp_path / "tmp")) == 4  # each a folder and its lock
        write_text(tmp_path / "other", "")  # another file of the same folder is enough
        assert [name for name in hidden(tmp_path) if ".shard-1." not in name] == [] and len(hidden(tmp_path)) == 2
        with scratch_folder():
            pass
        assert not os.path.exists(scratch) and len(hidden(tmp_path / "tmp")) == 2
    assert (tmp_path / "other").exists()


def left(folder, machine, age):
    """A folder that nobody holds, with a file of that age in seconds."""
    name = f".shard-0.polclip-{machine}-abc"
    (folder / name).mkdir()
    (folder / name / "states.npy").touch()
    (folder / f"{name}.lock").touch()
    for path in (folder / name / "states.npy", folder / name, folder / f"{name}.lock"):
        os.utime(path, (time.time() - age,) * 2)
    return folder / name


def test_a_folder_of_another_machine_is_removed_when_nothing_was_written_to_it_for_a_week(tmp_path):
    of_us, of_other = left(tmp_path, workplaces._machine(), 0), left(tmp_path, OTHER, 6 * DAY)
    write_text(tmp_path / "a", "")
    assert not of_us.exists() and of_other.exists()
    for path in (of_other / "states.npy", of_other):
        os.utime(path, (time.time() - 8 * DAY,) * 2)
    workplaces._swept.clear()
    write_text(tmp_path / "a", "")
    assert hidden(tmp_path) == []


def test_a_file_that_grows_keeps_an_old_folder_of_another_machine(tmp_path):
    path = left(tmp_path, OTHER, 8 * DAY)
    (path / "states.npy").write_bytes(b"more")
    write_text(tmp_path / "a", "")
    assert path.exists()


@pytest.mark.parametrize(
    "name", [".a.abcdefgh", ".a.polclip-zz-1", ".env", ".a.polclip-000000000000-1", "polclip", ".git.lock", ".lock"]
)
def test_what_is_not_ours_stays(tmp_path, name):
    (tmp_path / name).mkdir()
    os.utime(tmp_path / name, (0, 0))
    write_text(tmp_path / "a", "")
    assert (tmp_path / name).exists()


def test_a_lock_whose_folder_is_gone_is_removed(tmp_path):
    (tmp_path / f".a.polclip-{workplaces._machine()}-1.lock").touch()
    write_text(tmp_path / "a", "")
    assert hidden(tmp_path) == []


def test_a_disk_without_locks_is_written_to(tmp_path, monkeypatch):
    def none(*_, **__):
        raise OSError(37, "No locks available")

    path = left(tmp_path, workplaces._machine(), 0)
    monkeypatch.setattr(workplaces.FileLock, "acquire", none)
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text" and path.exists()  # nothing tells whether it is in use


def test_each_folder_is_looked_into_once(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(workplaces.os, "listdir", lambda folder: looked.append(folder) or [])
    for name in "abc":
        with workplace(tmp_path, name):
            pass
    assert looked == [tmp_path.resolve()]
