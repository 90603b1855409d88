"""Vectors of all candidate senses of a corpus, so that a step over hundreds of words need not encode their glosses."""

from collections.abc import Sequence

import numpy as np
import torch

from polclip.inventory import Inventory
from polclip.model.polclip import PolCLIP
from polclip.model.representations import SenseRows
from polclip.training.chunks import represent_glosses
from polclip.training.corpora import TextualCorpus, gloss_ids

AT_ONCE = 2048  # glosses whose states are in memory together


class SenseTable:
    """`glosses` [S, d], the `matched` vectors of the synsets of a corpus as they were when last refreshed."""

    def __init__(self, model: PolCLIP, corpus: TextualCorpus, inventory: Inventory) -> None:
        self.corpus = corpus
        self.ids = gloss_ids(inventory, corpus.synsets)
        self.glosses = torch.zeros(len(self.ids), model.embed)

    @torch.no_grad()
    def refresh(self, model: PolCLIP) -> None:
        """Compute all glosses anew by the model as it is now, which stays in training or evaluation mode."""
        training = model.training
        model.eval()
        for start in range(0, len(self.ids), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            self.glosses[some] = represent_glosses(model, self.corpus.texts, self.ids[some]).matched.cpu()
        model.train(training)

    def rows(self, words: Sequence[int], device: torch.device | str) -> SenseRows:
        """What some words of the corpus are compared with: all their candidate senses, each once."""
        candidates = [self.corpus.candidates[k] for k in words]
        used, column = np.unique(np.concatenate(candidates), return_inverse=True)
        row = np.repeat(np.arange(len(words)), list(map(len, candidates)))
        gold = np.concatenate([self.corpus.gold[k] & (len(self.corpus.gold[k]) > 1) for k in words])
        allowed = torch.zeros(len(words), len(used), dtype=torch.bool)
        positive = allowed.clone()
        allowed[row, column] = True
        positive[row[gold], column[gold]] = True
        return SenseRows(
            [self.corpus.synsets[k] for k in used],
            self.glosses[torch.from_numpy(used)].to(device),
            positive.to(device),
            allowed.to(device),
        )
