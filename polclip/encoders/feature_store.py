"""Features on disk (or in memory): memory-mapped 16-bit arrays, a folder a shard, rows found by id.

A shard folder holds `index.parquet` (id, first row of its states, number of states), `states.npy`
[rows, width] (or [rows] token ids, of a text tower that is trained), `pooled.npy` [items, width] and, where the
encoder gives them, `spans.npy` [rows, 2], `tokens.npy` [rows] (ids, beside the states) and
`class_probabilities.npy` [items, classes]; `encoder.json` says what they were made with.
"""

import hashlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from polclip.errors import UserError
from polclip.files import complete_or_absent, read_json, write_json

OPTIONAL = ("spans", "tokens", "class_probabilities")
INDEX = pa.schema([("id", pa.string()), ("start", pa.int64()), ("length", pa.int64())])
INDEX_ROWS = 10_000  # of a row group; so many are held


def shard_of(item_id: str, shards: int) -> int:
    """The shard an id belongs to: by its digest, so that other items never move it."""
    return int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:8], "big") % shards


@contextmanager
def shard_writer(folder: str | Path, described: Mapping | None = None) -> Iterator["ShardWriter"]:
    """A writer of one shard, whose folder appears when all is written.

    described: what the features are made with, kept as `encoder.json`.
    """
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        with ExitStack() as files:
            index = files.enter_context(pq.ParquetWriter(temporary / "index.parquet", INDEX))
            writer = ShardWriter(temporary, files, index)
            yield writer
            writer.finish()
        write_json(temporary / "encoder.json", dict(described or {}))


class ShardWriter:
    """Writes encoded batches as they come, so that a shard may be larger than the memory."""

    def __init__(self, folder: Path, files: ExitStack, index: pq.ParquetWriter) -> None:
        self.folder, self.files, self.index = folder, files, index
        self.items = 0  # added so far
        self.arrays: dict[str, _GrowingArray] = {}
        self._ids: list[str] = []  # of which the index does not tell yet
        self._lengths: list[int] = []
        self._start = 0  # first state of these

    def add(self, ids: Sequence[str], states: Sequence[np.ndarray], pooled: np.ndarray, **optional: object) -> None:
        """Add a batch.

        Args:
            states: [tokens, width] an item, or all in one [items, tokens, width]; or [tokens] ids an item.
            pooled: [items, width].
            optional: `spans` [tokens, 2] and `tokens` [tokens] an item, `class_probabilities` [items, classes].
        """
        self._ids += list(ids)
        self._lengths += [len(state) for state in states]
        self.items += len(ids)
        if len(self._ids) >= INDEX_ROWS:
            self._write_index()
        for name, array in as_stored(states, pooled, **optional).items():
            self._append(name, array)

    def _append(self, name: str, array: np.ndarray) -> None:
        if name not in self.arrays:
            file = self.files.enter_context((self.folder / f"{name}.npy").open("wb"))
            self.arrays[name] = _GrowingArray(file, array)
        self.arrays[name].append(array)

    def finish(self) -> None:
        for array in self.arrays.values():
            array.write_head()
        self._write_index()

    def _write_index(self) -> None:
        starts = self._start + np.cumsum([0, *self._lengths])
        columns = [pa.array(self._ids, pa.string()), pa.array(starts[:-1]), pa.array(self._lengths, pa.int64())]
        self.index.write_table(pa.Table.from_arrays(columns, schema=INDEX))
        self._ids, self._lengths, self._start = [], [], int(starts[-1])


def as_stored(states: Sequence[np.ndarray], pooled: np.ndarray, **optional: object) -> dict[str, np.ndarray]:
    """The arrays of a batch by name, of the types that are kept; the arguments are those of `ShardWriter.add`."""
    # One array of items of one length is joined without a copy.
    whole = isinstance(states, np.ndarray) and states.ndim == 3
    joined = states.reshape(-1, states.shape[-1]) if whole else np.concatenate(states)
    arrays = {
        "states": joined.astype(np.int32 if joined.ndim == 1 else np.float16, copy=False),
        "pooled": pooled.astype(np.float16),
    }
    for name in ("spans", "tokens"):
        if (of_items := optional.get(name)) is not None:
            arrays[name] = np.concatenate(list(of_items)).astype(np.int32)
    if (probabilities := optional.get("class_probabilities")) is not None:
        arrays["class_probabilities"] = np.asarray(probabilities, dtype=np.float16)
    return arrays


class _GrowingArray:
    """An .npy file that rows are appended to: numpy leaves room in its head for the number of rows to grow."""

    def __init__(self, file: BinaryIO, like: np.ndarray) -> None:
        self.file, self.like, self.rows = file, like[:0], 0
        self.write_head()

    def append(self, array: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(array).data)
        self.rows += len(array)

    def write_head(self) -> None:
        shape = (self.rows, *self.like.shape[1:])
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(
            self.file, np.lib.format.header_data_from_array_1_0(self.like) | {"shape": shape}
        )
        self.file.seek(0, 2)


