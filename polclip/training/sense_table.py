"""Vectors of all candidate senses, so that a step over hundreds of words need not encode their glosses."""

from collections.abc import Sequence

import numpy as np
import torch

from polclip.encoders.feature_store import FeatureStore
from polclip.inventory import Inventory
from polclip.model.polclip import PolCLIP
from polclip.model.representations import GlossVectors, SenseRows
from polclip.training.chunks import represent_glosses
from polclip.training.corpora import TextualCorpus, gloss_ids

AT_ONCE = 2048  # glosses whose states are in memory together


class SenseTable:
    """`glosses`, the vectors of some synsets' glosses as they were when last refreshed; None before."""

    glosses: GlossVectors | None = None

    def __init__(self, texts: FeatureStore, inventory: Inventory, synsets: Sequence[str]) -> None:
        self.place = {synset_id: k for k, synset_id in enumerate(dict.fromkeys(synsets))}
        self.texts, self.ids = texts, gloss_ids(inventory, self.place)
        self.lineages = [inventory.lineage(synset_id) for synset_id in self.place]

    @torch.no_grad()
    def refresh(self, model: PolCLIP) -> None:
        """Compute all glosses anew by the model as it is now, which stays in training or evaluation mode."""
        training = model.training
        model.eval()
        parts = []
        for start in range(0, len(self.ids), AT_ONCE):
            parts.append(represent_glosses(model, self.texts, self.ids[start : start + AT_ONCE]).vectors.to("cpu"))
            self.texts.let_go()
        self.glosses = GlossVectors(*(None if of[0] is None else torch.cat(of) for of in zip(*parts, strict=True)))
        model.train(training)

    def of(self, synset_ids: Sequence[str]) -> GlossVectors:
        """The vectors of some synsets' glosses."""
        return self.glosses.at(torch.tensor([self.place[synset_id] for synset_id in synset_ids]))

    def rows(self, corpus: TextualCorpus, words: Sequence[int], device: torch.device | str) -> SenseRows:
        """What some words of a corpus are compared with: all their candidate senses, each once."""
        candidates = [corpus.candidates[k] for k in words]
        used, sense = np.unique(np.concatenate(candidates), return_inverse=True)
        word = np.repeat(np.arange(len(words)), list(map(len, candidates)))
        gold = np.concatenate([corpus.gold[k] & (len(corpus.gold[k]) > 1) for k in words])
        synset_ids = [corpus.synsets[k] for k in used]
        pairs = (torch.from_numpy(array).to(device) for array in (word, sense, gold))
        lineages = [self.lineages[self.place[synset_id]] for synset_id in synset_ids]
        return SenseRows(lineages, self.of(synset_ids).to(device), *pairs)
