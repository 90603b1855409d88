"""What goes into PolCLIP and what comes out: frozen features or token ids of a batch, embeddings, labels, losses.

Shapes: C contexts, G glosses, I images of one step; b items, t tokens (padded to the longest), d the joint space.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Tokens(NamedTuple):
    """Texts or images of a batch.

    Of frozen towers: `pooled` [b, w], `states` [b, t, w] and, of images, `classes` [b, c]. A text tower that is
    trained reads token ids instead: `states` [b, t] of whole numbers, without `pooled`.
    """

    pooled: Tensor | None
    states: Tensor
    real: Tensor  # [b, t], False at padding
    classes: Tensor | None = None


class GlossVectors(NamedTuple):
    """What the vectors that words are compared with are made of, see `PolCLIP.senses`."""

    matched: Tensor  # [n, d], see `Represented`
    states: Tensor | None  # [n, d] means of the text tower's states, where the model reads these too

    def at(self, rows: Tensor) -> "GlossVectors":
        return GlossVectors(*(None if part is None else part[rows] for part in self))

    def to(self, device: torch.device | str) -> "GlossVectors":
        return GlossVectors(*(None if part is None else part.to(device) for part in self))


class Represented(NamedTuple):
    """A gloss or an image: its embedding, what was generated from it, and both fused; [b, d], None where off.

    `target` is its embedding by the momentum copy, for training; it carries no gradient. `states` is the mean of a
    gloss's states, where words are compared with these too.
    """

    plain: Tensor
    generated: Tensor | None
    fused: Tensor
    target: Tensor | None = None
    states: Tensor | None = None

    @property
    def matched(self) -> Tensor:
        """What a context is compared with at inference: plain + fused [b, d] (MODEL.md step 10)."""
        return self.plain + self.fused

    @property
    def vectors(self) -> GlossVectors:
        return GlossVectors(self.matched, self.states)


def joined(parts: list[Represented], order: Tensor | None = None) -> Represented:
    """Parts of a batch one after the other; `order` brings the rows into another order."""
    whole = (None if rows[0] is None else torch.cat(rows) for rows in zip(*parts, strict=True))
    return Represented(*(rows if rows is None or order is None else rows[order] for rows in whole))


class Labels(NamedTuple):
    """Which pairs of a step belong together, by id, and which senses a context may have."""

    gloss_of_image: Tensor  # [G, I]: the picture shows the gloss's sense
    gloss_of_context: Tensor  # [C, G]: gold
    candidates: Tensor  # [C, G]: the glosses a context is compared with
    image_of_context: Tensor  # [C, I]: the picture shows (one of) the context's gold senses
    image_of_caption: Tensor | None = None  # [K, I]: the picture shows what the caption says; None: no captions


class Chunks(NamedTuple):
    """Items of a batch in parts, of texts of like length, so that little padding is computed."""

    parts: list
    order: Tensor  # [n] where each item stands among the rows of the parts, put one after the other


class SenseRows(NamedTuple):
    """The candidate senses of a step's words, with the vectors of their glosses as they were computed a while ago."""

    lineages: list[list[str]]  # S, see `Inventory.lineage`
    glosses: GlossVectors  # of these S, without a gradient
    word: Tensor  # [p] of each pair of a word and a candidate: which word of the step,
    sense: Tensor  # [p] which of these senses,
    gold: Tensor  # [p] whether it is a gold; none is where a word has one candidate


class Batch(NamedTuple):
    """One step's share of one process (all of it where there is one process), and the labels of the whole step."""

    words: Chunks  # each part what `word_in_context` takes
    phrases: Chunks  # each part what `phrase` takes: whole texts that are contexts as well
    captions: Chunks | None  # the same, compared with images
    glosses: Chunks  # of Tokens
    images: Tokens | None
    labels: Labels
    word_count: int  # of the whole step
    table: SenseRows | None = None  # None: words are compared with the step's own glosses


class Losses(NamedTuple):
    """The four losses (0 where a part is off), and their sum."""

    sig: Tensor
    isg: Tensor
    w2s: Tensor
    w2i: Tensor

    @property
    def total(self) -> Tensor:
        return self.sig + self.isg + self.w2s + self.w2i
