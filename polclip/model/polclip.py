"""PolCLIP over frozen towers: heads, generators, fusion, momentum copies and the four losses (MODEL.md).

Shapes: C contexts, G glosses, I images of one batch; t tokens (padded to the batch's longest), d = embed.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.model.blocks import SelfAttentionBlock, unit
from polclip.model.fusion import Fusion
from polclip.model.generation import Generated, Generator
from polclip.model.heads import ConceptImageHead, ProjectionHead, ResidualTextHead
from polclip.model.losses import contrastive_loss
from polclip.model.momentum import MomentumCopy


@dataclass(frozen=True)
class TowerSettings:
    """What the frozen towers give, and the form of the heads over them."""

    kind: str  # pair | clip
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
class ModelSettings:
    """PolCLIP's own parts; every one of them can be switched off for an ablation."""

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


class Tokens(NamedTuple):
    """Frozen features of a batch: `pooled` [b, w], `states` [b, t, w], `real` [b, t]; images also `classes` [b, c]."""

    pooled: Tensor
    states: Tensor
    real: Tensor
    classes: Tensor | None = None


class Represented(NamedTuple):
    """A gloss or an image: its embedding, what was generated from it, and both fused; [b, d], None where off.

    `target` is its embedding by the momentum copy, for training; it carries no gradient.
    """

    plain: Tensor
    generated: Tensor | None
    fused: Tensor
    target: Tensor | None = None

    @property
    def matched(self) -> Tensor:
        """What a context is compared with at inference: plain + fused [b, d] (MODEL.md step 10)."""
        return self.plain + self.fused


class Heads(nn.Module):
    """The joint space: text [b, d] and image [b, d] embeddings of the frozen towers' pooled states."""

    def __init__(self, towers: TowerSettings) -> None:
        super().__init__()
        if towers.kind == "clip":
            self.text: nn.Module = ProjectionHead(torch.zeros(towers.text_width, towers.embed))
            self.image: nn.Module = ProjectionHead(torch.zeros(towers.image_width, towers.embed))
        else:
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


