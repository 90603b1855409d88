"""The four contrastive losses. Labels come from ids, so that a sense or picture is never a negative of itself."""

from collections.abc import Sequence

import torch
from torch import Tensor

from polclip.model.representations import Labels, Losses, Represented


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


def candidates_loss(logits: Tensor, word: Tensor, gold: Tensor, words: int) -> Tensor:
    """Cross-entropy of each word's softmax over its own candidates against its golds in equal parts.

    Args:
        logits: [p], of pairs of a word and a candidate.
        word: [p] whose pair each is, from 0 to `words`.
        gold: [p] of booleans.

    Returns:
        The mean over the words that have a gold.
    """
    most = logits.new_full((words,), float("-inf")).scatter_reduce(0, word, logits.detach(), "amax")
    total = logits.new_zeros(words).index_add(0, word, (logits - most[word]).exp()).log() + most
    golds = torch.bincount(word[gold], minlength=words)
    own = (logits - total.index_select(0, word))[gold] / golds[word[gold]]
    return -own.sum() / (golds > 0).sum().clamp(min=1)


def four_losses(
    contexts: Tensor,
    captions: Tensor | None,
    gloss: Represented | None,
    image: Represented | None,
    labels: Labels,
    scale: Tensor,
    several_positives: str = "mean",
) -> Losses:
    """The losses of one step (MODEL.md step 9). Without images only W2S remains, without glosses nothing.

    Args:
        contexts: [C, d], words in context and phrases.
        captions: [K, d], compared with images in place of the contexts; None for the paper's figure.
        gloss, image: the step's G glosses and I images, with their targets.
        labels: which of them belong together.
        scale: 1 / temperature.
    """

    def loss(rows: Tensor, columns: Tensor, positive: Tensor, allowed: Tensor | None = None) -> Tensor:
        return contrastive_loss(rows @ columns.T, positive, scale, allowed, several_positives)

    zero = contexts.new_zeros(())
    if gloss is None:
        return Losses(zero, zero, zero, zero)
    w2s = loss(contexts, gloss.fused, labels.gloss_of_context, labels.candidates)
    if image is None:
        return Losses(zero, zero, w2s, zero)
    if captions is None:
        w2i = loss(contexts, image.fused, labels.image_of_context)
    else:
        w2i = loss(captions, image.fused, labels.image_of_caption)
    sig = zero if gloss.generated is None else loss(gloss.generated, image.target, labels.gloss_of_image)
    isg = zero if image.generated is None else loss(image.generated, gloss.target, labels.gloss_of_image.T)
    return Losses(sig, isg, w2s, w2i)
