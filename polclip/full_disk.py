"""A disk, quota or file that has no room left, told in one sentence whatever library was writing."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polclip.errors import UserError

REASONS = {
    errno.ENOSPC: "No space left on the disk",
    errno.EDQUOT: "The disk quota is used up",
    errno.EFBIG: "The largest size of a file is reached (see `ulimit -f`)",
}
NUMBER = re.compile(r"\(os error (\d+)\)")  # how safetensors and other libraries in Rust write it


def full_disk(error: BaseException | None) -> str | None:
    """Why there was no room, of an exception or of one behind it; None where it is about something else.

    torch.save raises a RuntimeError in whose context the OSError is.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if number is None and (found := NUMBER.search(str(error))):
            number = int(found[1])
        if number in REASONS:
            return REASONS[number]
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def full_disk_told(path: str | Path, kept: str) -> Iterator[None]:
    """Turn the many errors of a full disk into a UserError that names the file; others pass.

    kept: a clause that says what was kept of the file.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if reason := full_disk(error):
            raise UserError(
                f"{reason} while writing {path}. {kept}: free some space and run the same command again."
            ) from error
        raise
