"""Write requirements.lock, requirements-uv.lock and environment.yaml: `make lock`, after a change of pyproject.toml.

Versions stay as they are; a new one is asked for by name: python containers/lock.py --upgrade-package certifi
(arguments go to uv). Needs the package registry.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What each lock is made from: the package's dependencies and a group of pyproject.toml.
SOURCES = {
    "requirements.lock": ("pyproject.toml", "--group", "dev"),
    "requirements-uv.lock": ("--group", "uv"),
}
# One lock for Linux and macOS, x86_64 and ARM, Python 3.11 and newer, with the checksums of all their files.
COMPILE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--no-annotate", "--custom-compile-command", "make lock"),
)
ENVIRONMENT = """\
# What every rule's conda: names, for `snakemake --software-deployment-method conda`: the list of requirements.lock
# (Snakemake copies this file elsewhere, so it cannot point to the other). Written by `make lock`.
channels:
  - conda-forge
dependencies:
  - python=3.12
  - pip
  - pip:
"""


def environment(lock: str) -> str:
    """The conda environment of the text of requirements.lock: each package on one line, with its checksums.

    pip is conda's own there.
    """
    packages = [line for line in lock.replace(" \\\n", "").splitlines() if not line.startswith(("#", "pip=="))]
    return ENVIRONMENT + "".join(f"      - {json.dumps(' '.join(package.split()))}\n" for package in packages)


def main() -> None:
    for name, source in SOURCES.items():
        subprocess.run([*COMPILE, *source, *sys.argv[1:], "--output-file", name], cwd=ROOT, check=True)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (ROOT / "environment.yaml").write_text(environment(lock), encoding="utf-8")


if __name__ == "__main__":
    main()
