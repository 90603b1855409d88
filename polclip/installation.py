"""Can the packages be installed in this folder? `make` asks before it installs anything: python -m polclip.installation

Only Python's own library is imported here.
"""

import sys
import unicodedata
from pathlib import Path

from polclip.downloads.disk import check_space
from polclip.errors import UserError

ENVIRONMENT = Path(".venv")
# Measured: 6.6 GB with the CUDA libraries of the registry's torch for Linux; 1.8 GB without them.
WITH_CUDA, WITHOUT_CUDA = 7 * 10**9, 2 * 10**9
# In a path: the shell scripts of an environment fail at the first three, Snakemake at braces, PATH at a colon.
REFUSED = '"$`{}:'


def check_folder(folder: Path) -> None:
    """Raise UserError if the path of the project's folder has a sign that an environment or Snakemake cannot take.

    These are REFUSED, control characters (tab, newline) and bytes that are not UTF-8.
    """
    refused = [sign for sign in str(folder) if sign in REFUSED or unicodedata.category(sign) in ("Cc", "Cs")]
    if refused:
        raise UserError(
            f"The project cannot run in the folder {str(folder)!r}: its path has {refused[0]!r}. Letters of any "
            f"script, blanks, brackets and other signs are allowed, but none of {' '.join(REFUSED)} and no control "
            "characters: rename or move the folder and type the same command again."
        )


def check_disk(environment: Path, needed: int) -> None:
    """Raise UserError where the disk has less than `needed` bytes free for an environment that is not finished yet."""
    if not (environment / "installed").exists():
        there = sum(file.lstat().st_size for file in environment.rglob("*"))
        check_space(environment, needed - there, "The installation")


def main() -> None:
    """Exit with one sentence if the installation cannot be done. The only argument, `cpu`, means torch without CUDA."""
    arguments = sys.argv[1:]
    needed = WITH_CUDA if sys.platform == "linux" and not arguments else WITHOUT_CUDA
    try:
        if arguments not in ([], ["cpu"]):
            raise UserError(
                f"TORCH={' '.join(arguments)} is unknown: type TORCH=cpu for torch without CUDA, or leave it out."
            )
        check_folder(Path.cwd())
        check_disk(ENVIRONMENT, needed)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
