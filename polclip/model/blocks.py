"""Pre-norm attention blocks with key-padding masks. Shapes: b items, t tokens, w width."""

import torch
from torch import Tensor, nn


class SelfAttentionBlock(nn.Module):
    """x [b, t, w] -> [b, t, w]; `real` [b, t] is False at padding, which no token attends to."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        normed = self.norm_attention(x)
        x = x + self.attention(normed, normed, normed, key_padding_mask=~real, need_weights=False)[0]
        return x + self.mlp(self.norm_mlp(x))


class CrossAttentionBlock(nn.Module):
    """query [b, t, w] attends to source [b, s, w]; `real` [b, s] is False at the source's padding, None: no padding."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), activation(), nn.Linear(4 * width, width))

    def forward(self, query: Tensor, source: Tensor, real: Tensor | None) -> Tensor:
        normed_query, normed_source = self.norm_attention(query), self.norm_attention(source)
        padding = None if real is None else ~real
        attended = self.attention(
            normed_query, normed_source, normed_source, key_padding_mask=padding, need_weights=False
        )[0]
        query = query + attended
        return query + self.mlp(self.norm_mlp(query))


def masked_mean(x: Tensor, real: Tensor | None) -> Tensor:
    """Mean over the real tokens: [b, t, w] and [b, t] (None: all are real) -> [b, w]."""
    if real is None:
        return x.mean(1)
    weights = real.to(x.dtype).unsqueeze(-1)
    return (x * weights).sum(1) / weights.sum(1).clamp(min=1)


def means_inside(x: Tensor, of: Tensor, inside: Tensor) -> Tensor:
    """Means over some tokens of some texts: x [b, t, w], the text `of` [n] and its tokens `inside` [n, t] -> [n, w]."""
    row, token = inside.nonzero(as_tuple=True)
    chosen = x.flatten(0, 1).index_select(0, of[row] * x.shape[1] + token)
    sums = chosen.new_zeros(len(of), x.shape[2]).index_add(0, row, chosen)
    return sums / inside.sum(1, keepdim=True)


def near_zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that starts close to zero, so that what it is added to starts unchanged."""
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=1e-3)
    nn.init.zeros_(linear.bias)
    return linear


def identity(width: int) -> nn.Linear:
    """A linear map that starts as the identity."""
    linear = nn.Linear(width, width)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def unit(x: Tensor) -> Tensor:
    """Scale the last axis to length 1."""
    return torch.nn.functional.normalize(x, dim=-1)
