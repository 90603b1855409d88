"""PolCLIP on a CLIP: the paper's model, with SIG and ISG through the towers' own last blocks (MODEL.md).

Shapes: G glosses, I images, C contexts; t text tokens, p image tokens, n positions of an image's tokens (the text
blocks want as many as a text has), w the text tower's width, v the image tower's, d the joint space.
"""

import copy
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

from polclip.errors import UserError
from polclip.model.blocks import CrossAttentionBlock, masked_mean, unit
from polclip.model.checked_config import settings_from
from polclip.model.clip_towers import (
    ImageTop,
    build_clip,
    check_towers,
    embed_text,
    image_states,
    is_bidirectional,
    project_text,
    run_blocks,
    text_blocks,
    text_states,
    text_width,
    through_last_text_blocks,
)
from polclip.model.polclip import PolCLIP, check_parts
from polclip.model.representations import Represented, Tokens


@dataclass(frozen=True)
class ClipModelSettings:
    """PolCLIP's own parts over a CLIP. The defaults are the paper's figure; `as_released` is the public code."""

    trainable_text_blocks: int = 12  # the last so many; with them the final norm and the projection are trained
    trainable_image_blocks: int = 0
    reused_blocks: int = 4  # of each tower's last, that SIG and ISG run through; public code: 2
    image_positions: int | None = 77  # an image's tokens are mapped to so many; None: kept as they are
    shared_blocks: int = 2
    heads: int = 8
    fusion_blocks: int = 4
    feed_forward: int = 2048
    sig: bool = True
    isg: bool = True
    fusion: bool = True
    fused_image_query: Literal["image", "generated"] = (
        "image"  # or generated (public code): what attends in the fusion of an image
    )
    fusion_pooling: Literal["mean", "first"] = "mean"  # or first (public code): position 0
    w2i_text: Literal["word", "caption"] = "word"  # or caption (public code): which text is compared with images
    several_positives: Literal["mean", "sum"] = "mean"  # or sum (public code): how the positives of one row count
    momentum: float | None = 0.995  # None (public code): the targets are the encoders in training
    temperature: float | None = 0.07  # where a learned one starts; None (public code): raw cosines
    learn_temperature: bool = True
    recompute: bool = False  # gradient checkpointing: a third more computing for a fraction of the memory


class CrossFusion(nn.Module):
    """Cross-attention blocks, a feed-forward without residual, pooling and a norm: one for both modalities."""

    def __init__(self, settings: ClipModelSettings, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.pooling = settings.fusion_pooling
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(width, settings.heads, activation=activation) for _ in range(settings.fusion_blocks)
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(width, settings.feed_forward), nn.ReLU(), nn.Linear(settings.feed_forward, width)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, key: Tensor, real: Tensor | None) -> Tensor:
        """query and key [b, n, d] at the same positions, `real` [b, n] or None for all -> [b, d] of length 1."""
        if self.pooling == "first":  # what a position becomes depends on the key alone, not on other positions
            query = query[:, :1]
        for block in self.blocks:
            query = block(query, key, real)
        # The last layer is linear: it gives the same behind the pooling, of one vector in place of all.
        first, activation, last = self.feed_forward
        x = activation(first(query))
        return unit(self.norm(last(x[:, 0] if self.pooling == "first" else masked_mean(x, real))))


