"""Fusion: a gloss attends to its implicit image, an image to its implicit gloss (MODEL.md steps 4 and 7)."""

from torch import Tensor, nn

from polclip.model.blocks import CrossAttentionBlock, masked_mean, near_zero_linear, unit


class Fusion(nn.Module):
    """Cross-attention, feed-forward and masked mean; one set of weights serves both modalities.

    As with the generators, the fused vector is the source's own embedding plus a change that starts near zero.
    """

    def __init__(self, width: int, embed: int, heads: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.read = nn.Linear(embed, width)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, dropout) for _ in range(blocks))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.project = near_zero_linear(width, embed)

    def forward(self, tokens: Tensor, real: Tensor, generated: Tensor, source: Tensor) -> Tensor:
        """Fuse a source with what was generated from it.

        Args:
            tokens: [b, t, width], the query.
            real: [b, t], False at padding; the generated tokens stand at the same positions.
            generated: [b, t, embed], key and value.
            source: [b, embed], the source's own embedding.

        Returns:
            [b, embed] of length 1.
        """
        x, key = tokens, self.read(generated)
        for block in self.blocks:
            x = block(x, key, real)
        pooled = self.norm(masked_mean(self.feed_forward(x), real))
        return unit(source + self.project(pooled))
