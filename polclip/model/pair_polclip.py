"""PolCLIP over a pair of towers that have no blocks to reuse: heads, generators and fusion of its own.

Glosses, phrases and pictures are read as the frozen towers' states. Words in context are read so too, or through a text
tower that is trained (`trainable_text_blocks`).

Shapes: C contexts, G glosses, I images of one batch; t tokens (padded to the batch's longest), d = embed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from polclip.errors import UserError
from polclip.model.blocks import SelfAttentionBlock, masked_mean, means_inside, unit
from polclip.model.checked_config import settings_from
from polclip.model.context_tower import ContextTower
from polclip.model.fusion import Fusion
from polclip.model.generation import Generated, Generator
from polclip.model.heads import ConceptImageHead, ResidualTextHead, TargetWordHead
from polclip.model.momentum import MomentumCopy
from polclip.model.polclip import PolCLIP, check_parts
from polclip.model.representations import GlossVectors, Represented, Tokens
from polclip.model.senses import SenseVectors


@dataclass(frozen=True)
class TowerSettings:
    """What the frozen towers give, and the form of the heads over them."""

    text_width: int
    image_width: int
    embed: int  # width of the joint space
    classes: int = 0  # of the image tower's classifier; 0 where it has none
    hidden: int = 512
    channel_dropout: float = 0.5
    dropout: float = 0.2
    members: int = 1  # maps of a picture that are averaged
    senses: int = 0  # that a picture's concept is made of, and its weight
    sense_weight: float = 0.0


@dataclass(frozen=True)
class PairModelSettings:
    """PolCLIP's own parts over a pair; every one of them can be switched off for an ablation."""

    width: int = 192
    heads: int = 8
    shared_blocks: int = 2
    own_blocks: int = 1
    fusion_blocks: int = 2
    dropout: float = 0.1
    sig: bool = True
    isg: bool = True
    fusion: bool = True
    momentum: float | None = 0.995  # None: the targets are the online heads
    temperature: float = 0.05  # where a learned one starts
    learn_temperature: bool = True
    trainable_text_blocks: int = 0  # of a text tower for words in context; 0: frozen states are read
    word_states: Literal["sentence", "target"] = (
        "sentence"  # what a word's vector starts as: its sentence's, or target: its own states'
    )
    sense_dropout: float | None = None  # of what is learned of each sense; None: glosses alone


@dataclass(frozen=True)
class TrainedParts:
    """What else config.json says of a pair's model; the arguments of `PairPolCLIP`."""

    text_transformer: dict | None
    text_layers: int
    text_precision: Literal["no", "bf16"]
    senses: list
    groups: list

    def __post_init__(self) -> None:
        if self.text_layers < 1:
            raise ValueError("text_layers: at least 1")
        if not all(isinstance(name, str) for name in (*self.senses, *self.groups)):
            raise ValueError("senses, groups: lists of texts")


class Heads(nn.Module):
    """The joint space: text [b, d] and image [b, d] embeddings of the frozen towers' pooled states."""

    def __init__(self, towers: TowerSettings) -> None:
        super().__init__()
        self.text = ResidualTextHead(towers.text_width, towers.hidden, towers.dropout)
        self.image = ConceptImageHead(
            towers.image_width,
            towers.embed,
            towers.hidden,
            towers.channel_dropout,
            towers.dropout,
            torch.zeros(towers.classes, towers.embed),
            towers.members,
            towers.senses,
            towers.sense_weight,
        )
        # Frozen MiniLM never learned to put a word's sense into the word's own states: the head reads them
        # together with the sentence's state and starts as the text head's sentence.
        self.word = ResidualTextHead(towers.text_width, towers.hidden, towers.dropout, inputs=2)

    def word_in_context(self, target: Tensor, sentence: Tensor) -> Tensor:
        """The target word's embedding e_w [C, d] from the mean of its states and its sentence's pooled state [C, w]."""
        return self.word(self.text(sentence), torch.cat([unit(sentence), unit(target)], -1))


