"""Generating the missing modality: SIG (sense to image) and ISG (image to sense), MODEL.md steps 3 and 6.

Both directions read their tokens through the same shared self-attention blocks, then through blocks of their
own. Where a tower has no transformer blocks that could be reused, these own blocks take their place.
"""

from typing import NamedTuple

from torch import Tensor, nn

from polclip.model.blocks import SelfAttentionBlock, masked_mean, near_zero_linear, unit


class Generated(NamedTuple):
    """An implicit image or gloss: `pooled` [b, embed] and `tokens` [b, t, embed], all of length 1."""

    pooled: Tensor
    tokens: Tensor


class Generator(nn.Module):
    """Own blocks of one direction, and its projection into the joint space.

    What is generated is the source's own embedding plus a learned change that starts near zero: in an aligned
    space a gloss is a fair first guess of its picture.
    """

    def __init__(self, width: int, embed: int, heads: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(width, width)
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.project = near_zero_linear(width, embed)

    def forward(self, tokens: Tensor, real: Tensor, source: Tensor) -> Generated:
        """tokens [b, t, width] after the shared blocks, real [b, t], source [b, embed] -> Generated."""
        x = self.enter(tokens)
        for block in self.blocks:
            x = block(x, real)
        mean = self.norm(masked_mean(x, real))
        pooled = unit(source + self.project(mean))
        return Generated(pooled, unit(source.unsqueeze(1) + self.project(self.norm(x))))
