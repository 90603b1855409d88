"""Weights are refused in an architecture with another activation than they were trained with."""

import json

import pytest
import yaml
from test_settings import ROOT, complaint, laid_over

from polclip import settings
from polclip.downloads.manifest import read_manifest
from polclip.encoders.activation import check_activation
from polclip.encoders.clip import load_clip
from polclip.errors import UserError

HF = {"model_type": "clip", "text_config": {"hidden_act": "quick_gelu"}, "vision_config": {"hidden_act": "quick_gelu"}}


def test_openais_weights_need_quick_gelu_and_laions_do_without():
    # Both are refused before anything is downloaded.
    with pytest.raises(
        UserError, match=r"trained with QuickGELU.* Write encoder.clip_architecture: ViT-B-32-quickgelu\."
    ):
        load_clip("ViT-B-32", "openai")
    with pytest.raises(UserError, match=r"trained without QuickGELU.* Write encoder.clip_architecture: ViT-B-32\."):
        load_clip("ViT-B-32-quickgelu", "laion2b_s34b_b79k")


@pytest.mark.parametrize(
    ("architecture", "weights"),
    [
        *(("ViT-B-32-quickgelu", "openai"), ("ViT-L-14-336-quickgelu", "openai"), ("ViT-B-32", "laion2b_s34b_b79k")),
        *(("ViT-H-14-quickgelu", "dfn5b"), ("ViT-H-14", "laion2b_s32b_b79k"), ("ViT-B-32-quickgelu", "laion400m_e32")),
        ("ViT-B-16", "laion400m_e32"),  # this tag is with QuickGELU for ViT-B-32 alone
        ("roberta-ViT-B-32", "laion2b_s12b_b32k"),  # which open_clip has in one form alone
        *(("ViT-B-32", "mine.safetensors"), ("ViT-B-32-quickgelu", "mine.safetensors"), ("ViT-B-32", "no_such_tag")),
    ],
)
def test_what_fits_or_is_not_known_is_taken(architecture, weights):
    check_activation(architecture, weights)


@pytest.mark.parametrize(
    ("name", "beside", "quick_gelu"),
    [
        ("clip_vit_b_32_openai.safetensors", {}, True),
        ("vit_b_32-quickgelu-laion400m_e32-46683a32.pt", {}, True),
        ("CLIP-ViT-B-32-laion2B-s34B-b79K.safetensors", {}, False),
        ("model.safetensors", {"config.json": HF}, True),
        ("model.safetensors", {"config.json": {"vision_config": {"hidden_act": "gelu"}}}, False),
        ("open_clip_model.safetensors", {"open_clip_config.json": {"model_cfg": {"quick_gelu": True}}}, True),
        ("open_clip_model.safetensors", {"open_clip_config.json": {"model_cfg": {"embed_dim": 512}}}, False),
        # What the file says of itself counts more than its name.
        ("not_openai.safetensors", {"open_clip_config.json": {"model_cfg": {}}}, False),
        ("model.safetensors", {"config.json": [1]}, None),
    ],
)
def test_a_file_is_known_by_what_is_beside_it_or_by_its_name(tmp_path, name, beside, quick_gelu):
    weights = tmp_path / name
    weights.touch()
    for other, value in beside.items():
        (tmp_path / other).write_text(json.dumps(value))
    for architecture, computed in (("ViT-B-32", False), ("ViT-B-32-quickgelu", True)):
        if quick_gelu in (None, computed):
            check_activation(architecture, str(weights))
        else:
            with pytest.raises(UserError, match=f"trained {'with' if quick_gelu else 'without'} QuickGELU"):
                load_clip(architecture, str(weights))


def test_a_folder_that_contradicts_itself_is_refused(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"embed_dim": 1, "vision_cfg": {}, "text_cfg": {}}})
    )
    check_activation(f"local-dir:{tmp_path}", "")
    (tmp_path / "config.json").write_text(json.dumps(HF))
    with pytest.raises(UserError, match=r"Write quick_gelu: true under model_cfg"):
        check_activation(f"local-dir:{tmp_path}", "")


@pytest.mark.parametrize("weights", ["clip_vit_l_14", "openai"])
def test_openais_weights_without_quick_gelu_are_refused_before_anything_runs(weights):
    paper = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    manifest = read_manifest(ROOT / "rules" / "datasets.yaml")
    wrong = {"encoder": {"clip_architecture": "ViT-L-14", "clip_weights": weights}}
    assert "Write clip_architecture: ViT-L-14-quickgelu." in complaint(laid_over(paper, wrong), manifest)
    right = {"encoder": {"clip_architecture": "ViT-L-14-quickgelu", "clip_weights": weights}}
    settings.check(laid_over(paper, right), manifest)