def _read_shard(folder: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray], dict]:
    """Index, arrays and description of a shard; UserError where one cannot be read or does not fit the others."""
    try:
        index = pd.read_parquet(folder / "index.parquet", columns=INDEX.names)
        names = ("states", "pooled", *OPTIONAL)
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in names if (folder / f"{n}.npy").exists()}
        told = folder / "encoder.json"
        described = read_json(told) if told.exists() else {}
        if not isinstance(described, dict):
            raise ValueError(f"encoder.json holds {described!r}")
        if len(index) and not {"states", "pooled"} <= arrays.keys():
            raise ValueError("states.npy or pooled.npy is missing")
        rows = int(index["length"].sum())
        for name, array in arrays.items():
            if len(array) != (len(index) if name in ("pooled", "class_probabilities") else rows):
                raise ValueError(f"{name}.npy has another length than index.parquet says")
        if len(index) and not (index["start"].min() >= 0 and (index["start"] + index["length"]).max() <= rows):
            raise ValueError("index.parquet names rows that are not in states.npy")
    except (OSError, ValueError, TypeError, EOFError, pa.ArrowException, UserError) as error:
        raise UserError(
            f"{folder} does not hold features that can be read ({error}). Delete the folder and run the same command "
            "again."
        ) from error
    return index, arrays, described


class FeatureStore:
    """Reads the shards of one kind of item as if they were one; arrays stay on disk until rows are asked for."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.shards: list[dict[str, np.ndarray]] = []
        self.described: list[dict] = []
        self.place: dict[str, tuple[int, int, int, int]] = {}  # id -> shard, item, first state, states
        for shard, folder in enumerate(map(Path, folders)):
            index, arrays, described = _read_shard(folder)
            self.shards.append(arrays)
            self.described.append(described)
            for item, (item_id, start, length) in enumerate(
                zip(index["id"], index["start"], index["length"], strict=True)
            ):
                self.place[item_id] = (shard, item, start, length)

    @classmethod
    def of(
        cls, ids: Sequence[str], states: Sequence[np.ndarray], pooled: np.ndarray, **optional: object
    ) -> "FeatureStore":
        """A store in memory of what an encoder gave, rounded as on disk; arguments as in `ShardWriter.add`."""
        store = cls([])
        store.shards.append(as_stored(states, pooled, **optional))
        lengths = [len(state) for state in states]
        starts = np.cumsum([0, *lengths])[:-1].tolist()
        for item, (item_id, start, length) in enumerate(zip(ids, starts, lengths, strict=True)):
            store.place[item_id] = (0, item, start, length)
        return store

    def __contains__(self, item_id: str) -> bool:
        return item_id in self.place

    def find(self, item_id: str) -> tuple[int, int, int, int]:
        """Shard, item, first state and number of states of an id; UserError where it is not stored."""
        try:
            return self.place[item_id]
        except KeyError:
            raise UserError(
                f"No features are stored for {item_id!r}: the embeddings are older than the corpora. "
                "Delete the embeddings folder of these results and run the same command again."
            ) from None

    @property
    def holds_tokens(self) -> bool:
        """Whether texts are kept as token ids, for a text tower that is trained."""
        return any(shard["states"].ndim == 1 for shard in self.shards if "states" in shard)

    @property
    def has_classes(self) -> bool:
        """Whether the encoder came with a classifier whose probabilities are stored."""
        return any("class_probabilities" in shard for shard in self.shards)

    def states(self, item_id: str) -> np.ndarray:
        """Token states of one item, [tokens, width], 16 bit; or its token ids [tokens]."""
        shard, _, start, length = self.find(item_id)
        return self.shards[shard]["states"][start : start + length]

    def spans(self, item_id: str) -> np.ndarray:
        """Characters of each token of one text, [tokens, 2]."""
        shard, _, start, length = self.find(item_id)
        return self.shards[shard]["spans"][start : start + length]

    def tokens(self, item_id: str) -> np.ndarray:
        """Token ids [tokens] of one text."""
        shard, _, start, length = self.find(item_id)
        arrays = self.shards[shard]
        return arrays["states" if arrays["states"].ndim == 1 else "tokens"][start : start + length]

    def length(self, item_id: str) -> int:
        """The number of tokens of one item."""
        return self.find(item_id)[3]

    def padded(self, ids: Sequence[str], tokens: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """States of several items padded to the longest, and what is real, [items, tokens].

        The states are [items, tokens, width] in 16 bit as stored, or token ids [items, tokens]: where a store holds
        nothing else, or where `tokens` asks for them.
        """
        rows = [self.tokens(item_id) if tokens else self.states(item_id) for item_id in ids]
        longest = max(map(len, rows))
        kind = np.int64 if rows[0].ndim == 1 else np.float16
        padded = np.zeros((len(rows), longest, *rows[0].shape[1:]), dtype=kind)
        real = np.zeros((len(rows), longest), dtype=bool)
        for k, row in enumerate(rows):
            padded[k, : len(row)] = row
            real[k, : len(row)] = True
        return padded, real

    def pooled(self, ids: Sequence[str]) -> np.ndarray:
        """Pooled states, [items, width], 32 bit."""
        return self._gather("pooled", ids)

    def class_probabilities(self, ids: Sequence[str]) -> np.ndarray:
        """The classifier's probabilities, [items, classes], 32 bit."""
        return self._gather("class_probabilities", ids)

    def let_go(self) -> None:
        """Let what was read so far count as this process's memory no longer; the system may keep it."""
        for arrays in self.shards:
            for array in arrays.values():
                if isinstance(array.base, mmap.mmap):
                    array.base.madvise(mmap.MADV_DONTNEED)

    def _gather(self, name: str, ids: Sequence[str]) -> np.ndarray:
        places = [self.find(item_id) for item_id in ids]
        width = next(arrays[name].shape[1] for arrays in self.shards if name in arrays)
        out = np.empty((len(ids), width), dtype=np.float32)
        for shard, arrays in enumerate(self.shards):
            here = [k for k, place in enumerate(places) if place[0] == shard]
            if here:
                out[here] = arrays[name][[places[k][1] for k in here]]
        return out
