"""Frozen features on disk: memory-mapped 16-bit arrays, a folder a shard, rows found by id.

A shard folder holds `index.parquet` (id, first row of its states, number of states), `states.npy`
[rows, width], `pooled.npy` [items, width] and, where the encoder gives them, `spans.npy` [rows, 2] and
`class_probabilities.npy` [items, classes].
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from polclip.errors import UserError
from polclip.files import complete_or_absent

OPTIONAL = ("spans", "class_probabilities")


def shard_of(item_id: str, shards: int) -> int:
    """The shard an id belongs to: by its digest, so that other items never move it."""
    return int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:8], "big") % shards


class ShardWriter:
    """Collects encoded batches of one shard and writes them together at the end."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.lengths: list[int] = []
        self.arrays: dict[str, list[np.ndarray]] = {}

    def add(self, ids: Sequence[str], states: Iterable[np.ndarray], pooled: np.ndarray, **optional: object) -> None:
        """Add a batch: `states` is one [tokens, width] array an item; `spans` likewise; the rest [items, ...]."""
        states = list(states)
        self.ids += list(ids)
        self.lengths += [len(state) for state in states]
        self._append("states", np.concatenate(states).astype(np.float16))
        self._append("pooled", pooled.astype(np.float16))
        if (spans := optional.get("spans")) is not None:
            self._append("spans", np.concatenate(list(spans)).astype(np.int32))
        if (probabilities := optional.get("class_probabilities")) is not None:
            self._append("class_probabilities", np.asarray(probabilities, dtype=np.float16))

    def _append(self, name: str, array: np.ndarray) -> None:
        self.arrays.setdefault(name, []).append(array)

    def write(self, folder: str | Path) -> None:
        starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]) if self.ids else []
        index = pd.DataFrame({"id": self.ids, "start": starts, "length": self.lengths})
        with complete_or_absent(folder) as temporary:
            temporary.mkdir()
            index.to_parquet(temporary / "index.parquet", index=False)
            for name, parts in self.arrays.items():
                np.save(temporary / f"{name}.npy", np.concatenate(parts))


class FeatureStore:
    """Reads the shards of one kind of item as if they were one; arrays stay on disk until rows are asked for."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.shards: list[dict[str, np.ndarray]] = []
        self.place: dict[str, tuple[int, int, int, int]] = {}  # id -> shard, item, first state, states
        for shard, folder in enumerate(map(Path, folders)):
            index = pd.read_parquet(folder / "index.parquet")
            names = ("states", "pooled", *OPTIONAL)
            self.shards.append(
                {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in names if (folder / f"{n}.npy").exists()}
            )
            for item, (item_id, start, length) in enumerate(
                zip(index["id"], index["start"], index["length"], strict=True)
            ):
                self.place[item_id] = (shard, item, start, length)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self.place

    def _find(self, item_id: str) -> tuple[int, int, int, int]:
        try:
            return self.place[item_id]
        except KeyError:
            raise UserError(
                f"No features are stored for {item_id!r}: the embeddings are older than the corpora. "
                "Delete the embeddings folder of these results and run the same command again."
            ) from None

    @property
    def width(self) -> int:
        return next(s["states"].shape[1] for s in self.shards if "states" in s)

    @property
    def has_classes(self) -> bool:
        """Whether the encoder came with a classifier whose probabilities are stored."""
        return any("class_probabilities" in shard for shard in self.shards)

    def states(self, item_id: str) -> np.ndarray:
        """Token states of one item, [tokens, width], 16 bit."""
        shard, _, start, length = self._find(item_id)
        return self.shards[shard]["states"][start : start + length]

    def spans(self, item_id: str) -> np.ndarray:
        """Characters of each token of one text, [tokens, 2]."""
        shard, _, start, length = self._find(item_id)
        return self.shards[shard]["spans"][start : start + length]

    def padded(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """States of several items padded to the longest, [items, tokens, width], and what is real, [items, tokens]."""
        rows = [self.states(item_id) for item_id in ids]
        longest = max(map(len, rows))
        padded = np.zeros((len(rows), longest, self.width), dtype=np.float32)
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

    def _gather(self, name: str, ids: Sequence[str]) -> np.ndarray:
        places = [self._find(item_id) for item_id in ids]
        width = next(arrays[name].shape[1] for arrays in self.shards if name in arrays)
        out = np.empty((len(ids), width), dtype=np.float32)
        for shard, arrays in enumerate(self.shards):
            here = [k for k, place in enumerate(places) if place[0] == shard]
            if here:
                out[here] = arrays[name][[places[k][1] for k in here]]
        return out