class ClipPolCLIP(PolCLIP):
    """The paper's PolCLIP. Texts come as token ids; images as the states behind the image tower's frozen blocks.

    Args:
        clip: a CLIP of open_clip with its towers as `visual` and `text`.
        clip_config: what it is built from, see `build_clip`.
        image_tokens: those that are stored of a picture, CLS among them; None: as many as the tower has.
    """

    pretrained = ("clip.",)
    reads_tokens = True

    def __init__(
        self, clip: nn.Module, settings: ClipModelSettings, clip_config: dict, image_tokens: int | None = None
    ) -> None:
        super().__init__()
        check_towers(clip)
        self.clip, self.settings, self.clip_config = clip, settings, clip_config
        self.wants_captions = settings.w2i_text == "caption"
        text, visual = clip.text, clip.visual
        self._refuse_contradictions()
        width, image_width = text_width(text), visual.ln_post.normalized_shape[0]
        self.several_positives = settings.several_positives
        self.embed = embed = visual.proj.shape[1]
        self.image_token_count = image_tokens or visual.positional_embedding.shape[0]
        activation = QuickGELU if isinstance(visual.transformer.resblocks[0].mlp.gelu, QuickGELU) else nn.GELU

        def linear(inputs: int, outputs: int) -> nn.Module:
            """Both widths are one in most CLIPs: then nothing is mapped, as in the paper."""
            return nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)

        self.shared = nn.ModuleList(
            ResidualAttentionBlock(width, settings.heads, act_layer=activation) for _ in range(settings.shared_blocks)
        )
        if settings.sig:
            self.to_image = nn.Linear(width, image_width)
        if settings.isg:
            positions = settings.image_positions
            self.to_positions = None if positions is None else nn.Linear(self.image_token_count, positions)
            self.read_image = linear(embed, width)
            self.to_text = nn.Linear(width, width)
        if settings.fusion:
            self.read_text = linear(width, embed)
            self.fusion = CrossFusion(settings, embed, activation)
        start = torch.tensor(1 / (settings.temperature or 1.0)).log()
        learned = settings.learn_temperature and settings.temperature is not None
        self.log_scale = nn.Parameter(start, requires_grad=learned)
        self._freeze()
        self.momentum = None if settings.momentum is None else MomentumTowers(self)

    def _refuse_contradictions(self) -> None:
        text, visual, settings = self.clip.text, self.clip.visual, self.settings
        depths = {"image": len(visual.transformer.resblocks), "text": len(text_blocks(text))}
        for tower, depth in depths.items():
            asked = {
                "reused_blocks": settings.reused_blocks,
                f"trainable_{tower}_blocks": getattr(settings, f"trainable_{tower}_blocks"),
            }
            for key, value in asked.items():
                if value > depth:
                    raise UserError(f"model.{key}: {value} blocks, but the {tower} tower has {depth}.")
        check_parts(settings)
        if is_bidirectional(text) and settings.image_positions is not None:
            raise UserError(
                f"model.image_positions: {settings.image_positions}, but this text tower has no causal mask of a "
                "fixed length and takes an image's tokens as they are; write null."
            )
        if not is_bidirectional(text) and (settings.image_positions or 0) > text.positional_embedding.shape[0]:
            raise UserError(
                f"model.image_positions: {settings.image_positions}, but the text tower knows "
                f"{text.positional_embedding.shape[0]} positions."
            )

    def _freeze(self) -> None:
        """Embeddings and lower blocks stay as they were pretrained; norms behind the towers and projections learn."""
        self.clip.requires_grad_(False)
        text, visual, settings = self.clip.text, self.clip.visual, self.settings
        learn = [*text_blocks(text)[len(text_blocks(text)) - settings.trainable_text_blocks :]]
        learn += visual.transformer.resblocks[self.cut :]
        learn += [text.proj] if is_bidirectional(text) else [text.ln_final]
        for module in [*learn, visual.ln_post]:
            module.requires_grad_(True)
        visual.proj.requires_grad_(True)
        if not is_bidirectional(text):
            text.text_projection.requires_grad_(True)

    @property
    def cut(self) -> int:
        """The number of image blocks that are frozen: what is stored of a picture are the states behind them."""
        return len(self.clip.visual.transformer.resblocks) - self.settings.trainable_image_blocks

    @property
    def image_top(self) -> ImageTop:
        """The trained end of the image tower; its modules are the tower's own."""
        return ImageTop(self.clip.visual, self.cut)

    def try_reading(self) -> None:
        ids = torch.zeros(1, 2, dtype=torch.long)
        self.phrase(Tokens(None, ids, torch.ones_like(ids, dtype=torch.bool)))

    def word_in_context(self, texts: Tokens, inside: Tensor, of: Tensor | None = None) -> Tensor:
        """e_w [C, d] from the token ids of texts, which of them are each target's [C, t], and its text's number [C].

        Without `of` each text has one target.
        """
        states = text_states(self._text, texts.states, texts.real, self._recompute)
        states = states if of is None else states.index_select(0, of)
        return unit(project_text(self._text, masked_mean(states, inside)))

    def phrase(self, texts: Tokens) -> Tensor:
        """Whole texts' embeddings [C, d]."""
        return embed_text(self._text, texts, self._recompute)[1]

    def gloss(self, tokens: Tokens, with_target: bool = False) -> Represented:
        """Glosses from token ids [G, t]; `generated` is the implicit image v_gen (SIG, MODEL.md steps 2 to 4)."""
        states, plain = embed_text(self._text, tokens, self._recompute)
        target = self._target(plain, "gloss", tokens) if with_target else None
        if not self.settings.sig:
            return Represented(plain, None, plain, target)
        generated, generated_tokens = self.generate_image(states, tokens.real)
        if not self.settings.fusion:
            return Represented(plain, generated, plain, target)
        fused = self.fusion(self.read_text(states), generated_tokens, tokens.real)
        return Represented(plain, generated, fused, target)

    def generate_image(self, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """SIG: a gloss's states [G, t, w] -> v_gen [G, d] and V_g [G, t, d]."""
        visual = self.clip.visual
        x = self.to_image(run_blocks(self.shared, states, real, recompute=self._recompute))
        last = visual.transformer.resblocks[-self.settings.reused_blocks :]
        x = run_blocks(last, x, real, recompute=self._recompute)
        return self.image_top.project(masked_mean(x, real)), unit(x @ visual.proj)

    def image(self, tokens: Tokens, with_target: bool = False) -> Represented:
        """Images from stored states [I, p, v]; `generated` is the implicit gloss s_gen (ISG, MODEL.md steps 5 to 7)."""
        states, plain = self.image_top(tokens.states, self._recompute)
        target = self._target(plain, "image", tokens) if with_target else None
        if not self.settings.isg:
            return Represented(plain, None, plain, target)
        image_tokens = self.image_tokens(states)
        generated, generated_tokens = self.generate_gloss(image_tokens)
        if not self.settings.fusion:
            return Represented(plain, generated, plain, target)
        generated_tokens = self.read_text(generated_tokens)
        query = image_tokens if self.settings.fused_image_query == "image" else generated_tokens
        key = generated_tokens if self.settings.fused_image_query == "image" else image_tokens
        return Represented(plain, generated, self.fusion(query, key, None), target)

    def image_tokens(self, states: Tensor) -> Tensor:
        """T_i [I, n, d] from the states behind the last block [I, p, v]: projected, brought to n positions, unit."""
        if self.to_positions is None:
            return unit(states @ self.clip.visual.proj)
        # Fewer positions first: the projection, linear too, then has less to do; the bias belongs behind it.
        fewer = functional.linear(states.transpose(1, 2), self.to_positions.weight).transpose(1, 2)
        return unit(fewer @ self.clip.visual.proj + self.to_positions.bias[:, None])

    def generate_gloss(self, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """ISG: T_i [I, n, d] -> s_gen [I, d] and S_i [I, n, w]."""
        x = run_blocks(self.shared, self.read_image(image_tokens), recompute=self._recompute)
        count = self.settings.reused_blocks
        tokens = through_last_text_blocks(self._text, self.to_text(x), count, self._recompute)
        return unit(project_text(self._text, tokens.mean(1))), tokens

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Pictures [I, 3, h, w] -> what is stored of them: the states [I, p, v] behind the frozen blocks."""
        return image_states(self.clip.visual, pictures, self.cut)

    def restart_momentum(self) -> None:
        """Let the momentum copies start from the towers as they are now."""
        if self.momentum is not None:
            self.momentum = MomentumTowers(self).to(self.device)

    def follow(self) -> None:
        """Move the momentum copies; call it after each optimizer step."""
        if self.momentum is not None:
            self.momentum.follow(self)

    def description(self) -> dict:
        return {
            "kind": "clip",
            "clip": self.clip_config,
            "text_transformer": self.clip.text.config.to_dict() if is_bidirectional(self.clip.text) else None,
            "image_tokens": self.image_token_count,
            "model": asdict(self.settings),
        }

    @classmethod
    def from_description(cls, config: dict) -> "ClipPolCLIP":
        settings = settings_from(ClipModelSettings, config["model"])
        clip = build_clip(config["clip"], config["text_transformer"])
        return cls(clip, settings, config["clip"], config["image_tokens"])

    @property
    def _text(self) -> nn.Module:
        return self.clip.text

    @property
    def _recompute(self) -> bool:
        return self.settings.recompute and self.training

    @torch.no_grad()
    def _target(self, plain: Tensor, what: str, tokens: Tokens) -> Tensor:
        return plain.detach() if self.momentum is None else getattr(self.momentum, what)(tokens)


class MomentumTowers(nn.Module):
    """Slow copies of what is trained of the two towers: the targets of SIG and ISG (MODEL.md step 8)."""

    def __init__(self, model: ClipPolCLIP) -> None:
        super().__init__()
        self.momentum = model.settings.momentum
        self.text = copy.deepcopy(model.clip.text).requires_grad_(False)
        self.image_top = copy.deepcopy(model.image_top).requires_grad_(False)

    @torch.no_grad()
    def follow(self, model: ClipPolCLIP) -> None:
        """One moving average over all parameters."""
        for mine, online in ((self.text, model.clip.text), (self.image_top, model.image_top)):
            for slow, fast in zip(mine.parameters(), online.parameters(), strict=True):
                if fast.requires_grad:  # the others never move
                    slow.lerp_(fast, 1 - self.momentum)

    def gloss(self, tokens: Tokens) -> Tensor:
        """gloss_m [G, d]."""
        return embed_text(self.text, tokens)[1]

    def image(self, tokens: Tokens) -> Tensor:
        """image_m [I, d]."""
        return self.image_top(tokens.states)[1]

    def train(self, mode: bool = True) -> "MomentumTowers":
        return super().train(False)  # the target is never dropped out