class PolCLIP(nn.Module):
    """One model for both tasks, over the frozen features of two towers.

    Build it with `PolCLIP(towers, settings)`, or from a folder with `PolCLIP.from_pretrained`.
    """

    def __init__(self, towers: TowerSettings, settings: ModelSettings) -> None:
        super().__init__()
        if settings.fusion and not (settings.sig and settings.isg):
            raise UserError(
                "model.fusion attends to what SIG and ISG generate: with model.fusion: true, "
                "model.sig and model.isg have to be true as well."
            )
        self.towers, self.settings = towers, settings
        self.heads = Heads(towers)
        # Frozen MiniLM never learned to put a word's sense into the word's own states: the head reads them
        # together with the sentence's state and starts as the text head's sentence. CLIP's projection needs no help.
        self.word = (
            None
            if towers.kind == "clip"
            else ResidualTextHead(towers.text_width, towers.hidden, towers.dropout, inputs=2)
        )
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

    @property
    def device(self) -> torch.device:
        return self.log_scale.device

    @property
    def scale(self) -> Tensor:
        """1 / temperature, kept at most 100."""
        return self.log_scale.exp().clamp(max=100)

    def word_in_context(self, target: Tensor, sentence: Tensor) -> Tensor:
        """The target word's embedding e_w [C, d] from the mean of its states and its sentence's pooled state [C, w]."""
        if self.word is None:
            return self.heads.text(target)
        return self.word(self.heads.text(sentence), torch.cat([unit(sentence), unit(target)], -1))

    def phrase(self, pooled: Tensor) -> Tensor:
        """A whole text's embedding t [C, d] from its pooled state [C, w]: the query of visual disambiguation."""
        return self.heads.text(pooled)

    def gloss(self, tokens: Tokens) -> Represented:
        """Glosses of G senses; `generated` is the implicit image v_gen (SIG)."""
        plain = self.heads.text(tokens.pooled)
        if not self.settings.sig:
            return Represented(plain, None, plain)
        read = self.read_text(tokens.states)
        return self._complete(read, tokens.real, plain, self.sig)

    def image(self, tokens: Tokens) -> Represented:
        """I images; `generated` is the implicit gloss s_gen (ISG)."""
        plain = self.heads.image(tokens.pooled, tokens.classes)
        if not self.settings.isg:
            return Represented(plain, None, plain)
        read = self.read_image(tokens.states)
        return self._complete(read, tokens.real, plain, self.isg)

    def _complete(self, read: Tensor, real: Tensor, plain: Tensor, generator: Generator) -> Represented:
        """Generate the missing modality from what was read [b, t, width], and fuse the two."""
        shared = read
        for block in self.shared:
            shared = block(shared, real)
        generated: Generated = generator(shared, real, plain)
        if not self.settings.fusion:
            return Represented(plain, generated.pooled, plain)
        return Represented(plain, generated.pooled, self.fusion(read, real, generated.tokens, plain))

    def gloss_target(self, pooled: Tensor) -> Tensor:
        """gloss_m [G, d] from the glosses' pooled states [G, w], the target of ISG; takes no gradient."""
        heads = self.heads if self.momentum is None else self.momentum.module
        with torch.no_grad():
            return heads.text(pooled)

    def image_target(self, tokens: Tokens) -> Tensor:
        """image_m [I, d], the target of SIG; takes no gradient."""
        heads = self.heads if self.momentum is None else self.momentum.module
        with torch.no_grad():
            return heads.image(tokens.pooled, tokens.classes)

    def restart_momentum(self) -> None:
        """Let the momentum copies start from the heads as they are now."""
        if self.momentum is not None:
            self.momentum.module.load_state_dict(self.heads.state_dict())

    def follow(self) -> None:
        """Move the momentum copies; call it after each optimizer step."""
        if self.momentum is not None:
            self.momentum.follow(self.heads)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`; the momentum copies belong to training and stay behind."""
        weights = {name: t.contiguous() for name, t in self.state_dict().items() if not name.startswith("momentum.")}
        config = {"towers": asdict(self.towers), "model": asdict(self.settings)}
        with complete_or_absent(Path(folder) / "model.safetensors") as temporary:
            save_file(weights, temporary)
            temporary.chmod(0o644)  # safetensors makes files that only their owner can read
        with complete_or_absent(Path(folder) / "config.json") as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "PolCLIP":
        """Read a folder that `save_pretrained` wrote; the model comes in evaluation mode."""
        try:
            config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
            weights = load_file(Path(folder) / "model.safetensors")
            model = cls(TowerSettings(**config["towers"]), ModelSettings(**config["model"]))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(
                f"{folder} is not a PolCLIP model: config.json and model.safetensors are expected ({error!r})."
            ) from error
        expected = {name: t for name, t in model.state_dict().items() if not name.startswith("momentum.")}
        wrong = sorted(
            name
            for name in expected.keys() | weights.keys()
            if name not in expected or name not in weights or expected[name].shape != weights[name].shape
        )
        if wrong:
            raise UserError(f"{folder}: the weights do not fit config.json ({', '.join(wrong[:5])}).")
        model.load_state_dict(weights, strict=False)
        model.restart_momentum()
        return model.eval()


class Losses(NamedTuple):
    """The four losses (0 where a part is off), and their sum."""

    sig: Tensor
    isg: Tensor
    w2s: Tensor
    w2i: Tensor

    @property
    def total(self) -> Tensor:
        return self.sig + self.isg + self.w2s + self.w2i


class Labels(NamedTuple):
    """Which pairs of a batch belong together, by id, and which senses a context may have."""

    gloss_of_image: Tensor  # [G, I]: the picture shows the gloss's sense
    gloss_of_context: Tensor  # [C, G]: gold
    candidates: Tensor  # [C, G]: the glosses a context is compared with
    image_of_context: Tensor  # [C, I]: the picture shows (one of) the context's gold senses


def four_losses(
    model: PolCLIP,
    contexts: Tensor,
    gloss: Represented,
    gloss_pooled: Tensor,
    images: Tokens | None,
    labels: Labels,
) -> Losses:
    """The losses of one batch (MODEL.md step 9). Without images only W2S remains.

    Args:
        contexts: [C, d], words in context or phrases.
        gloss: the batch's G glosses, from `PolCLIP.gloss`.
        gloss_pooled: [G, w], their pooled states, for the momentum copy.
        images: frozen features of the batch's I images.
        labels: which of them belong together.
    """
    zero = contexts.new_zeros(())
    w2s = contrastive_loss(contexts @ gloss.fused.T, labels.gloss_of_context, model.scale, labels.candidates)
    if images is None:
        return Losses(zero, zero, w2s, zero)
    image = model.image(images)
    w2i = contrastive_loss(contexts @ image.fused.T, labels.image_of_context, model.scale)
    sig = isg = zero
    if gloss.generated is not None:
        target = model.image_target(images)
        sig = contrastive_loss(gloss.generated @ target.T, labels.gloss_of_image, model.scale)
    if image.generated is not None:
        target = model.gloss_target(gloss_pooled)
        isg = contrastive_loss(image.generated @ target.T, labels.gloss_of_image.T, model.scale)
    return Losses(sig, isg, w2s, w2i)
