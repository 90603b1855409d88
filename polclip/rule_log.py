"""What a rule says: all of it in the rule's log, one sentence on the terminal where the user can mend it."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polclip.errors import UserError


@contextmanager
def rule_log(snakemake) -> Iterator[logging.Logger]:
    """Log to the rule's log file; end on a UserError with its sentence, without a traceback on the terminal.

    Any other exception leaves its traceback in the log and one line on the terminal. Both exit with status 1.
    """
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
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
