"""Heads over a pair of frozen towers: from a tower's states to unit vectors of the joint space [n, embed].

Two unimodal towers are not a CLIP. `align_towers` trains these heads into the stand-in for one: a residual map
for texts, a map plus the picture's concept vectors for images.
"""

import torch
from torch import Tensor, nn

from polclip.model.blocks import identity, unit

SENSE_TEMPERATURE = 0.07


class ResidualTextHead(nn.Module):
    """pooled [n, width] -> unit(x + MLP(x)) [n, width]; the MLP starts at zero, so the head starts as identity.

    `context` [n, k * width], where given, is what the MLP reads in place of x (for a target word: the sentence
    and the word's own states).
    """

    def __init__(self, width: int, hidden: int, dropout: float, inputs: int = 1) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(inputs * width),
            nn.Dropout(dropout),
            nn.Linear(inputs * width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
        )
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    def forward(self, pooled: Tensor, context: Tensor | None = None) -> Tensor:
        base = unit(pooled)
        return unit(base + self.mlp(base if context is None else context))


class TargetWordHead(nn.Module):
    """Means of the states of target words and of their texts [n, width] -> unit vectors [n, width].

    A map of the word's own state, from the identity, plus an MLP of both that starts at zero.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.map = identity(width)
        self.residual = ResidualTextHead(width, hidden, dropout, inputs=2)

    def forward(self, target: Tensor, text: Tensor) -> Tensor:
        target = unit(target)
        return self.residual(self.map(target), torch.cat([target, unit(text)], -1))


class ConceptImageHead(nn.Module):
    """pooled [n, width], class probabilities [n, classes] -> unit vectors [n, embed]: the mean of some `members`.

    Members of one form, each with its own start and its own loss, err in different places, so that their mean is
    better than any of them. Their mean is drawn towards the concept that it makes of the senses trained on: ConSE
    once more, with these senses' glosses in place of the image tower's classes.
    """

    def __init__(
        self,
        width: int,
        embed: int,
        hidden: int,
        channel_dropout: float,
        dropout: float,
        class_embeddings: Tensor,
        members: int = 1,
        senses: int = 0,
        sense_weight: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = (width, len(class_embeddings), embed, hidden, channel_dropout, dropout)
        self.members = nn.ModuleList(_ImageMap(*sizes) for _ in range(members))
        self.register_buffer("class_embeddings", class_embeddings)
        self.register_buffer("sense_embeddings", torch.zeros(senses, embed))  # set when the heads are aligned
        self.sense_weight = sense_weight

    def each(self, pooled: Tensor, class_probabilities: Tensor) -> list[Tensor]:
        """What each member gives, [n, embed] unit vectors."""
        concept = unit(class_probabilities @ self.class_embeddings)
        # Probabilities are stored in 16 bit: the small number keeps the logarithm of their zeros finite.
        classes = (class_probabilities + 1e-6).log()
        return [member(pooled, classes, concept) for member in self.members]

    def forward(self, pooled: Tensor, class_probabilities: Tensor) -> Tensor:
        image = unit(torch.stack(self.each(pooled, class_probabilities)).mean(0))
        if not self.sense_weight:
            return image
        likely = (image @ self.sense_embeddings.T / SENSE_TEMPERATURE).softmax(-1)
        return unit(image + self.sense_weight * unit(likely @ self.sense_embeddings))


class _ImageMap(nn.Module):
    """The sum of three unit vectors: a map of the pooled state, a map of the classifier's log probabilities, and
    a * ConSE's concept (Norouzi et al. 2014: class embeddings averaged by the probabilities; `a` is learned,
    from 1). Whole channels of the frozen states are dropped in training.
    """

    def __init__(
        self, width: int, classes: int, embed: int, hidden: int, channel_dropout: float, dropout: float
    ) -> None:
        super().__init__()

        def branch(inputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.LayerNorm(inputs),
                nn.Dropout(channel_dropout),
                nn.Linear(inputs, hidden),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, embed),
            )

        self.from_state = branch(width)
        self.from_classes = branch(classes)
        self.concept_weight = nn.Parameter(torch.ones(()))

    def forward(self, pooled: Tensor, classes: Tensor, concept: Tensor) -> Tensor:
        return unit(unit(self.from_state(pooled)) + unit(self.from_classes(classes)) + self.concept_weight * concept)
