"""The vectors of every gloss of the inventory for one model: computed once, memory-mapped.

A folder holds `synset_ids.txt` (a line a row), `plain.npy` (g), `matched.npy` (g + m_g) and, where the model learned of
each sense, `senses.npy` (what words are compared with), all [synsets, d] in 32 bit; `index.json` says of which model.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from polclip.corpora.texts import gloss_text, text_id
from polclip.encoders.in_memory import store_texts
from polclip.encoders.interface import TextEncoder
from polclip.errors import UserError
from polclip.files import complete_or_absent, read_json, sha256, write_json, write_text
from polclip.inventory import Inventory
from polclip.model.polclip import PolCLIP
from polclip.model.representations import Represented
from polclip.training.chunks import represent_glosses

AT_ONCE = 512


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

    Args:
        digest: `model_digest` of the model's folder.
        show: what tells of the progress, around the steps.
    """
    ids = inventory.synset_ids()
    lengths = [len(gloss_text(inventory.synset(synset_id))) for synset_id in ids]
    order = np.argsort(lengths, kind="stable")  # little padding is computed
    names = ("plain", "matched") + (("senses",) if learned_senses(model) else ())
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        arrays = {
            name: np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", np.float32, (len(ids), model.embed))
            for name in names
        }
        for start in show(range(0, len(ids), AT_ONCE), -(-len(ids) // AT_ONCE)):
            rows = order[start : start + AT_ONCE]
            some = [ids[row] for row in rows]
            gloss = encode_glosses(model, encoder, inventory, some)
            arrays["plain"][rows] = gloss.plain.float().cpu().numpy()
            arrays["matched"][rows] = gloss.matched.float().cpu().numpy()
            if "senses" in arrays:
                lineages = [inventory.lineage(synset_id) for synset_id in some]
                arrays["senses"][rows] = model.senses(gloss.vectors, lineages).float().cpu().numpy()
        for array in arrays.values():
            array.flush()
        write_text(temporary / "synset_ids.txt", "".join(f"{synset_id}\n" for synset_id in ids))
        write_json(temporary / "index.json", {"model": digest, "glosses": len(ids), "embed": model.embed})
    return len(ids)


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
        except (OSError, ValueError, KeyError, TypeError) as error:
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