class PairPolCLIP(PolCLIP):
    """One model for both tasks, over two towers that have been aligned.

    Args:
        text_transformer, text_layers, text_precision: of the text tower that is trained, see `ContextTower`.
        senses, groups: of which something is learned, see `SenseVectors`.
    """

    pretrained = ("heads.",)

    def __init__(
        self,
        towers: TowerSettings,
        settings: PairModelSettings,
        text_transformer: dict | None = None,
        text_layers: int = 1,
        text_precision: str = "no",
        senses: Sequence[str] = (),
        groups: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_parts(settings)
        self.towers, self.settings, self.embed = towers, settings, towers.embed
        self.heads = Heads(towers)
        if settings.word_states == "target":
            self.word = TargetWordHead(towers.text_width, towers.hidden, towers.dropout)
        self.context = None
        if settings.trainable_text_blocks:
            self.context = ContextTower(text_transformer, text_layers, settings.trainable_text_blocks, text_precision)
            self._refuse_contradictions()
        self.sense_vectors = None
        if settings.sense_dropout is not None and senses:  # trained on pictures alone there are none
            self.sense_vectors = SenseVectors(towers.embed, senses, groups, settings.sense_dropout)
        width, dropout = settings.width, settings.dropout
        if settings.sig or settings.isg:
            self.shared = nn.ModuleList(
                SelfAttentionBlock(width, settings.heads, dropout) for _ in range(settings.shared_blocks)
            )
        if settings.sig:
            self.read_text = nn.Sequential(nn.LayerNorm(towers.text_width), nn.Linear(towers.text_width, width))
            self.sig = Generator(width, towers.embed, settings.heads, settings.own_blocks, dropout)
        if settings.isg:
            self.read_image = nn.Sequential(
                nn.LayerNorm(towers.image_width),
                nn.Dropout(towers.channel_dropout),
                nn.Linear(towers.image_width, width),
            )
            self.isg = Generator(width, towers.embed, settings.heads, settings.own_blocks, dropout)
        if settings.fusion:
            self.fusion = Fusion(width, towers.embed, settings.heads, settings.fusion_blocks, dropout)
        self.log_scale = nn.Parameter(
            torch.tensor(1 / settings.temperature).log(), requires_grad=settings.learn_temperature
        )
        self.momentum = None if settings.momentum is None else MomentumCopy(self.heads, settings.momentum)

    def _refuse_contradictions(self) -> None:
        if self.settings.trainable_text_blocks > self.context.depth:
            raise UserError(
                f"model.trainable_text_blocks: {self.settings.trainable_text_blocks} blocks, but the text tower has "
                f"{self.context.depth}."
            )
        if self.context.layers > self.context.depth + 1:
            raise UserError(
                f"text_layers: {self.context.layers}, but the text tower has the states of {self.context.depth} blocks "
                f"and its embeddings: at most {self.context.depth + 1}."
            )
        if self.settings.word_states != "target":
            raise UserError(
                "model.word_states: sentence reads a frozen sentence; a text tower that is trained puts the sense into "
                "the word's own states: write target, or model.trainable_text_blocks: 0."
            )

    @property
    def reads_tokens(self) -> bool:
        return self.context is not None

    def try_reading(self) -> None:
        if self.context is not None:
            ids = torch.zeros(1, 2, dtype=torch.long)
            self.context.transformer(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)

    def word_in_context(self, *read: Tensor | Tokens) -> Tensor:
        """The target words' embeddings e_w [C, d].

        read: of a frozen tower, the means of the targets' states, their texts' pooled states and the means of their
        texts' states, all [C, w]; of a trained one, the token ids of texts, which of them are the targets' [C, t], and
        which text each target is of.
        """
        if self.context is not None:
            texts, inside, of = read
            states, means = self.context(texts.states, texts.real)
            return self.word(means_inside(states, of, inside).float(), means.index_select(0, of).float())
        target, sentence, mean = read
        if self.settings.word_states == "target":
            return self.word(target, mean)
        return self.heads.word_in_context(target, sentence)

    def senses(self, glosses: GlossVectors, lineages: Sequence[Sequence[str]]) -> Tensor:
        return glosses.matched if self.sense_vectors is None else self.sense_vectors(*glosses, lineages)

    def phrase(self, pooled: Tensor) -> Tensor:
        """A whole text's embedding t [C, d] from its pooled state [C, w]: the query of visual disambiguation."""
        return self.heads.text(pooled)

    def gloss(self, tokens: Tokens, with_target: bool = False) -> Represented:
        """Glosses of G senses; `generated` is the implicit image v_gen (SIG)."""
        plain = self.heads.text(tokens.pooled)
        target = self._target("text", tokens.pooled) if with_target else None
        states = None if self.sense_vectors is None else masked_mean(tokens.states, tokens.real)
        if not self.settings.sig:
            return Represented(plain, None, plain, target, states)
        completed = self._complete(self.read_text(tokens.states), tokens.real, plain, target, self.sig)
        return completed._replace(states=states)

    def image(self, tokens: Tokens, with_target: bool = False) -> Represented:
        """I images; `generated` is the implicit gloss s_gen (ISG)."""
        plain = self.heads.image(tokens.pooled, tokens.classes)
        target = self._target("image", tokens.pooled, tokens.classes) if with_target else None
        if not self.settings.isg:
            return Represented(plain, None, plain, target)
        return self._complete(self.read_image(tokens.states), tokens.real, plain, target, self.isg)

    @torch.no_grad()
    def _target(self, head: str, *states: Tensor) -> Tensor:
        heads = self.heads if self.momentum is None else self.momentum.module
        return getattr(heads, head)(*states)

    def _complete(
        self, read: Tensor, real: Tensor, plain: Tensor, target: Tensor | None, generator: Generator
    ) -> Represented:
        """Generate the missing modality from what was read [b, t, width], and fuse the two."""
        shared = read
        for block in self.shared:
            shared = block(shared, real)
        generated: Generated = generator(shared, real, plain)
        if not self.settings.fusion:
            return Represented(plain, generated.pooled, plain, target)
        return Represented(plain, generated.pooled, self.fusion(read, real, generated.tokens, plain), target)

    def restart_momentum(self) -> None:
        """Let the momentum copies start from the heads as they are now."""
        if self.momentum is not None:
            self.momentum.module.load_state_dict(self.heads.state_dict())

    def follow(self) -> None:
        if self.momentum is not None:
            self.momentum.follow(self.heads)

    def description(self) -> dict:
        return {
            "kind": "pair",
            "towers": asdict(self.towers),
            "model": asdict(self.settings),
            "text_transformer": self.context.config if self.context else None,
            "text_layers": self.context.layers if self.context else 1,
            "text_precision": self.context.precision if self.context else "no",
            "senses": self.sense_vectors.senses if self.sense_vectors else [],
            "groups": self.sense_vectors.groups if self.sense_vectors else [],
        }

    @classmethod
    def from_description(cls, config: dict) -> "PairPolCLIP":
        towers = settings_from(TowerSettings, config["towers"])
        settings = settings_from(PairModelSettings, config["model"])
        parts = settings_from(TrainedParts, {field.name: config[field.name] for field in fields(TrainedParts)})
        return cls(towers, settings, **vars(parts))
