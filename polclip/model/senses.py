"""What words in context are compared with, beside what glosses and pictures say: what was learned of each sense."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polclip.model.blocks import identity, unit


class SenseVectors(nn.Module):
    """Maps of the glosses' vectors and of their states, from the identity, plus an offset of each sense that training
    has as a gold.

    A word is read as states of its own, and these are like those of its gloss before anything is learned. Offsets are
    left out of training at random, so that the maps have to do without them: they are all there is for senses that
    training has never seen. Those that stay count for those left out, as in any dropout.

    Args:
        senses: synset ids with an offset of their own.
        dropout: how often an offset is left out.
    """

    def __init__(self, embed: int, senses: Sequence[str], dropout: float) -> None:
        super().__init__()
        self.senses, self.dropout = list(senses), dropout
        self.place = {synset_id: k for k, synset_id in enumerate(self.senses)}
        self.map, self.read = identity(embed), identity(embed)
        self.offsets = nn.Parameter(torch.zeros(len(self.senses), embed))

    def forward(self, glosses: Tensor, states: Tensor, synset_ids: Sequence[str]) -> Tensor:
        """Vectors and mean states of glosses [n, d] and the synsets they are of -> [n, d] of length 1."""
        places = torch.tensor([self.place.get(synset_id, -1) for synset_id in synset_ids], device=glosses.device)
        kept = places >= 0
        weight = 1.0
        if self.training:
            kept &= torch.rand(len(places), device=glosses.device) >= self.dropout
            weight = 1 / (1 - self.dropout)
        offsets = torch.where(kept[:, None], weight * self.offsets[places], 0.0)
        return unit(unit(self.map(unit(glosses))) + unit(self.read(unit(states))) + offsets)
