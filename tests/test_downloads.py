"""Downloads: over http (from a server on the loopback), from a mirror, by hand."""

import gzip
import io
import os
import random
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from download_server import BODY, Answer, dataset, fetch_quickly, sha256_of, zip_of

from polclip.downloads import disk
from polclip.downloads.manifest import ByHand, Http
from polclip.errors import UserError

# ---- http


def test_download_is_right_and_the_second_run_asks_for_nothing(server, destination):
    bats = dataset(Http((server.url,)), sha256=sha256_of(BODY), size=len(BODY))
    assert fetch_quickly(bats, destination)[0] == server.url
    assert destination.read_bytes() == BODY
    assert os.listdir(destination.parent) == ["bats.zip"]
    assert fetch_quickly(bats, destination)[0] == "already there"
    assert len(server.ranges) == 1


def test_cut_connection_is_resumed(server, destination):
    server.plan = ["cut", 503, "cut"]
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.ranges[1:]]
    assert 0 < starts[0] == starts[1] < starts[2]


def test_a_later_process_resumes_what_an_earlier_one_left(server, destination):
    bats = dataset(Http((server.url,)), sha256=sha256_of(BODY))
    server.plan = ["cut"]
    with pytest.raises(UserError, match="cut the connection"):
        fetch_quickly(bats, destination, attempts=1)
    assert not destination.exists()
    fetch_quickly(bats, destination)
    assert destination.read_bytes() == BODY
    assert server.ranges[1] is not None


@pytest.mark.parametrize(
    "note", ["null", "[]", "7", "{}", "", '{"url": 1', "\xff", '{"url": "URL", "total": 9}', "[" * 100_000]
)
def test_a_note_that_cannot_be_read_starts_the_download_anew_and_says_so(server, destination, note):
    destination.parent.mkdir(parents=True)
    destination.with_name("bats.zip.part").write_bytes(b"half")
    told = destination.with_name("bats.zip.part.json")
    told.write_bytes(note.replace("URL", server.url).encode("latin-1"))
    _, log = fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY and server.ranges == [None]
    assert f"{told} cannot be read: the download starts anew" in log


@pytest.mark.parametrize("total", ['"x"', "true", "-1", "1.5", "null", "[]"])
def test_a_note_of_an_odd_length_starts_the_download_anew(server, destination, total):
    destination.parent.mkdir(parents=True)
    destination.with_name("bats.zip.part").write_bytes(b"half")
    note = f'{{"url": "{server.url}", "validator": "", "total": {total}}}'
    destination.with_name("bats.zip.part.json").write_text(note)
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY and server.ranges == [None]


def test_a_file_that_changed_between_attempts_is_fetched_whole(server, destination):
    bats = dataset(Http((server.url,)))
    server.plan = ["cut"]
    with pytest.raises(UserError):
        fetch_quickly(bats, destination, attempts=1)
    server.body, server.tag = zip_of(1), '"two"'  # as long as the first
    fetch_quickly(bats, destination)
    assert destination.read_bytes() == server.body


def test_busy_server_is_asked_again(server, destination):
    server.plan = [503, 429]
    _, log = fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY
    assert any("503" in line for line in log)


def test_missing_page_is_not_asked_again_and_the_next_url_is(server, destination):
    server.plan = [404]
    second = server.url + "?second"
    assert fetch_quickly(dataset(Http((server.url, second))), destination)[0] == second
    assert len(server.ranges) == 2


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"size": 7}])
def test_wrong_file_is_refused_and_nothing_is_kept(server, destination, change):
    with pytest.raises(UserError, match="where the manifest says"):
        fetch_quickly(dataset(Http((server.url,)), **change), destination)
    assert os.listdir(destination.parent) == []


@pytest.mark.parametrize("behaviour", ["page", "page in disguise"])
def test_web_page_instead_of_an_archive_is_said_so(server, destination, behaviour):
    server.plan = [behaviour]
    with pytest.raises(UserError, match="web page instead of"):
        fetch_quickly(dataset(Http((server.url,)), page="https://bats.example/"), destination)
    assert not destination.exists()


