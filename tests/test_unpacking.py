"""Archives that strangers made: what is read of them, and what is refused."""

import io
import os
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from polclip.downloads.unpacking import open_members, read_member, unpack
from polclip.errors import UserError


def make_zip(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return path


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "../../outside"
            archive.addfile(info)
    return path


@pytest.fixture(params=[(make_zip, "a.zip"), (make_tar, "a.tar.gz")], ids=["zip", "tar"])
def make(request, tmp_path):
    maker, name = request.param
    return lambda members, link=None: maker(tmp_path / name, members, link)


MEMBERS = {"d/dict/index.sense": b"bat%1:05:00::\n", "d/dict/data.noun": b"bat" * 9, "d/README": b"about"}


def test_members_are_read_by_pattern(make):
    archive = make(MEMBERS)
    found = {name: stream.read() for name, stream in open_members(archive, ["*/dict/*", "*/README"])}
    assert found == MEMBERS
    assert read_member(archive, "*/index.sense") == MEMBERS["d/dict/index.sense"]
    [lines] = [list(io.TextIOWrapper(stream)) for _, stream in open_members(archive, "*.sense")]
    assert lines == ["bat%1:05:00::\n"]


def test_a_pattern_that_matches_nothing_or_too_much_is_an_error(make):
    archive = make(MEMBERS)
    with pytest.raises(UserError, match=r"no member like \*\.exc"):
        list(open_members(archive, ["*/README", "*.exc"]))
    assert len(list(open_members(archive, ["*/README", "*.exc"], missing_ok=True))) == 1
    with pytest.raises(UserError, match="several members"):
        read_member(archive, "d/dict/*")
    with pytest.raises(UserError, match="larger than allowed"):
        read_member(archive, "*/data.noun", max_bytes=20)


def test_unpack_makes_the_folder(make, tmp_path):
    assert unpack(make(MEMBERS), tmp_path / "out") == 3
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == MEMBERS


@pytest.mark.parametrize("name", ["../evil", "d/../../evil", "/evil", "C:/evil", "d\\..\\evil"])
def test_members_that_point_outside_are_refused(make, tmp_path, name):
    archive = make({"d/README": b"about", name: b"x"})
    with pytest.raises(UserError, match="outside"):
        unpack(archive, tmp_path / "deep" / "out")
    assert os.listdir(tmp_path / "deep") == [] and not (tmp_path / "evil").exists()


def test_links_are_refused(make, tmp_path):
    archive = make({"README": b"about"}, link="d/link")
    with pytest.raises(UserError, match="d/link is a link"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bombs_are_refused(make, tmp_path):
    with pytest.raises(UserError, match="larger than allowed"):
        unpack(make({"a": bytes(600_000), "b": bytes(600_000)}), tmp_path / "out", max_bytes=1_000_000)
    with pytest.raises(UserError, match="more than 2 files"):
        unpack(make(MEMBERS), tmp_path / "out", max_files=2)
    assert not (tmp_path / "out").exists()


def test_a_file_where_a_folder_should_be_is_refused(make, tmp_path):
    with pytest.raises(UserError, match="want the name"):
        unpack(make({"a": b"1", "a/b": b"2"}), tmp_path / "out")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_archive_is_named_and_leaves_nothing(make, tmp_path, keep):
    archive = make({f"{n}.bin": random.Random(n).randbytes(20_000) for n in range(5)})
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * keep)])
    with pytest.raises(UserError, match=f"{archive.name} is broken"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(UserError, match="is broken"):
        [stream.read() for _, stream in open_members(archive, "*")]
    assert not (tmp_path / "out").exists()


def test_flipped_byte_in_a_zip_is_found(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.bin": random.Random(1).randbytes(5_000)})
    data = bytearray(archive.read_bytes())
    data[2_000] ^= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(UserError, match="is broken"):
        read_member(archive, "a.bin")


def test_no_archive_at_all(tmp_path):
    (tmp_path / "a.zip").write_text("hello")
    with pytest.raises(UserError, match="is broken or no zip"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(UserError, match="There is no archive"):
        read_member(tmp_path / "b.zip", "*")
