"""Is there a place to write to, and room enough? Asked before anything is written."""

import shutil
import tempfile
from pathlib import Path

from polclip.errors import UserError


def check_writable(folder: Path) -> None:
    """Make a folder where there is none; raise UserError where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be written to ({error.strerror}): make it writable, or put a link to a "
            "folder that is in its place."
        ) from error


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError where the disk of `folder` (there or not yet) has less than `needed` bytes free."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{what} needs {amount(needed)} and the disk of {folder} has {amount(free)} free: free some space, or "
            "put a link to a folder on a larger disk in its place, and run the same command again."
        )


def amount(size: int) -> str:
    """A number of bytes in plain words: 195.0 GB (10^9 bytes)."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} bytes"
