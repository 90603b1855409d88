"""The vectors of every gloss of the inventory for one model: computed once, memory-mapped.

A folder holds `synset_ids.txt` (a line a row), `plain.npy` (g), `matched.npy` (g + m_g) and, where the model learned of
each sense, `senses.npy` (what words are compared with), all [synsets, d] in 32 bit; `index.json` says of which model.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from polclip.corpora.texts import gloss_text, text_id
from polclip.downloads.disk import check_space
from polclip.encoders.in_memory import store_texts
from polclip.encoders.interface import TextEncoder
from polclip.errors import UserError
from polclip.files import read_json, sha256, write_json, write_text
from polclip.inventory import Inventory
from polclip.model.polclip import PolCLIP
from polclip.model.representations import Represented
from polclip.training.chunks import represent_glosses

log = logging.getLogger(__name__)
AT_ONCE = 512
SAVE_EVERY = 20  # batches: half a minute on two cores
PROGRESS = "progress.json"


def model_digest(folder: str | Path) -> str:
    """What stands for a model: its weights, its form, and what it reads with."""
    whole = hashlib.sha256()
    for name in ("model.safetensors", "config.json", "encoders.json"):
        path = Path(folder) / name
        whole.update(f"{name}:{sha256(path) if path.exists() else ''}\n".encode())
    return whole.hexdigest()


@torch.inference_mode()
def encode_glosses(
    model: PolCLIP, encoder: TextEncoder, inventory: Inventory, synset_ids: Sequence[str]
) -> Represented:
    """Glosses of synsets, [n, d] each, in their order."""
    texts = [gloss_text(inventory.synset(synset_id)) for synset_id in synset_ids]
    return represent_glosses(model, store_texts(encoder, texts), [text_id(text) for text in texts])


@torch.inference_mode()
def build_index(
    folder: str | Path,
    model: PolCLIP,
    digest: str,
    encoder: TextEncoder,
    inventory: Inventory,
    show: Callable = lambda steps, total: tqdm(steps, desc="index glosses", unit="batch", total=total, mininterval=5),
) -> int:
    """Write the index of a model, complete or absent; return the number of its glosses.

    An interrupted build resumes: finished rows are kept in `{folder}.partial` until the index is complete.

    Args:
        digest: `model_digest` of the model's folder.
        show: wraps the steps and shows the progress.

    Raises UserError: another process builds the same index, or the disk is too small.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"Another process is building {folder}. Wait until it has finished, or stop it.") from error
    with lock:
        ids = inventory.synset_ids()
        lengths = [len(gloss_text(inventory.synset(synset_id))) for synset_id in ids]
        order = np.argsort(lengths, kind="stable")  # glosses of like length share a batch: little padding
        description = {"model": digest, "glosses": len(ids), "embed": model.embed}
        partial = folder.with_name(f"{folder.name}.partial")
        rows_done = _rows_done(partial, description)
        names = ("plain", "matched") + (("senses",) if learned_senses(model) else ())
        if not rows_done:  # a full disk would end a memory-mapped write with a bus error
            check_space(folder, len(names) * len(ids) * model.embed * np.float32().itemsize, f"The index {folder}")
        arrays = {
            name: np.lib.format.open_memmap(
                partial / f"{name}.npy", "r+" if rows_done else "w+", np.float32, (len(ids), model.embed)
            )
            for name in names
        }
        starts = range(rows_done, len(ids), AT_ONCE)
        for step, start in enumerate(show(starts, len(starts)), start=1):
            rows = order[start : start + AT_ONCE]
            batch = [ids[row] for row in rows]
            gloss = encode_glosses(model, encoder, inventory, batch)
            arrays["plain"][rows] = gloss.plain.float().cpu().numpy()
            arrays["matched"][rows] = gloss.matched.float().cpu().numpy()
            if "senses" in arrays:
                lineages = [inventory.lineage(synset_id) for synset_id in batch]
                arrays["senses"][rows] = model.senses(gloss.vectors, lineages).float().cpu().numpy()
            if step % SAVE_EVERY == 0 or start + AT_ONCE >= len(ids):
                for array in arrays.values():
                    array.flush()
                write_json(partial / PROGRESS, description | {"rows_done": start + len(rows)})
        write_text(partial / "synset_ids.txt", "".join(f"{synset_id}\n" for synset_id in ids))
        write_json(partial / "index.json", description)
        (partial / PROGRESS).unlink()
        if folder.is_dir():
            shutil.rmtree(folder)
        partial.rename(folder)
    return len(ids)


def _rows_done(partial: Path, description: dict) -> int:
    """How many rows an interrupted build of this very index has finished; the folder is emptied where that is none."""
    try:
        progress = read_json(partial / PROGRESS)
        rows_done = progress.pop("rows_done")
        if progress == description:
            return rows_done
    except FileNotFoundError:
        pass
    except (OSError, UserError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the index is built anew.", partial / PROGRESS, error)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    return 0


def learned_senses(model: PolCLIP) -> bool:
    """Whether words are compared with other vectors than those of the glosses."""
    return getattr(model, "sense_vectors", None) is not None


@dataclass(frozen=True)
class GlossIndex:
    """An index as it is read; rows are loaded from disk when they are asked for."""

    synset_ids: list[str]
    plain: np.ndarray  # [n, d], as the others
    matched: np.ndarray
    senses: np.ndarray

    @classmethod
    def read(cls, folder: str | Path, digest: str) -> "GlossIndex":
        """Read the index of one model; UserError where there is none, or one of another model or broken."""
        folder = Path(folder)
        how = "Delete the folder and index the model again: polclip index --model FOLDER"
        try:
            told = read_json(folder / "index.json")
            ids = (folder / "synset_ids.txt").read_text(encoding="utf-8").split()
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r")
                for name in ("plain", "matched", "senses")
                if name != "senses" or (folder / "senses.npy").exists()
            }
            fits = all(array.shape == (len(ids), told["embed"]) for array in arrays.values())
            of_this = told["model"] == digest
        except (OSError, ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{folder} is no index of glosses that can be read ({error!r}). {how}") from error
        if not of_this:
            raise UserError(f"{folder} is the index of another model. {how}")
        if not fits:
            raise UserError(f"{folder}: the arrays of the index do not fit each other. {how}")
        return cls(ids, arrays["plain"], arrays["matched"], arrays.get("senses", arrays["matched"]))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {synset_id: row for row, synset_id in enumerate(self.synset_ids)}

    def holds(self, synset_ids: Sequence[str]) -> bool:
        return all(synset_id in self._rows for synset_id in synset_ids)

    def senses_of(self, synset_ids: Sequence[str]) -> torch.Tensor:
        """What words are compared with [n, d], of some synsets."""
        return torch.from_numpy(self.senses[[self._rows[synset_id] for synset_id in synset_ids]])

    def nearest_glosses(self, vector: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The k synsets whose glosses are nearest to a vector [d] of length 1, with their cosines."""
        cosines = self.plain @ vector
        return [(self.synset_ids[row], float(cosines[row])) for row in np.argsort(-cosines, kind="stable")[:k]]
