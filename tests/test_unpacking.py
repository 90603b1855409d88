"""Archives that strangers made: what is read of them, and what is refused."""

import gzip
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


# ---- what archives can be made to do


def refused(archive, tmp_path, told, **limits):
    """Neither way of reading gives it, each says why and names the archive, and nothing is left behind."""
    with pytest.raises(UserError, match=told) as error:
        unpack(archive, tmp_path / "new" / "out", **limits)
    assert archive.name in str(error.value)
    assert os.listdir(tmp_path / "new") == []
    with pytest.raises(UserError, match=told):
        for _, stream in open_members(archive, "*", **limits):
            while stream.read(1 << 16):
                pass


def patched(archive: Path, *changes: tuple[bytes, int, bytes]) -> Path:
    """Overwrite bytes at an offset behind each place of a mark."""
    data = bytearray(archive.read_bytes())
    for mark, offset, new in changes:
        at = data.find(mark)
        while at >= 0:
            data[at + offset : at + offset + len(new)] = new
            at = data.find(mark, at + 1)
    archive.write_bytes(bytes(data))
    return archive


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"  # marks of a zip's headers


def test_an_archive_in_an_archive_is_a_file_as_any_other(make, tmp_path):
    inner = make_zip(tmp_path / "inner.zip", {"bomb.bin": bytes(10**6)}).read_bytes()
    assert unpack(make({"d/inner.zip": inner}), tmp_path / "out", max_bytes=len(inner)) == 1
    assert (tmp_path / "out" / "d" / "inner.zip").read_bytes() == inner


@pytest.mark.parametrize(("stated", "told"), [(10, "a.bin.*Bad CRC"), (90_000, "a.bin has 50,000 bytes.*90,000")])
def test_a_member_that_lies_about_its_size(tmp_path, stated, told):
    archive = make_zip(tmp_path / "a.zip", {"a.bin": random.Random(0).randbytes(50_000)})
    size = stated.to_bytes(4, "little")
    refused(patched(archive, (LOCAL, 22, size), (CENTRAL, 24, size)), tmp_path, told)


def test_a_bomb_that_states_little_is_stopped_where_the_limit_is(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.bin": bytes(10**6)})
    size = (100).to_bytes(4, "little")
    refused(patched(archive, (LOCAL, 22, size), (CENTRAL, 24, size)), tmp_path, "a.bin", max_bytes=200)


def test_what_is_stated_to_be_too_large_is_not_begun(make, tmp_path, monkeypatch):
    archive = make({"a": b"1", "b": bytes(10**6)})
    written = []
    monkeypatch.setattr("polclip.files.os.replace", lambda *paths: written.append(paths))
    refused(archive, tmp_path, "b is larger than allowed", max_bytes=1000)
    assert written == []


def test_all_streams_together_have_a_limit(make):
    archive = make({f"{n}": bytes(1000) for n in range(5)})
    with pytest.raises(UserError, match="3 is larger than allowed"):
        [stream.read() for _, stream in open_members(archive, "*", max_bytes=1000, max_total_bytes=3500)]
    assert len([stream.read() for _, stream in open_members(archive, "*", max_bytes=1000, max_total_bytes=5000)]) == 5


def test_very_many_members_are_refused_whatever_their_number_is_said_to_be(make, tmp_path):
    archive = make({f"d/{n}": b"" for n in range(300)})
    refused(archive, tmp_path, "more than 200 files and folders", max_files=200)
    assert unpack(archive, tmp_path / "out", max_files=300) == 300
    if archive.suffix == ".zip":
        patched(archive, (END, 8, (1).to_bytes(2, "little") * 2))
        refused(archive, tmp_path, "more than 200 files and folders", max_files=200)


def test_members_that_match_nothing_count_too(make):
    archive = make({f"d/{n}": b"" for n in range(300)} | {"wanted": b""})
    with pytest.raises(UserError, match="more than 200"):
        list(open_members(archive, "wanted", max_files=200))


def test_the_directory_of_a_zip_is_counted_before_it_is_read(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {f"{n}": b"" for n in range(300)})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(UserError, match="more than 299"):
        unpack(archive, tmp_path / "out", max_files=299)


def test_folders_alone_and_folders_in_folders_have_limits(make, tmp_path):
    refused(make({f"d/{n}/x": b"" for n in range(30)}), tmp_path, "more than 20 ", max_files=20)
    archive = make({"d/" * 1500 + "x": b""})
    with pytest.raises(UserError, match="more than 64 folders deep"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("README"))
        member = tarfile.TarInfo("d/odd")
        member.type, member.linkname = kind, "README"
        archive.addfile(member)
    refused(tmp_path / "a.tar", tmp_path, "d/odd is a link or a device")


def test_a_link_in_a_zip_is_not_read_either(make):
    archive = make({"README": b"about"}, link="d/link")
    assert [name for name, _ in open_members(archive, "README")] == ["README"]
    with pytest.raises(UserError, match="d/link is a link"):
        list(open_members(archive, "d/*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("d/a", b"1")
        archive.writestr("d/a", b"2")
    refused(tmp_path / "a.zip", tmp_path, "two members want the name d/a")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("d/a"))
        archive.addfile(tarfile.TarInfo("d/a"))
    refused(tmp_path / "a.tar.gz", tmp_path, "two members want the name d/a")


def test_names_that_differ_in_case_alone(make, tmp_path):
    if (tmp_path / "A").mkdir() or (tmp_path / "a").exists():
        pytest.skip("this disk does not tell A from a")
    assert unpack(make({"d/Image.jpg": b"1", "d/image.JPG": b"2"}), tmp_path / "out") == 2


@pytest.mark.parametrize(("name", "told"), [("x" * 300, "cannot be written"), (".", "which is none")])
def test_names_that_no_file_can_have(make, tmp_path, name, told):
    with pytest.raises(UserError, match=told):
        unpack(make({name: b"1"}), tmp_path / "new" / "out")
    assert os.listdir(tmp_path / "new") == []


def test_an_encrypted_member_is_named(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"d/a": b"secret"})
    refused(patched(archive, (LOCAL, 6, b"\1"), (CENTRAL, 8, b"\1")), tmp_path, "d/a is encrypted")


def test_an_unknown_compression_is_named(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"d/a": b"odd"})
    refused(patched(archive, (LOCAL, 8, b"\x63"), (CENTRAL, 10, b"\x63")), tmp_path, "d/a is packed in a way")