def test_no_connection_says_what_is_missing_and_how_to_get_it(destination, tmp_path):
    url = "http://127.0.0.1:9/bats.zip"  # port 9: nobody listens
    with pytest.raises(UserError) as error:
        fetch_quickly(dataset(Http((url,)), page="https://bats.example/"), destination, attempts=2)
    told = str(error.value)
    assert "`bats` (bats.zip) is missing" in told and "no connection to 127.0.0.1:9" in told
    assert url in told and "https://bats.example/" in told
    assert str(tmp_path / "resources" / "by_hand" / "bats.zip") in told and "archives_mirror" in told


def test_password_in_an_address_stays_out_of_messages(destination):
    with pytest.raises(UserError) as error:
        fetch_quickly(dataset(ByHand("Ask.")), destination, "http://me:hush@127.0.0.1:9", attempts=1)
    assert "hush" not in str(error.value)


def test_full_disk_is_told_and_the_download_goes_on_later(server, destination, monkeypatch):
    bats = dataset(Http((server.url,)), sha256=sha256_of(BODY))

    def save_until_full(answer, part, have, total):
        part.write_bytes(answer.raw.read(100_000))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("polclip.downloads.web._save", save_until_full)
        with pytest.raises(UserError, match="No space left on the disk"):
            fetch_quickly(bats, destination)
    assert not destination.exists()
    fetch_quickly(bats, destination)
    assert destination.read_bytes() == BODY and server.ranges[-1] == "bytes=100000-"


# ---- checksums of data sets that have none in the manifest


def test_first_checksum_is_recorded_and_enforced(server, destination):
    bats = dataset(Http((server.url,)))
    fetch_quickly(bats, destination)
    record = destination.with_name("bats.zip.sha256")
    assert record.read_text() == f"{sha256_of(BODY)}  bats.zip\n"
    destination.unlink()
    server.body = BODY + b"more"
    with pytest.raises(UserError, match=r"first download.*bats\.zip\.sha256"):
        fetch_quickly(bats, destination)
    assert not destination.exists()


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_record_is_told_with_what_to_do(server, destination, content):
    fetch_quickly(dataset(Http((server.url,))), destination)
    record = destination.with_name("bats.zip.sha256")
    record.write_bytes(content)
    with pytest.raises(UserError, match=r"bats\.zip\.sha256 is empty: .* Delete it"):
        fetch_quickly(dataset(Http((server.url,))), destination)
    # The manifest's own checksum needs no record.
    assert fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination)[0] == "already there"


def test_damage_to_a_file_in_place_is_found(server, destination):
    bats = dataset(Http((server.url,)), sha256=sha256_of(BODY))
    fetch_quickly(bats, destination)
    destination.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(UserError, match="Delete it"):
        fetch_quickly(bats, destination)


# ---- mirror and by hand


def test_mirror_folder_comes_before_the_source(server, destination, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "bats.zip").write_bytes(BODY)
    fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination, str(mirror))
    assert destination.read_bytes() == BODY and server.ranges == []


def test_mirror_without_the_file_leads_to_the_source(server, destination, tmp_path):
    fetch_quickly(dataset(Http((server.url,))), destination, str(tmp_path))
    assert len(server.ranges) == 1


def test_wrong_file_in_the_mirror_is_named(server, destination, tmp_path):
    (tmp_path / "bats.zip").write_bytes(b"PK not it")
    with pytest.raises(UserError, match=str(tmp_path / "bats.zip")):
        fetch_quickly(dataset(Http((server.url,)), sha256=sha256_of(BODY)), destination, str(tmp_path))
    assert not destination.exists()


def test_mirror_on_the_web(server, destination):
    mirror = server.url.removesuffix("/bats.zip")
    assert fetch_quickly(dataset(ByHand("Ask.")), destination, mirror + "/")[0] == server.url


def test_mirror_that_is_no_folder_is_refused(destination):
    with pytest.raises(UserError, match="archives_mirror: '/no/such/folder' is not a folder"):
        fetch_quickly(dataset(ByHand("Ask.")), destination, "/no/such/folder")


