"""Texts of a batch in parts of like length, so that little padding is computed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from polclip.encoders.feature_store import FeatureStore
from polclip.model.polclip import PolCLIP
from polclip.model.representations import Chunks, Represented, joined
from polclip.training.corpora import TextualCorpus, tokens_of, whole_texts

CHUNK = 32  # texts of one part, at most
WITHOUT_GRADIENT = 256  # the same where nothing is kept for a gradient
WASTE = 0.15  # share of a part's positions that are padding, at most


def words_in_chunks(textual: TextualCorpus | None, rows: Sequence[int], device: torch.device | str) -> Chunks:
    """Words in parts of texts of like length; each text stands once, with all its words."""
    if not rows or not textual.tokens:
        return Chunks([textual.words(rows, device)] if rows else [], torch.arange(len(rows), device=device))
    of_text: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        of_text.setdefault(textual.text_ids[row], []).append(at)
    ids, order, parts = list(of_text), [], []
    for some in parts_of_like_length([textual.texts.length(item) for item in ids], _most()):
        places = [at for k in some for at in of_text[ids[k]]]
        parts.append(textual.words([rows[at] for at in places], device))
        order += places
    return Chunks(parts, torch.from_numpy(np.argsort(order, kind="stable")).to(device))


def in_chunks(
    texts: FeatureStore, ids: Sequence[str], read: Callable, device: torch.device | str, padded: bool = True
) -> Chunks:
    """Parts of `ids`, each read by their places, such that at most WASTE of what is computed is padding.

    Frozen pooled states have no padding: where `read` gives those, `padded` is False and there is one part.
    """
    if not padded:
        return Chunks([read(list(range(len(ids))))] if ids else [], torch.arange(len(ids), device=device))
    parts = parts_of_like_length([texts.length(item) for item in ids])
    order = [place for part in parts for place in part]
    return Chunks([read(part) for part in parts], torch.tensor(np.argsort(order, kind="stable"), device=device))


def _most() -> int:
    return CHUNK if torch.is_grad_enabled() else WITHOUT_GRADIENT


def parts_of_like_length(lengths: Sequence[int], most: int = CHUNK) -> list[list[int]]:
    """The places of all items, in parts of at most so many whose padding is at most WASTE of what is computed."""
    lengths = np.array(lengths, dtype=int)
    order = np.argsort(lengths, kind="stable")
    parts, start = [], 0
    for end in range(1, len(order) + 1):
        # The part would be as long as its last text, which is its longest.
        if end == len(order) or end - start == most or _waste(lengths[order[start : end + 1]]) > WASTE:
            parts.append(order[start:end].tolist())
            start = end
    return parts


def _waste(lengths: np.ndarray) -> float:
    return 1 - lengths.sum() / (lengths[-1] * len(lengths))


def glosses_in_chunks(texts: FeatureStore, ids: Sequence[str], device: torch.device | str) -> Chunks:
    return in_chunks(texts, ids, lambda some: tokens_of(texts, [ids[k] for k in some], device), device)


def whole_texts_in_chunks(texts: FeatureStore, ids: Sequence[str], device: torch.device | str) -> Chunks:
    return in_chunks(
        texts, ids, lambda some: whole_texts(texts, [ids[k] for k in some], device), device, texts.holds_tokens
    )


def represent_glosses(model: PolCLIP, texts: FeatureStore, ids: Sequence[str]) -> Represented:
    """Run the gloss side over many texts, a part of like length at a time; order is kept."""
    parts = parts_of_like_length([texts.length(item) for item in ids], _most())
    order = torch.from_numpy(np.argsort(np.concatenate(parts), kind="stable")).to(model.device)
    return joined([model.gloss(tokens_of(texts, [ids[k] for k in part], model.device)) for part in parts], order)
