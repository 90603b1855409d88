"""The contrastive losses. Labels come from ids, so that a sense or picture is never a negative of itself."""

from collections.abc import Sequence

import torch
from torch import Tensor


def same_id(rows: Sequence[str | Sequence[str]], columns: Sequence[str]) -> Tensor:
    """Which column carries (one of) a row's ids: [rows, columns] of booleans."""
    where: dict[str, list[int]] = {}
    for k, column in enumerate(columns):
        where.setdefault(column, []).append(k)
    positive = torch.zeros(len(rows), len(columns), dtype=torch.bool)
    for k, row in enumerate(rows):
        for item in [row] if isinstance(row, str) else row:
            positive[k, where.get(item, [])] = True
    return positive


def contrastive_loss(
    similarity: Tensor,
    positive: Tensor,
    scale: Tensor | float,
    allowed: Tensor | None = None,
    several_positives: str = "mean",
) -> Tensor:
    """Cross-entropy of softmax(scale * similarity) against each row's positives in equal parts.

    Args:
        similarity: [rows, columns] cosines.
        positive: [rows, columns]; rows without a positive contribute nothing.
        scale: 1 / temperature.
        allowed: [rows, columns], the columns a row is compared with; all where None.
        several_positives: "mean" over a row's positives; "sum" (public code) lets rows with more weigh more.

    Returns:
        The mean over the rows that have a positive; 0 (with a gradient) where there are none.
    """
    logits = similarity * scale
    if allowed is not None:
        logits = logits.masked_fill(~(allowed | positive), float("-inf"))
    count = positive.sum(1)
    # where() keeps -inf * 0 = nan out of the sum
    log_probability = torch.where(positive, logits.log_softmax(1), 0.0).sum(1)
    if several_positives == "mean":
        log_probability = log_probability / count.clamp(min=1)
    return -log_probability.sum() / (count > 0).sum().clamp(min=1)