def test_by_hand_says_how_and_takes_the_file_from_its_folder(destination, tmp_path):
    bats = dataset(ByHand("Write to the keeper of the bats."), sha256=sha256_of(BODY))
    with pytest.raises(UserError, match=r"is missing\. Write to the keeper of the bats\. Then put it at"):
        fetch_quickly(bats, destination)
    by_hand = tmp_path / "resources" / "by_hand" / "bats.zip"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(BODY)
    fetch_quickly(bats, destination)
    assert destination.read_bytes() == BODY
    destination.unlink()  # as a workflow does before it runs a rule again
    assert by_hand.read_bytes() == BODY


# ---- by hand: a look into the archive, before hours are spent on it


def by_hand(destination, content, file="bats.zip"):
    place = destination.parent.parent / "by_hand" / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def tar_of(name: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 100_000
        archive.addfile(member, io.BytesIO(random.Random(0).randbytes(100_000)))
    return packed.getvalue()


def empty_zip() -> bytes:
    packed = io.BytesIO()
    zipfile.ZipFile(packed, "w").close()
    return packed.getvalue()


def encrypted_zip() -> bytes:
    """BODY with the mark of encryption in both headers of its one member."""
    marked = bytearray(BODY)
    marked[6] |= 1
    marked[BODY.rindex(b"PK\1\2") + 8] |= 1
    return bytes(marked)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("bats.zip", BODY[:-5_000], "is broken or cut off"),
        ("bats.zip", BODY[:100], "is broken or cut off"),
        ("bats.zip", empty_zip(), "holds no file|not a .zip archive"),
        ("bats.zip", encrypted_zip(), "bats.bin is encrypted"),
        ("bats.zip", b"<!DOCTYPE html><html>Sign in</html>", "is a web page instead of bats.zip"),
        ("bats.zip", b"Rar!\x1a\x07", "is not a .zip archive"),
        ("bats.tar.gz", tar_of("bats.bin")[:20], "is broken or cut off"),
        ("bats.tgz", gzip.compress(b"bats" * 500), "is broken or cut off"),
        ("bats.json", b'[{"word": "bat"}, {"word":', "does not end as a JSON file does"),
        ("bats.json", b"", "does not end as a JSON file does"),
    ],
)
def test_a_file_by_hand_that_is_cut_off_or_another_is_refused_at_its_import(destination, file, content, told):
    place = by_hand(destination, content, file)
    destination = destination.with_name(file)
    with pytest.raises(UserError, match=told) as error:
        fetch_quickly(dataset(ByHand("Ask."), file=file), destination)
    assert str(place) in str(error.value) and "`bats`" in str(error.value)
    assert os.listdir(destination.parent) == [] and place.exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("bats.tar.gz", tar_of("bats.bin")),
        ("bats.json", b'[{"word": "bat"}]\n'),
        ("bats.jsonl", b'{"word": "bat"}\n\n'),
        ("bats.json", BODY),  # a zip under that name is read too
    ],
)
def test_whole_files_by_hand_are_taken(destination, file, content):
    by_hand(destination, content, file)
    destination = destination.with_name(file)
    fetch_quickly(dataset(ByHand("Ask."), file=file), destination)
    assert destination.read_bytes() == content


def test_a_file_by_hand_is_not_copied(destination):
    place = by_hand(destination, BODY)
    fetch_quickly(dataset(ByHand("Ask.")), destination)
    assert destination.samefile(place)


def test_a_file_by_hand_takes_the_place_of_a_piece_that_was_downloaded(server, destination):
    bats = dataset(Http((server.url,)), sha256=sha256_of(BODY))
    server.plan = ["cut"]
    with pytest.raises(UserError):
        fetch_quickly(bats, destination, attempts=1)
    by_hand(destination, BODY)
    fetch_quickly(bats, destination)
    assert os.listdir(destination.parent) == ["bats.zip"] and len(server.ranges) == 1


# ---- disk


@pytest.fixture
def free(monkeypatch):
    """Says how many bytes the disk has free."""
    return lambda size: monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=size))


def test_too_little_room_is_known_before_anything_is_written(server, destination, free):
    free(300_000)
    with pytest.raises(UserError, match=r"bats\.zip needs 400\.\d kB .*has 300\.0 kB free") as error:
        fetch_quickly(dataset(Http((server.url,))), destination)
    assert str(destination.parent) in str(error.value)
    assert os.listdir(destination.parent) == [] and len(server.ranges) == 1


