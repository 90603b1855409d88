"""Batches of a step: words in context with their candidate senses, and senses with pictures and a phrase."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from polclip.corpora.texts import photo_text, text_id
from polclip.encoders.feature_store import FeatureStore
from polclip.inventory import Inventory
from polclip.model.losses import same_id
from polclip.model.polclip import Labels, PolCLIP, Represented, Tokens
from polclip.records import Phrase, Picture
from polclip.training.corpora import TextualCorpus, gloss_ids, tokens_of

CHUNK = 32


def shuffled(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of one batch after the other, every row once a pass, without end."""
    left = np.empty(0, dtype=int)
    while batch == 0:
        yield left
    while True:
        while len(left) < batch:
            left = np.concatenate([left, rng.permutation(count)])
        yield left[:batch]
        left = left[batch:]


class SenseCorpus:
    """Senses with pictures: what SIG, ISG and W2I learn from."""

    def __init__(self, phrases: list[Phrase], pictures: list[Picture]) -> None:
        self.pictures: dict[str, list[str]] = {}
        for picture in pictures:
            self.pictures.setdefault(picture.synset_id, []).append(picture.picture_id)
        self.texts: dict[str, list[str]] = {}
        for phrase in phrases:
            if phrase.synset_id in self.pictures:
                self.texts.setdefault(phrase.synset_id, []).append(text_id(photo_text(phrase.phrase)))
        self.synsets = sorted(self.texts)

    def __len__(self) -> int:
        return len(self.synsets)


class Step(NamedTuple):
    """Everything one step of training computes with."""

    words: np.ndarray  # rows of the textual corpus
    phrases: Tensor  # [n, w] pooled states of the senses' phrases
    gloss_ids: list[str]  # G text ids
    images: Tokens | None
    labels: Labels


def make_step(
    words: np.ndarray,
    senses: list[str],
    textual: TextualCorpus,
    visual: SenseCorpus | None,
    inventory: Inventory,
    texts: FeatureStore,
    pictures: FeatureStore | None,
    pictures_per_sense: int,
    own_candidates: bool,
    rng: np.random.Generator,
    device: torch.device,
) -> Step:
    """Join textual instances and senses with pictures into one batch, labelled by synset id.

    Contexts are the words in their sentences followed by a phrase of each sense. Every distinct gloss and
    picture stands once. `own_candidates` compares a word with its own candidates alone, else with all glosses;
    phrases are always compared with all.
    """
    golds = [[textual.synsets[c] for c in textual.candidates[k][textual.gold[k]]] for k in words]
    options = [[textual.synsets[c] for c in textual.candidates[k]] for k in words]
    synsets = list(dict.fromkeys([s for own in options for s in own] + senses))
    shown = [
        (picture, synset)
        for synset in senses
        for picture in rng.permutation(visual.pictures[synset])[:pictures_per_sense].tolist()
    ]
    contexts = golds + [[synset] for synset in senses]
    candidates = torch.ones(len(contexts), len(synsets), dtype=torch.bool)
    if own_candidates and words.size:
        candidates[: len(words)] = same_id(options, synsets)
    drawn = [visual.texts[s][rng.integers(len(visual.texts[s]))] for s in senses] if senses else []
    of_images = [synset for _, synset in shown]
    return Step(
        words=words,
        phrases=torch.from_numpy(texts.pooled(drawn)).to(device),
        gloss_ids=gloss_ids(inventory, synsets),
        images=tokens_of(pictures, [p for p, _ in shown], device) if shown else None,
        labels=Labels(
            gloss_of_image=same_id(synsets, of_images).to(device),
            gloss_of_context=same_id(contexts, synsets).to(device),
            candidates=candidates.to(device),
            image_of_context=same_id(contexts, of_images).to(device),
        ),
    )


def represent_glosses(model: PolCLIP, texts: FeatureStore, ids: list[str]) -> Represented:
    """Run the gloss side over texts of like length together, so that little padding is computed; order is kept."""
    lengths = np.array([len(texts.states(i)) for i in ids])
    order = np.argsort(lengths, kind="stable")
    parts = [
        model.gloss(tokens_of(texts, [ids[k] for k in order[start : start + CHUNK]], model.device))
        for start in range(0, len(order), CHUNK)
    ]
    back = torch.from_numpy(np.argsort(order, kind="stable")).to(model.device)
    return Represented(*(None if part[0] is None else torch.cat(part)[back] for part in zip(*parts, strict=True)))
