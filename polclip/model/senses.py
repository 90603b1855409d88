"""What words in context are compared with, beside what glosses and pictures say: what was learned of each sense."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polclip.model.blocks import unit


class SenseVectors(nn.Module):
    """A map of the glosses' vectors, from the identity, plus an offset of each sense that training has as a gold.

    Offsets are left out of training at random, so that the map of the glosses has to do without them: it is all there
    is for senses that training has never seen.

    Args:
        senses: synset ids with an offset of their own.
        dropout: how often an offset is left out.
    """

    def __init__(self, embed: int, senses: Sequence[str], dropout: float) -> None:
        super().__init__()
        self.senses, self.dropout = list(senses), dropout
        self.place = {synset_id: k for k, synset_id in enumerate(self.senses)}
        self.map = identity(embed)
        self.offsets = nn.Parameter(torch.zeros(len(self.senses), embed))

    def forward(self, glosses: Tensor, synset_ids: Sequence[str]) -> Tensor:
        """Vectors of glosses [n, d] and the synsets they are of -> [n, d] of length 1."""
        places = torch.tensor([self.place.get(synset_id, -1) for synset_id in synset_ids], device=glosses.device)
        kept = places >= 0
        if self.training:
            kept &= torch.rand(len(places), device=glosses.device) >= self.dropout
        offsets = torch.where(kept[:, None], self.offsets[places], 0.0)
        return unit(self.map(unit(glosses)) + offsets)


def identity(width: int) -> nn.Linear:
    """A linear map that starts as the identity."""
    linear = nn.Linear(width, width)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
