"""The two towers of an open_clip CLIP, block by block: for states of every token, masks, and the reuse of last blocks.

Shapes: b items, t text tokens, p image tokens, w a tower's width, d the joint space.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polclip.errors import UserError
from polclip.foreign_code import refuse_foreign_code
from polclip.model.blocks import masked_mean, unit
from polclip.model.representations import Tokens


def build_clip(config: dict, text_transformer: dict | None = None) -> nn.Module:
    """A CLIP of the architecture that open_clip's configuration describes, its weights not yet loaded.

    text_transformer: configuration of a text tower of transformers, so that it need not be asked for on the model hub.

    Raises ValueError for what would be fetched from there, and what open_clip and transformers raise on odd values.
    """
    from open_clip.model import CustomTextCLIP

    keys = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    config = {key: config[key] for key in keys if key in config}
    _check_vision(config["vision_cfg"])
    refuse_foreign_code()
    if not text_transformer:
        if config["text_cfg"].get("hf_model_name"):
            raise ValueError("text_cfg names a text tower of transformers, and text_transformer does not describe it")
        return CustomTextCLIP(**config)
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(text_transformer), encoding="utf-8")
        own = {"hf_model_name": folder, "hf_model_pretrained": False}
        return CustomTextCLIP(**{**config, "text_cfg": {**config["text_cfg"], **own}})


def _check_vision(vision: dict) -> None:
    """ValueError for image towers that `check_towers` refuses too, and that would be fetched or computed before."""
    if vision.get("timm_model_name") or isinstance(vision.get("layers"), list):
        raise ValueError("vision_cfg is not of a plain vision transformer")
    if vision.get("pos_embed_type", "learnable") != "learnable":
        raise ValueError("vision_cfg.pos_embed_type: only learnable is allowed")


def is_bidirectional(text: nn.Module) -> bool:
    """Whether the text tower is one of transformers', which reads both ways and means over the tokens."""
    return hasattr(text, "pooler")


def check_towers(clip: nn.Module) -> None:
    """Raise UserError for towers whose blocks cannot be reused, since they are no plain transformers."""
    visual, text = clip.visual, clip.text
    plain = hasattr(visual, "transformer") and hasattr(visual, "conv1") and visual.attn_pool is None
    if not plain or visual.pool_type != "tok":
        raise UserError(
            "The image tower of this CLIP is no plain vision transformer with a class token; "
            "allowed: the ViT-B, ViT-L and ViT-H of OpenAI and LAION, such as ViT-L-14-quickgelu."
        )
    if is_bidirectional(text):
        if type(text.pooler).__name__ != "MeanPooler" or not hasattr(text.transformer, "encoder"):
            raise UserError("Of text towers of transformers only those with a mean over the tokens can be used.")
    elif text.attn_mask is None or text.pool_type not in ("argmax", "eos"):
        raise UserError("The text tower of this CLIP has no causal mask and end-of-text token; others cannot be used.")


def run_block(block: nn.Module, x: Tensor, real: Tensor | None = None, causal: bool = False) -> Tensor:
    """A block of open_clip, with a padding mask that its own forward does not take.

    Args:
        x: [b, t, w].
        real: [b, t], False at padding, which no token attends to; None where all are real.
        causal: let no token attend to later ones.
    """
    normed = block.ln_1(x)
    mask = causal_mask(x.shape[1], x.device) if causal else None
    padding = None if real is None else ~real
    attended = block.attn(normed, normed, normed, key_padding_mask=padding, attn_mask=mask, need_weights=False)[0]
    x = x + block.ls_1(attended)
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def run_blocks(
    blocks: nn.ModuleList, x: Tensor, real: Tensor | None = None, causal: bool = False, recompute: bool = False
) -> Tensor:
    """Blocks one after the other; `recompute` keeps no states of a block and computes them again for the gradient."""
    for block in blocks:
        if recompute and torch.is_grad_enabled():
            x = checkpoint(run_block, block, x, real, causal, use_reentrant=False)
        else:
            x = run_block(block, x, real, causal)
    return x


def causal_mask(length: int, device: torch.device) -> Tensor:
    """[t, t], True where a token may not look."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def text_states(text: nn.Module, tokens: Tensor, real: Tensor, recompute: bool = False) -> Tensor:
    """Token ids [b, t] -> states after the final norm [b, t, w]; the ids behind end-of-text are padding."""
    if is_bidirectional(text):
        return text.transformer(input_ids=tokens, attention_mask=real.long()).last_hidden_state
    x = text.token_embedding(tokens) + text.positional_embedding[: tokens.shape[1]]
    return text.ln_final(run_blocks(text.transformer.resblocks, x, causal=True, recompute=recompute))


def text_pooled(text: nn.Module, states: Tensor, real: Tensor) -> Tensor:
    """The state [b, w] that stands for the whole text: at end-of-text, or the mean where a tower reads both ways."""
    if is_bidirectional(text):
        return masked_mean(states, real)
    return states[torch.arange(len(states), device=states.device), real.sum(1) - 1]


def project_text(text: nn.Module, x: Tensor) -> Tensor:
    """[..., w] -> [..., d]."""
    if is_bidirectional(text):
        return text.proj(x)
    projection = text.text_projection
    return projection(x) if isinstance(projection, nn.Module) else x @ projection


def embed_text(text: nn.Module, tokens: Tokens, recompute: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids [b, t] -> states after the final norm [b, t, w] and the text's embedding [b, d]."""
    states = text_states(text, tokens.states, tokens.real, recompute)
    return states, unit(project_text(text, text_pooled(text, states, tokens.real)))


def text_blocks(text: nn.Module) -> nn.ModuleList:
    return text.transformer.encoder.layer if is_bidirectional(text) else text.transformer.resblocks


def through_last_text_blocks(text: nn.Module, x: Tensor, count: int, recompute: bool = False) -> Tensor:
    """States [b, t, w] without padding through the tower's last `count` blocks, its own mask and final norm."""
    if is_bidirectional(text):  # each block ends with its norm
        for block in text_blocks(text)[-count:]:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        return x
    return text.ln_final(run_blocks(text_blocks(text)[-count:], x, causal=True, recompute=recompute))


def text_width(text: nn.Module) -> int:
    return text.config.hidden_size if is_bidirectional(text) else text.ln_final.normalized_shape[0]


def image_states(visual: nn.Module, pictures: Tensor, blocks: int) -> Tensor:
    """Pictures [b, 3, h, w] -> states behind the first so many blocks, before any final norm [b, p, w], CLS first."""
    return run_blocks(visual.transformer.resblocks[:blocks], visual._embeds(pictures))


class ImageTop(nn.Module):
    """The trained end of an image tower: the blocks behind the frozen ones, the final norm and the projection."""

    def __init__(self, visual: nn.Module, frozen_blocks: int) -> None:
        super().__init__()
        self.blocks = visual.transformer.resblocks[frozen_blocks:]
        self.norm, self.projection = visual.ln_post, visual.proj

    def forward(self, stored: Tensor, recompute: bool = False) -> tuple[Tensor, Tensor]:
        """Stored states [b, p, w] -> states behind the last block [b, p, w] and the image's embedding [b, d]."""
        states = run_blocks(self.blocks, stored, recompute=recompute)
        return states, self.project(states[:, 0])

    def project(self, x: Tensor) -> Tensor:
        """[..., w] -> [..., d] of length 1, with the final norm before."""
        return unit(self.norm(x) @ self.projection)
