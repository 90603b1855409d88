"""The paper's model against numbers of the public code at toy sizes, where they lie beside the repository."""

import json
from pathlib import Path

import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP, convert_to_custom_text_state_dict
from safetensors.torch import load_file

from polclip.model.clip_polclip import ClipModelSettings, ClipPolCLIP
from polclip.model.clip_towers import embed_text
from polclip.model.representations import Batch, Chunks, Labels, Tokens

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
AS_RELEASED = {
    "reused_blocks": 2,
    "fused_image_query": "generated",
    "fusion_pooling": "first",
    "w2i_text": "caption",
    "several_positives": "sum",
    "momentum": None,
    "temperature": None,
}
NAMES = {
    "former.resblocks": "shared",
    "gloss2img_projector": "to_image",
    "img2gloss_projector": "to_text",
    "seq_transfer": "to_positions",
    "multi_fusion.layers": "fusion.blocks",
    "multi_fusion.feed_forward.linear1": "fusion.feed_forward.0",
    "multi_fusion.feed_forward.linear2": "fusion.feed_forward.2",
    "multi_fusion.ln_post": "fusion.norm",
}
pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference numbers are not at hand")


IN_FUSION = {
    "ln_1": "norm_attention",
    "ln_2": "norm_mlp",
    "multihead_attn": "attention",
    "mlp.c_fc": "mlp.0",
    "mlp.c_proj": "mlp.2",
}


def ours(name: str) -> str:
    for theirs, mine in IN_FUSION.items() if name.startswith("multi_fusion.layers") else ():
        name = name.replace(theirs, mine)
    for theirs, mine in NAMES.items():
        name = name.replace(theirs, mine)
    return name


@pytest.fixture(scope="module")
def numbers():
    weights = load_file(REFERENCE / "polclip_reference.safetensors")
    return weights, json.loads((REFERENCE / "polclip_reference.json").read_text())


def released_model(numbers, **changed) -> ClipPolCLIP:
    weights, described = numbers
    sizes = described["sizes"]
    torch.set_num_threads(1)
    clip = CustomTextCLIP(
        sizes["embed_dim"],
        CLIPVisionCfg(
            layers=sizes["vision_layers"],
            width=sizes["vision_width"],
            head_width=sizes["vision_width"] // sizes["vision_heads"],
            patch_size=sizes["patch_size"],
            image_size=sizes["image_size"],
        ),
        CLIPTextCfg(
            context_length=sizes["context_length"],
            vocab_size=sizes["vocab_size"],
            width=sizes["text_width"],
            heads=sizes["text_heads"],
            layers=sizes["text_layers"],
        ),
        quick_gelu=True,
    )
    settings = ClipModelSettings(
        trainable_text_blocks=sizes["text_layers"],
        image_positions=sizes["context_length"],
        feed_forward=sizes["fusion_feedforward"],
        **(AS_RELEASED | changed),
    )
    model = ClipPolCLIP(clip, settings, {})
    towers = {k.removeprefix("clip."): v for k, v in weights.items() if k.startswith("clip.")}
    given = {f"clip.{k}": v for k, v in convert_to_custom_text_state_dict(towers).items()}
    given |= {ours(k): v for k, v in weights.items() if not k.startswith(("clip.", "in.", "out."))}
    missing, unexpected = model.load_state_dict(given, strict=False)
    assert not unexpected and set(missing) == {"log_scale", "clip.logit_scale"}
    return model.eval()


def texts(tokens: torch.Tensor) -> Tokens:
    length = tokens.argmax(1) + 1
    real = torch.arange(tokens.shape[1])[None] < length[:, None]
    return Tokens(None, tokens, real)


def words(numbers) -> tuple[Tokens, torch.Tensor]:
    weights, described = numbers
    sentences = texts(weights["in.sentence_tokens"])
    target = torch.zeros_like(sentences.real)
    for row, (start, end) in enumerate(described["target_spans"]):
        target[row, start:end] = True
    return sentences, target


def images(model, weights) -> Tokens:
    states = model.encode_pictures(weights["in.images"])
    return Tokens(None, states, torch.ones(states.shape[:2], dtype=torch.bool))


@torch.no_grad()
def test_every_intermediate_result_equals_the_public_codes(numbers):
    weights, _ = numbers
    model = released_model(numbers)
    glosses = texts(weights["in.gloss_tokens"])
    sentences, target = words(numbers)

    stored = images(model, weights)

    gloss_tokens, _ = embed_text(model.clip.text, glosses)
    states, _ = model.image_top(stored.states)
    image_tokens = model.image_tokens(states)
    gloss, image = model.gloss(glosses), model.image(stored)
    by_figure = released_model(numbers, fused_image_query="image").image(stored)
    got = {
        "gloss": gloss.plain,
        "gloss_tokens": gloss_tokens,
        "generated_image": gloss.generated,
        "generated_image_tokens": model.generate_image(gloss_tokens, glosses.real)[1],
        "fused_gloss": gloss.fused,
        "image": image.plain,
        "image_tokens": image_tokens,
        "image_patch_tokens": states @ model.clip.visual.proj,
        "generated_gloss": image.generated,
        "generated_gloss_tokens": model.generate_gloss(image_tokens)[1],
        "fused_image_query_generated": image.fused,
        "fused_image_query_image": by_figure.fused,
        "target_word": model.word_in_context(sentences, target),
        "caption": model.phrase(texts(weights["in.caption_tokens"])),
    }
    assert {f"out.{name}" for name in got} | {"out.losses"} == {k for k in weights if k.startswith("out.")}
    for name, value in got.items():
        torch.testing.assert_close(value, weights[f"out.{name}"], atol=1e-5, rtol=1e-5, msg=f"{name} differs")


def test_losses_and_gradients_equal_the_public_codes(numbers):
    weights, described = numbers
    model = released_model(numbers)
    sense_of_image = torch.tensor(described["gloss_of_image"])
    gloss_of_image = torch.arange(5)[:, None] == sense_of_image[None]
    starts = torch.tensor([start for start, _ in described["glosses_of_sentence"]])
    gold = starts + torch.tensor(described["gold_gloss"])
    gloss_of_context = gold[:, None] == torch.arange(5)[None]
    batch = Batch(
        words=Chunks([words(numbers)], torch.arange(3)),
        phrases=Chunks([], torch.arange(0)),
        captions=Chunks([texts(weights["in.caption_tokens"])], torch.arange(5)),
        glosses=Chunks([texts(weights["in.gloss_tokens"])], torch.arange(5)),
        images=images(model, weights),
        labels=Labels(
            gloss_of_image=gloss_of_image,
            gloss_of_context=gloss_of_context,
            candidates=torch.ones_like(gloss_of_context),
            image_of_context=gloss_of_image[gold],
            image_of_caption=gloss_of_image,
        ),
        word_count=3,
    )
    losses = model(batch)
    for name, expected in described["losses"].items():
        assert getattr(losses, name).item() == pytest.approx(expected, abs=1e-5), name
    losses.total.backward()
    parameters = dict(model.named_parameters())
    for name, expected in described["gradient_norms"].items():
        assert parameters[ours(name)].grad.norm().item() == pytest.approx(expected, rel=1e-4), name
