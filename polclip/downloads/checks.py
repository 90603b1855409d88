"""Is this file what the manifest says? Length, kind of archive, checksum."""

from pathlib import Path

from polclip.downloads.manifest import Dataset
from polclip.errors import UserError
from polclip.files import sha256, write_text

# First bytes by the end of the file name: a sign-in page or an error page saved under the archive's name is
# found before a reader stumbles over it, also where no checksum is known yet.
FIRST_BYTES = {".zip": b"PK", ".whl": b"PK", ".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b"}


class WrongFile(UserError):
    """A file that came, but is not the one of the manifest."""


def check_file(path: str | Path, dataset: Dataset, origin: str, recorded: str | None = None) -> str:
    """Compare a file with the manifest; its SHA-256 is returned.

    `recorded` is the checksum of an earlier download, used where the manifest has none; `origin` names the
    file in the error. Raises WrongFile.
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


def read_record(archive: Path) -> str | None:
    """The checksum that an earlier download of this archive recorded, or None."""
    record = _record(archive)
    return record.read_text(encoding="utf-8").split()[0] if record.exists() else None


def write_record(archive: Path, checksum: str) -> None:
    """Record a checksum beside the archive, in the form that `sha256sum -c` reads."""
    write_text(_record(archive), f"{checksum}  {archive.name}\n")


def _record(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")
