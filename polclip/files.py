"""Files that are final or absent: everything is written beside its place and moved there when complete."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from polclip.errors import UserError
from polclip.full_disk import full_disk_told
from polclip.workplaces import workplace

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def complete_or_absent(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; move it there on success, delete it on any failure.

    The caller may write a file or make a folder at the temporary path. The suffix is kept, since some
    writers choose their format by it. A full disk ends as a UserError that names the file. What a killed process left
    is removed when a later one writes into the same folder.
    """
    path = Path(path)
    with full_disk_told(path, "Nothing half-written was kept"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with workplace(path.parent, path.name) as folder:
            temporary = folder / path.name
            yield temporary
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            os.replace(temporary, path)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | Path, text: str) -> None:
    with complete_or_absent(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write one JSON value, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> object:
    """Read one JSON value; UserError where the file holds none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} does not hold JSON, or was cut off ({error}). Delete it and run the same command again."
        ) from error


def write_json_lines(path: str | Path, values: Iterable[object]) -> None:
    """Write one JSON value a line, streaming."""
    with complete_or_absent(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")


def read_json_lines(path: str | Path) -> Iterator[dict]:
    """Read JSON Lines one at a time; a broken line is a UserError that names file and line."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line.decode("utf-8"))
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}:{number}: not a JSON value ({error.msg}).") from error
                except (UnicodeDecodeError, RecursionError) as error:
                    raise UserError(f"{path}:{number}: not a JSON value in UTF-8 ({error}).") from error


def write_parquet(path: str | Path, rows: Iterable[dict], schema: pa.Schema) -> None:
    """Write rows with the columns of `schema`, in batches of 10,000."""
    with complete_or_absent(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        batch: list[dict] = []
        for row in rows:
            batch.append(row)
            if len(batch) == 10_000:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                batch = []
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))


def open_parquet(path: str | Path) -> pq.ParquetFile:
    """A Parquet file to read in batches; by pyarrow's default all that was read of it would stay in memory."""
    return pq.ParquetFile(path, pre_buffer=False)


def write_table(path: str | Path, table: "pd.DataFrame") -> None:
    """Write a tab-separated table with a header."""
    with complete_or_absent(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False)
