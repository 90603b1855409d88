"""The members of a zip or tar that strangers made, one after the other; broken archives end as one clear error."""

import bz2
import errno
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from polclip.errors import UserError

BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, struct.error),
    *(RuntimeError, ValueError, OverflowError, MemoryError),
)
PACKED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
# tarfile reads a header of whatever length it claims, a long name say, into memory at once.
LONGEST_HEADER = 1 << 24
# Zeros end a tar; GNU tar writes up to 10 kB of them.
MOST_ZEROS = 1 << 24
DEEPEST = 64  # folders in one another


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    kind: str  # file, folder or other (links, devices)
    size: int  # bytes, as the archive states them
    open: Callable[[], BinaryIO]


@contextmanager
def members(archive: Path, max_members: int) -> Iterator[Iterator[Member]]:
    """The members of a zip (or wheel) or a tar, gzipped or not, in the archive's order; nothing is written.

    Raises UserError that names the archive when it is broken, no archive, or holds more than `max_members` entries.
    """
    with translated(archive):
        file = open(archive, "rb")  # noqa: SIM115 - closed below
    with file:
        with translated(archive):
            start = file.read(4)
        if start in (b"PK\3\4", b"PK\5\6"):
            with translated(archive):
                if _entries(file, max_members) > max_members:
                    raise _too_many(archive, max_members)
                opened = zipfile.ZipFile(file)
            with opened:
                yield _zip_members(opened, archive)
        else:
            file.seek(0)
            with PACKED.get(start[:2], lambda file: file)(file) as plain:
                yield _tar_members(plain, archive, max_members)


@contextmanager
def translated(archive: Path, name: str = "") -> Iterator[None]:
    """Turn the many errors of broken archives into one that names the archive, and the member where there is one."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"There is no archive {archive}.") from error
    except (*BROKEN, OSError) as error:
        # gzip reports wrong bytes as an OSError without a number, and a zip may name an impossible place in the file;
        # other errors with a number are the disk's.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UserError(
            f"{archive} is broken or no zip or tar archive ({f'{name}: ' if name else ''}"
            f"{str(error) or type(error).__name__}): delete it and run again to fetch it anew."
        ) from error


def safe_path(name: str, archive: Path) -> PurePosixPath:
    """The name of a member as a path inside a folder; UserError where it points out of it, or is no path."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or name[1:2] == ":":
        raise UserError(f"{archive}: the member {name!r} points outside the folder: not unpacked.")
    if not path.parts:
        raise UserError(f"{archive}: a member has the name {name!r}, which is none: not unpacked.")
    if len(path.parts) > DEEPEST:
        raise UserError(f"{archive}: the member {name[:60]!r}... lies more than {DEEPEST} folders deep: not unpacked.")
    return path


def _too_many(archive: Path, max_members: int) -> UserError:
    return UserError(f"{archive} holds more than {max_members:,} files and folders, which is the limit: not unpacked.")


# ---- zip


def _entries(file: BinaryIO, most: int) -> int:
    """How many entries the directory at the end of a zip has, counted up to `most` + 1.

    The count that a zip states may be a lie, and zipfile reads the whole directory into memory. Zip specification
    (APPNOTE.TXT) 4.3.12, 4.3.14 and 4.3.16. 0 where no directory is found: zipfile then says what is wrong.
    """
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - 2**16 - 100))
    tail = file.read()
    end = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - 18))
    if end < 0:
        return 0
    (size,) = struct.unpack_from("<L", tail, end + 12)
    start = length - len(tail) + end - size
    if end >= 76 and tail[end - 20 :].startswith(b"PK\6\7") and tail[end - 76 :].startswith(b"PK\6\6"):  # zip64
        (size,) = struct.unpack_from("<Q", tail, end - 76 + 40)
        start = length - len(tail) + end - 76 - size
    if start < 0:
        return 0
    file.seek(start)
    found, left = 0, size
    while left > 0 and found <= most and (header := file.read(46)).startswith(b"PK\1\2") and len(header) == 46:
        rest = sum(struct.unpack_from("<3H", header, 28))  # name, extra field, comment
        file.seek(rest, io.SEEK_CUR)
        found, left = found + 1, left - 46 - rest
    return found


def _zip_members(opened: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in opened.infolist():
        form = stat.S_IFMT(info.external_attr >> 16)  # of the Unix mode; 0 where the zip was made elsewhere
        kind = "folder" if info.filename.endswith("/") else "file" if form in (0, stat.S_IFREG) else "other"
        yield Member(info.filename, kind, info.file_size, lambda info=info: _open_in_zip(opened, info, archive))


def _open_in_zip(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> BinaryIO:
    if info.flag_bits & 1:
        raise UserError(
            f"{archive}: {info.filename} is encrypted: unpack it with its password and pack it again without."
        )
    try:
        return opened.open(info)
    except NotImplementedError as error:
        raise UserError(
            f"{archive}: {info.filename} is packed in a way that Python cannot read ({error}): unpack it with the "
            "program that made it and pack it again as an ordinary zip."
        ) from error


# ---- tar


def _tar_members(plain: BinaryIO, archive: Path, max_members: int) -> Iterator[Member]:
    file, found = _Bounded(plain), 0
    with translated(archive):
        opened = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - the caller closes the file
    while True:
        with translated(archive):
            info = opened.next()
            opened.members.clear()  # tarfile keeps all it has met: a kilobyte for each picture
            if info is None:
                file.check_end()
                return
        found += 1
        if found > max_members:
            raise _too_many(archive, max_members)
        kind = "file" if info.isfile() else "folder" if info.isdir() else "other"
        yield Member(info.name, kind, info.size, lambda info=info: opened.extractfile(info))


class _Bounded:
    """The bytes of a tar, for tarfile, that refuses to give very many at once and knows where the tar ends."""

    def __init__(self, file: BinaryIO):
        self._file, self._block = file, b""
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        data = self._file.read(size)
        if size == tarfile.BLOCKSIZE:
            self._block = data
        return data

    def check_end(self) -> None:
        """Read to the end, where gzip compares its checksum: tarfile takes a damaged header for the end of all."""
        rest, read = self._block, 0
        while rest and read <= MOST_ZEROS:
            if rest.strip(b"\0"):
                raise tarfile.ReadError("a header in the middle is damaged")
            rest = self._file.read(1 << 16)
            read += len(rest)
