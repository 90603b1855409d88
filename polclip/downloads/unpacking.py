"""Read zip and tar archives that strangers made: chosen members as streams, or all into a new folder."""

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from polclip.errors import UserError
from polclip.files import complete_or_absent

CHUNK_BYTES = 1 << 20
BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # file, folder or other (links, devices)
    open: Callable[[], BinaryIO]


def open_members(
    archive: str | Path, patterns: str | Iterable[str], *, max_bytes: int = 10**10, missing_ok: bool = False
) -> Iterator[tuple[str, BinaryIO]]:
    """Give the name and a binary stream of each member that matches a pattern, in the archive's order.

    Patterns are those of the shell, and `*` also matches `/`: `*/dict/index.sense`. The archive is a zip (or
    wheel) or a tar, gzipped or not; nothing is written anywhere. A stream must be read before the next one is
    asked for, and gives at most `max_bytes`. Wrap it in `io.TextIOWrapper` to read text.
    Raises UserError that names the archive when it is broken or no archive, and, at the end, when a pattern
    matched nothing, unless `missing_ok`.
    """
    archive = Path(archive)
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    unmatched = set(patterns)
    with _members(archive) as members:
        for member in members:
            matched = {pattern for pattern in patterns if fnmatchcase(member.name, pattern)}
            if not matched or member.kind != "file":
                continue
            unmatched -= matched
            with _translated(archive):
                stream = member.open()
            with io.BufferedReader(_Guarded(stream, archive, member.name, max_bytes)) as guarded:
                yield member.name, guarded
    if unmatched and not missing_ok:
        wanted = " or ".join(sorted(unmatched))
        raise UserError(f"{archive} has no member like {wanted}: is it the right archive?")


def read_member(archive: str | Path, pattern: str, *, max_bytes: int = 10**9) -> bytes:
    """The bytes of the one member that matches; UserError when none does, or more than one."""
    found = {name: stream.read() for name, stream in open_members(archive, pattern, max_bytes=max_bytes)}
    if len(found) > 1:
        raise UserError(f"{archive} has several members like {pattern}: {', '.join(sorted(found))}.")
    return next(iter(found.values()))


def unpack(archive: str | Path, folder: str | Path, max_files: int = 500_000, max_bytes: int = 10**12) -> int:
    """Unpack a zip or tar into `folder`, complete or not at all; return the number of files.

    Raises UserError that names the archive and the member for absolute paths, `..`, links, devices, two
    members of one name, more than `max_files` files, or more than `max_bytes` bytes when unpacked.
    """
    archive, count, left = Path(archive), 0, max_bytes
    with complete_or_absent(folder) as temporary, _members(archive) as members:
        temporary.mkdir()
        for member in members:
            target = temporary / _safe_path(member.name, archive)
            if member.kind == "other":
                raise UserError(f"{archive}: {member.name} is a link or a device: not unpacked.")
            try:
                if member.kind == "folder":
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                count += 1
                if count > max_files:
                    raise UserError(f"{archive} holds more than {max_files:,} files: not unpacked.")
                target.parent.mkdir(parents=True, exist_ok=True)
                file = open(target, "xb")  # noqa: SIM115 - closed below; only this line may find a file there
            except (FileExistsError, NotADirectoryError) as error:
                raise UserError(f"{archive}: two members want the name {member.name}.") from error
            with _translated(archive):
                stream = member.open()
            with file, _Guarded(stream, archive, member.name, left) as guarded:
                while chunk := guarded.read(CHUNK_BYTES):
                    file.write(chunk)
                    left -= len(chunk)
    return count


class _Guarded(io.RawIOBase):
    """A member's stream that ends as a UserError when the archive is broken or the member too long."""

    def __init__(self, stream: BinaryIO, archive: Path, name: str, max_bytes: int):
        self._stream, self._archive, self._name, self._left = stream, archive, name, max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        with _translated(self._archive):
            data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UserError(f"{self._archive}: {self._name} is larger than allowed: not read further.")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def _translated(archive: Path) -> Iterator[None]:
    """Turn the many errors of broken archives into one that names the archive."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"There is no archive {archive}.") from error
    except (*BROKEN, OSError) as error:
        # gzip reports wrong bytes as an OSError without a number; those with one are the disk's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"{archive} is broken or no zip or tar archive ({error or type(error).__name__}): "
            "delete it and run again to fetch it anew."
        ) from error


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    with _translated(archive):
        with open(archive, "rb") as file:
            zipped = file.read(2) == b"PK"
        opened = zipfile.ZipFile(archive) if zipped else tarfile.open(archive)  # noqa: SIM115
    with opened:
        yield _zip_members(opened) if zipped else _tar_members(opened, archive)


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        form = stat.S_IFMT(info.external_attr >> 16)  # of the Unix mode; 0 where the zip was made elsewhere
        kind = "folder" if info.is_dir() else "file" if form in (0, stat.S_IFREG) else "other"
        yield _Member(info.filename, kind, lambda info=info: opened.open(info))


def _tar_members(opened: tarfile.TarFile, archive: Path) -> Iterator[_Member]:
    members = iter(opened)
    while True:
        with _translated(archive):
            info = next(members, None)
        if info is None:
            return
        kind = "file" if info.isfile() else "folder" if info.isdir() else "other"
        yield _Member(info.name, kind, lambda info=info: opened.extractfile(info))


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or name[1:2] == ":":
        raise UserError(f"{archive}: the member {name!r} points outside the folder: not unpacked.")
    return path
