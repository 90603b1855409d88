"""A tiny CLIP of open_clip with random weights, in a folder as users have them."""

import json
from pathlib import Path

import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

from polclip.model.clip_polclip import ClipModelSettings, ClipPolCLIP

CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
SETTINGS = ClipModelSettings(
    trainable_text_blocks=2, reused_blocks=1, image_positions=8, heads=2, fusion_blocks=1, feed_forward=32
)


def write_clip(folder: Path, seed: int = 0) -> str:
    """The architecture to load it by; its weights are found in the folder."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = CustomTextCLIP(**CLIP)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {"size": 32}}))
    return f"local-dir:{folder}"


def random_clip_model(settings: ClipModelSettings = SETTINGS, seed: int = 0) -> ClipPolCLIP:
    """A model of random towers, in evaluation mode."""
    torch.manual_seed(seed)
    return ClipPolCLIP(CustomTextCLIP(**CLIP), settings, CLIP).eval()
