"""What training and prediction read: instances joined to their frozen features.

N instances, S senses (synsets), P pictures; w is a tower's width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polclip.corpora.texts import gloss_text, query_texts, text_id
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.inventory import Inventory
from polclip.model.polclip import Tokens
from polclip.records import TextualInstance, VisualInstance, read_records


@dataclass(frozen=True)
class TextualCorpus:
    """Words in their sentences with their candidate senses, as rows of tensors."""

    instances: list[TextualInstance]
    sentence: Tensor  # [N, w] pooled state of the sentence
    target: Tensor  # [N, w] mean of the target's token states
    candidates: list[np.ndarray]  # N arrays of positions in `synsets`
    gold: list[np.ndarray]  # N arrays of booleans over the candidates
    synsets: list[str]  # S synset ids

    def __len__(self) -> int:
        return len(self.instances)

    def rows(self, rows: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Target and sentence states of some instances, both [n, w], as `PolCLIP.word_in_context` takes them."""
        return self.target[rows].to(device), self.sentence[rows].to(device)

    @classmethod
    def read(cls, paths: Iterable[str | Path], inventory: Inventory, texts: FeatureStore) -> "TextualCorpus":
        """Read instances and gather their features; an empty corpus is a UserError."""
        paths = list(paths)
        instances = [instance for path in paths for instance in read_records(path, TextualInstance)]
        if not instances:
            raise UserError(f"No textual instance in {', '.join(map(str, paths))}.")
        place: dict[str, int] = {}
        candidates, gold = [], []
        for instance in instances:
            ids = [inventory.sense(key).synset_id for key in instance.candidates]
            candidates.append(np.array([place.setdefault(i, len(place)) for i in ids], dtype=int))
            gold.append(np.isin(instance.candidates, instance.gold))
        ids = [text_id(instance.text) for instance in instances]
        target = np.stack([target_state(texts, i, x.target_span) for i, x in zip(ids, instances, strict=True)])
        sentence = torch.from_numpy(texts.pooled(ids))
        return cls(instances, sentence, torch.from_numpy(target), candidates, gold, list(place))


def target_state(texts: FeatureStore, text: str, span: tuple[int, int]) -> np.ndarray:
    """Mean [w] of the token states whose characters overlap the span; of all where the text was cut before it."""
    spans, states = texts.spans(text), texts.states(text)
    inside = (spans[:, 0] < span[1]) & (spans[:, 1] > span[0])
    return (states[inside] if inside.any() else states).astype(np.float32).mean(0)


def gloss_ids(inventory: Inventory, synsets: Iterable[str]) -> list[str]:
    """Text ids of the synsets' glosses."""
    return [text_id(gloss_text(inventory.synset(synset_id))) for synset_id in synsets]


def tokens_of(store: FeatureStore, ids: Sequence[str], device: torch.device | str) -> Tokens:
    """Frozen features of texts or pictures padded to the longest, with class probabilities where there are some."""
    states, real = store.padded(ids)
    arrays = [store.pooled(ids), states, real]
    if store.has_classes:
        arrays.append(store.class_probabilities(ids))
    return Tokens(*(torch.from_numpy(array).to(device) for array in arrays))


def read_queries(
    paths: Iterable[str | Path], definitions: dict[str, str | None], forms: Sequence[str] = ("photo",)
) -> list[tuple[VisualInstance, list[str]]]:
    """Visual instances with the text ids of their query, one a form."""
    return [
        (query, [text_id(text) for text in query_texts(query, definitions.get(query.instance_id), forms)])
        for path in paths
        for query in read_records(path, VisualInstance)
    ]
