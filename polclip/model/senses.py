"""What words in context are compared with, beside what glosses and pictures say: what was learned of each sense."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polclip.model.blocks import identity, unit

# Of a sense's own offset in use: it speaks for the senses that training has as golds, against those that it never has.
# On the dev sets half and full weight came to the same, half a little better for the latter.
IN_USE = 0.5


class SenseVectors(nn.Module):
    """Maps of the glosses' vectors and of their states, from the identity, plus offsets: one of each sense that
    training has as a gold, and one of each group of senses that it belongs to.

    A word is read as states of its own, and these are like those of its gloss before anything is learned. Senses' own
    offsets are left out of training at random, so that the rest has to do without them: it is all there is for senses
    that training has never seen. Those that stay count for those left out, as in any dropout; in use all count IN_USE.

    Args:
        senses: synset ids with an offset of their own.
        groups: names of groups with one, see `Inventory.lineage`.
        dropout: how often a sense's own offset is left out.
    """

    def __init__(self, embed: int, senses: Sequence[str], groups: Sequence[str], dropout: float) -> None:
        super().__init__()
        self.senses, self.groups, self.dropout = list(senses), list(groups), dropout
        self.place = {synset_id: k for k, synset_id in enumerate(self.senses)}
        self.place_of_group = {name: k for k, name in enumerate(self.groups)}
        self.map, self.read = identity(embed), identity(embed)
        self.offsets = nn.Parameter(torch.zeros(len(self.senses), embed))
        self.group_offsets = nn.Parameter(torch.zeros(len(self.groups), embed))

    def forward(self, glosses: Tensor, states: Tensor, lineages: Sequence[Sequence[str]]) -> Tensor:
        """Vectors and mean states of glosses [n, d], and of each its synset with the groups it is in -> [n, d] of
        length 1."""
        vectors = unit(self.map(unit(glosses))) + unit(self.read(unit(states)))
        own = _places([lineage[:1] for lineage in lineages], self.place).to(glosses.device)
        shared = _places([lineage[1:] for lineage in lineages], self.place_of_group).to(glosses.device)
        weight = IN_USE
        if self.training:
            own = own[torch.rand(len(own), device=glosses.device) >= self.dropout]
            weight = 1 / (1 - self.dropout)
        vectors = vectors.index_add(0, own[:, 0], weight * self.offsets.index_select(0, own[:, 1]))
        return unit(vectors.index_add(0, shared[:, 0], self.group_offsets.index_select(0, shared[:, 1])))


def _places(names: Sequence[Sequence[str]], place: Mapping[str, int]) -> Tensor:
    """The row and the place [p, 2] of every name of the rows that has one."""
    pairs = [(row, place[name]) for row, of_row in enumerate(names) for name in of_row if name in place]
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2)
