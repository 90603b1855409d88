"""What a rule says: all of it in the rule's log, one sentence on the terminal where the user can mend it."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polclip.errors import UserError
from polclip.full_disk import full_disk

_MEND = "free some space and run the same command again"


class _Log(logging.FileHandler):
    """A log that a full disk cuts short. The error that ends the rule tells of it, so the log says nothing more."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not full_disk(sys.exception()):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written before
            super().close()


@contextmanager
def rule_log(snakemake) -> Iterator[logging.Logger]:
    """Log to the rule's log file; end on a UserError with its sentence, without a traceback on the terminal.

    Any other exception leaves its traceback in the log and one line on the terminal. Both exit with status 1.
    """
    path = Path(snakemake.log[0])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _Log(path, mode="w", encoding="utf-8")
    except OSError as error:
        _tell(f"{snakemake.rule}: its log {path} cannot be written ({error.strerror}): {_MEND}.")
        raise SystemExit(1) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield logging.getLogger(snakemake.rule)
    except UserError as error:
        root.error("%s", error)
        _tell(f"{snakemake.rule}: {error}")
        raise SystemExit(1) from None
    except Exception as error:
        root.error("%s", traceback.format_exc())
        if reason := full_disk(error):
            _tell(f"{snakemake.rule}: {reason} ({error}): {_MEND} (the whole story: {path})")
            raise SystemExit(1) from None
        _tell(f"{snakemake.rule} failed: {type(error).__name__}: {error} (the whole story: {path})")
        raise SystemExit(1) from None
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        logging.captureWarnings(False)
        handler.close()


def _tell(line: str) -> None:
    """In one piece: jobs side by side write to one terminal."""
    sys.stderr.write(f"{line}\n")
