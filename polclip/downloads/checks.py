"""Is this file what the manifest says? Kind of file, length, whether an archive opens, checksum."""

import os
from pathlib import Path

from polclip.downloads.manifest import Dataset
from polclip.downloads.members import members, translated
from polclip.errors import UserError
from polclip.files import sha256, write_text

# First bytes by the end of the file name: a sign-in page or an error page saved under the archive's name is
# found before a reader stumbles over it, also where no checksum is known yet.
FIRST_BYTES = {".zip": b"PK", ".whl": b"PK", ".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b"}
MOST_MEMBERS = 10**6


class WrongFile(UserError):
    """A file that came, but is not the one of the manifest."""


def check_file(path: str | Path, dataset: Dataset, origin: str, recorded: str | None = None) -> str:
    """Compare a file with the manifest; its SHA-256 is returned.

    `recorded` is the checksum of an earlier download, used where the manifest has none; `origin` names the
    file in the error. Whether an archive is whole is told from its ends, so that of a large one that was cut off is
    known in a moment. Raises WrongFile.
    """
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(512)
    if looks_like_a_web_page(start) and not dataset.file.endswith((".html", ".htm")):
        raise WrongFile(f"{origin} is a web page instead of {dataset.file}: the link may have moved or want a sign-in.")
    ending = Path(dataset.file).suffix
    if not start.startswith(FIRST_BYTES.get(ending, b"")):
        raise WrongFile(f"{origin} is not a {ending} archive (it starts with {start[:8]!r}).")
    length = path.stat().st_size
    if dataset.size is not None and length != dataset.size:
        raise WrongFile(f"{origin} has {length:,} bytes where the manifest says {dataset.size:,}.")
    _check_ends(path, start, dataset.file, origin)
    found = sha256(path)
    if dataset.sha256 and found != dataset.sha256:
        raise WrongFile(f"{origin} has sha256 {found} where the manifest says {dataset.sha256}.")
    if not dataset.sha256 and recorded and found != recorded:
        raise WrongFile(
            f"{origin} has sha256 {found} where the first download had {recorded}. If the new file is the "
            f"one you want, delete the record {dataset.file}.sha256 in the folder of archives and run again."
        )
    return found


def looks_like_a_web_page(start: bytes) -> bool:
    """Whether a file that starts so is an HTML page."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head"))


def _check_ends(path: Path, start: bytes, name: str, origin: str) -> None:
    """The directory of a zip, which stands at its end, and the first file of an archive; the last mark of a JSON."""
    if start.startswith(b"PK\3\4") or name.endswith((".zip", ".whl", ".tar.gz", ".tgz", ".tar")):
        try:
            with members(path, MOST_MEMBERS) as found:
                first = next((member for member in found if member.kind == "file"), None)
                if first:
                    with translated(path, first.name), first.open() as stream:
                        stream.read(1)
        except UserError as error:
            if error.__cause__ is None:
                raise WrongFile(str(error).replace(str(path), origin)) from error
            raise WrongFile(f"{origin} is broken or cut off ({error.__cause__}).") from error
        if first is None:
            raise WrongFile(f"{origin} holds no file.")
    elif name.endswith((".json", ".jsonl")):
        with open(path, "rb") as file:
            file.seek(-min(1024, file.seek(0, os.SEEK_END)), os.SEEK_END)
            end = file.read().rstrip()[-1:]
        if end not in (b"]", b"}"):
            raise WrongFile(f"{origin} does not end as a JSON file does: it is cut off, or another file.")


def read_record(archive: Path) -> str | None:
    """The checksum that an earlier download of this archive recorded, or None; UserError where the record is empty."""
    record = _record(archive)
    if not record.exists():
        return None
    words = record.read_text(encoding="utf-8", errors="replace").split()
    if not words:
        raise UserError(
            f"{record} is empty: it should hold the checksum of {archive.name}. Delete it, and the archive too unless "
            "you trust it, and run the same command again."
        )
    return words[0]


def write_record(archive: Path, checksum: str) -> None:
    """Record a checksum beside the archive, in the form that `sha256sum -c` reads."""
    write_text(_record(archive), f"{checksum}  {archive.name}\n")


def _record(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")
