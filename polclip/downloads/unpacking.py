"""Read archives that strangers made: chosen members as streams, or all into a new folder, within declared limits."""

import io
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from polclip.downloads.members import Member, members, safe_path, translated
from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.full_disk import full_disk

CHUNK_BYTES = 1 << 20


def open_members(
    archive: str | Path,
    patterns: str | Iterable[str],
    *,
    max_bytes: int = 10**10,
    max_files: int = 10**6,
    max_total_bytes: int = 10**12,
    missing_ok: bool = False,
) -> Iterator[tuple[str, BinaryIO]]:
    """Give the name and a binary stream of each member that matches a pattern, in the archive's order.

    Patterns are those of the shell, and `*` also matches `/`: `*/dict/index.sense`. The archive is a zip (or
    wheel) or a tar, gzipped or not; nothing is written anywhere, and an archive inside an archive is a file as any
    other. A stream must be read before the next one is asked for. Wrap it in `io.TextIOWrapper` to read text.
    Limits: one stream gives at most `max_bytes` and all together `max_total_bytes`; the archive holds at most
    `max_files` entries, those that match no pattern included. Names are the archive's own and may point anywhere: who
    writes files takes no folder from them.
    Raises UserError that names the archive, and the member where there is one: broken, no archive, beyond a limit, a
    member that matches and is a link, a device, encrypted, twice there or of another length than stated; and, at the
    end, when a pattern matched nothing, unless `missing_ok`.
    """
    archive = Path(archive)
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    unmatched, names = set(patterns), set()
    budget = _Budget(max_total_bytes)
    with members(archive, max_files) as found:
        for member in found:
            matched = {pattern for pattern in patterns if fnmatchcase(member.name, pattern)}
            if not matched or member.kind == "folder":
                continue
            unmatched -= matched
            if member.name in names:
                raise UserError(f"{archive}: two members want the name {member.name}.")
            names.add(member.name)
            with _guarded(member, archive, max_bytes, budget) as stream:
                yield member.name, stream
    if unmatched and not missing_ok:
        wanted = " or ".join(sorted(unmatched))
        raise UserError(f"{archive} has no member like {wanted}: is it the right archive?")


def file_names(archive: str | Path, max_files: int = 10**6) -> list[str]:
    """The names of an archive's files, in its order; errors as in `open_members`."""
    with members(Path(archive), max_files) as found:
        return [member.name for member in found if member.kind == "file"]


def read_member(archive: str | Path, pattern: str, *, max_bytes: int = 10**9) -> bytes:
    """The bytes of the one member that matches, at most `max_bytes`; UserError when none does, or more than one."""
    members_found = open_members(archive, pattern, max_bytes=max_bytes, max_total_bytes=max_bytes)
    found = {name: stream.read() for name, stream in members_found}
    if len(found) > 1:
        raise UserError(f"{archive} has several members like {pattern}: {', '.join(sorted(found))}.")
    return next(iter(found.values()))


def unpack(archive: str | Path, folder: str | Path, max_files: int = 500_000, max_bytes: int = 10**12) -> int:
    """Unpack a zip or tar into `folder`, complete or not at all; return the number of files.

    Limits: at most `max_files` files and folders, `max_bytes` bytes when unpacked. Names may differ in case alone
    where the disk tells them apart. Raises UserError that names the archive and the member, as `open_members` does.
    """
    archive, count, budget = Path(archive), 0, _Budget(max_bytes)
    with complete_or_absent(folder) as temporary, members(archive, max_files) as found:
        temporary.mkdir()
        for member in found:
            target = temporary / safe_path(member.name, archive)
            try:
                if member.kind == "folder":
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                count += 1
                target.parent.mkdir(parents=True, exist_ok=True)
                file = open(target, "xb")  # noqa: SIM115 - closed below; only this line may find a file there
            except (FileExistsError, NotADirectoryError) as error:
                raise UserError(f"{archive}: two members want the name {member.name}.") from error
            except OSError as error:
                if full_disk(error):  # which the folder's keeper tells
                    raise
                raise UserError(f"{archive}: {member.name[:60]!r} cannot be written ({error.strerror}).") from error
            with file, _guarded(member, archive, max_bytes, budget) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    file.write(chunk)
    return count


class _Budget:
    """Bytes that may still come out of an archive."""

    def __init__(self, left: int):
        self.left = left


def _guarded(member: Member, archive: Path, max_bytes: int, budget: _Budget) -> io.BufferedReader:
    """The stream of a member within its limits; UserError where what is stated is too much already."""
    if member.kind == "other":
        raise UserError(f"{archive}: {member.name} is a link or a device: not unpacked.")
    if member.size > min(max_bytes, budget.left):
        raise _too_large(archive, member)
    with translated(archive, member.name):
        stream = member.open()
    return io.BufferedReader(_Guarded(stream, archive, member, max_bytes, budget))


def _too_large(archive: Path, member: Member) -> UserError:
    return UserError(f"{archive}: {member.name} is larger than allowed: not read further.")


class _Guarded(io.RawIOBase):
    """A member's stream that ends as a UserError when it is broken, too long or not as long as stated."""

    def __init__(self, stream: BinaryIO, archive: Path, member: Member, max_bytes: int, budget: _Budget):
        self._stream, self._archive, self._member = stream, archive, member
        self._max_bytes, self._budget, self._read = max_bytes, budget, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        with translated(self._archive, self._member.name):
            data = self._stream.read(len(buffer))
        self._read += len(data)
        self._budget.left -= len(data)
        if self._read > self._max_bytes or self._budget.left < 0:
            raise _too_large(self._archive, self._member)
        if not data and self._read != self._member.size:
            raise UserError(
                f"{self._archive}: {self._member.name} has {self._read:,} bytes where the archive states "
                f"{self._member.size:,}: delete it and run again to fetch it anew."
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