def test_the_manifests_length_counts_where_the_server_tells_none(server, destination, free):
    free(10**9)
    server.plan = [Answer(headers={"Content-Length": ""})]
    with pytest.raises(UserError, match=r"needs 17\.0 GB .*has 1\.0 GB free"):
        fetch_quickly(dataset(Http((server.url,)), size=17 * 10**9), destination)


def test_the_rest_of_a_file_needs_room_for_the_rest_alone(server, destination, free):
    bats = dataset(Http((server.url,)))
    server.plan = ["cut"]
    with pytest.raises(UserError):
        fetch_quickly(bats, destination, attempts=1)
    free(200_000)
    with pytest.raises(UserError, match=r"rest of bats\.zip needs 250\.\d kB .*200\.0 kB free"):
        fetch_quickly(bats, destination)
    free(260_000)
    fetch_quickly(bats, destination)
    assert destination.read_bytes() == BODY and server.ranges[-1] == "bytes=150000-"


def test_a_copy_from_a_mirror_needs_room_and_a_link_to_a_file_by_hand_none(destination, tmp_path, free, monkeypatch):
    free(300_000)
    (tmp_path / "bats.zip").write_bytes(BODY)
    with pytest.raises(UserError, match=r"bats\.zip needs 400\.\d kB .*300\.0 kB free"):
        fetch_quickly(dataset(ByHand("Ask.")), destination, str(tmp_path))
    assert os.listdir(destination.parent) == []
    place = by_hand(destination, BODY)
    with monkeypatch.context() as patched:
        patched.setattr("polclip.downloads.fetching.os.link", no_link)
        with pytest.raises(UserError, match="needs"):
            fetch_quickly(dataset(ByHand("Ask.")), destination)
    fetch_quickly(dataset(ByHand("Ask.")), destination)
    assert destination.samefile(place)


def no_link(source, target):
    raise OSError(18, "Invalid cross-device link")


def test_a_disk_that_fills_during_a_copy_is_told_and_nothing_is_kept(destination, tmp_path, monkeypatch):
    (tmp_path / "bats.zip").write_bytes(BODY)

    def copy_until_full(source, target):
        Path(target).write_bytes(BODY[:1000])
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("polclip.downloads.fetching.shutil.copyfile", copy_until_full)
    with pytest.raises(UserError, match="No space left on the disk while writing"):
        fetch_quickly(dataset(ByHand("Ask.")), destination, str(tmp_path))
    assert os.listdir(destination.parent) == []


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_asked(server, tmp_path, monkeypatch):
    (tmp_path / "resources").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"archives cannot be written to \(Not a directory"):
        fetch_quickly(dataset(Http((server.url,))), tmp_path / "resources" / "archives" / "bats.zip")

    def read_only(**given):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("polclip.downloads.disk.tempfile.TemporaryFile", read_only)
    with pytest.raises(UserError, match=r"archives cannot be written to \(Read-only file system\)"):
        fetch_quickly(dataset(Http((server.url,))), tmp_path / "archives" / "bats.zip")
    assert server.ranges == []


def test_a_mirror_on_the_web_that_is_not_there_is_told(server, destination):
    with pytest.raises(UserError, match=r"archives_mirror: 'http://127\.0\.0\.1:9/archives' cannot be asked: no conn"):
        fetch_quickly(dataset(Http((server.url,))), destination, "http://127.0.0.1:9/archives", attempts=2)
    with pytest.raises(UserError, match=r"archives_mirror: 'htp://bats' is not a folder"):
        fetch_quickly(dataset(Http((server.url,))), destination, "htp://bats")
    assert server.ranges == [] and not destination.exists()


def test_a_file_of_the_mirror_that_cannot_be_read_is_named(destination, tmp_path, monkeypatch):
    (tmp_path / "bats.zip").write_bytes(BODY)

    def forbidden(source, target):
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr("polclip.downloads.fetching.shutil.copyfile", forbidden)
    with pytest.raises(UserError, match=rf"`bats`: {tmp_path}/bats\.zip: Permission denied"):
        fetch_quickly(dataset(ByHand("Ask.")), destination, str(tmp_path))