def test_zip64(tmp_path, monkeypatch):
    """As archives beyond 4 GB or 65,535 files are written."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    archive = make_zip(tmp_path / "a.zip", MEMBERS)
    assert b"PK\6\6" in archive.read_bytes()
    assert unpack(archive, tmp_path / "out") == 3
    assert {name: stream.read() for name, stream in open_members(archive, "*")} == MEMBERS
    with pytest.raises(UserError, match="more than 2 files"):
        unpack(archive, tmp_path / "other", max_files=2)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_claims_gigabytes_is_not_read_into_memory(tmp_path, kind):
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 7 << 30
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10**5)))
    refused(archive, tmp_path, "a header claims 7,516,192,768 bytes")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    make_tar(tmp_path / "a.tar.gz", {"a": b"1", "b": b"2", "c": b"3"})
    data = bytearray(gzip.decompress((tmp_path / "a.tar.gz").read_bytes()))
    data[1024 + 150] ^= 1  # in the checksum of b's header
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(bytes(data)))
    refused(tmp_path / "b.tar.gz", tmp_path, "a header in the middle is damaged")


def test_a_changed_byte_under_gzip_is_found(tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", {"a.bin": random.Random(0).randbytes(20_000)})
    data = bytearray(archive.read_bytes())
    data[10_000] ^= 1
    archive.write_bytes(bytes(data))
    refused(archive, tmp_path, "is broken")


def test_archives_that_are_cut_off_anywhere(make, tmp_path):
    archive = make({f"d/{n}.bin": random.Random(n).randbytes(700) for n in range(4)})
    whole = archive.read_bytes()
    for keep in range(1, len(whole), 211):
        archive.write_bytes(whole[:keep])
        with pytest.raises(UserError, match=archive.name):
            unpack(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_damage_anywhere_ends_as_one_clear_error_or_gives_files(make, tmp_path):
    archive = make({f"d/{n}.bin": random.Random(n).randbytes(200) for n in range(3)})
    whole, rng = archive.read_bytes(), random.Random(0)
    if archive.suffix == ".gz":  # whose checksum would find it all
        archive, whole = tmp_path / "a.tar", gzip.decompress(whole)[:3500]
    for number in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3, 20])):
            data[rng.randrange(len(data))] = rng.choice([0, 255, rng.randrange(256)])
        archive.write_bytes(bytes(data))
        try:
            unpack(archive, tmp_path / f"{number}", max_bytes=10**6)
        except UserError as error:
            assert archive.name in str(error)
            assert not (tmp_path / f"{number}").exists()
