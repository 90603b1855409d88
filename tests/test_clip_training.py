"""PolCLIP on a tiny CLIP of open_clip: from texts and pictures on disk to predictions, and what its towers promise."""

import contextlib
import json
import socket
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import tiny_clip
import torch
from clip_world import clip_call, clip_settings, embedded, finished, into, lines_of
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_reference import AS_RELEASED
from tiny_clip import random_clip_model, write_clip

from polclip.encoders.clip import ClipTextEncoder, load_clip
from polclip.encoders.embed import EncoderSettings
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.evaluation.predict import predict
from polclip.files import read_json_lines
from polclip.inventory import Inventory
from polclip.model import clip_towers
from polclip.model.polclip import PolCLIP, read_model
from polclip.model.representations import Tokens
from polclip.records import TextualInstance, VisualInstance, read_records
from polclip.training.batches import make_batch, make_step
from polclip.training.budget import Part
from polclip.training.corpora import SenseCorpus, TextualCorpus, tokens_of
from polclip.training.launch import run
from polclip.training.start import check_features, starting_model

START, END = 49406, 49407
# Enough for a tiny tower of random weights to tell colours and sense keys apart.
LEARNING = {"epochs": 8, "max_steps": 120, "dev_every": 40, "learning_rate": 0.005, "pretrained_learning_rate": 0.005}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def call(folder):
    return clip_call(folder)


@pytest.fixture(scope="module")
def main(call, tmp_path_factory):
    """The folder of a model that has learned."""
    folder = tmp_path_factory.mktemp("main")
    run(into(call, folder, **LEARNING))
    return folder


def opened(call):
    """Inventory and features of a call."""
    inventory = Inventory.read(call["senses"], call["synsets"])
    return inventory, FeatureStore(call["text_features"]), FeatureStore(call["picture_features"])


def batch_of(call, words=6, captions=False):
    """The first words of the corpus with their senses and pictures, and as many phrases, as a batch."""
    inventory, texts, pictures = opened(call)
    textual = TextualCorpus.read(call["textual_train"], inventory, texts)
    visual = SenseCorpus.read(call["phrases"], call["pictures_train"], pictures)
    rows = range(0, len(textual), len(textual) // words)
    step = make_step(
        [Part(k, tuple(textual.candidates[k].tolist())) for k in rows],
        [visual.phrases[synset][0] for synset in visual.synsets[:words]],
        textual,
        visual,
        inventory,
        pictures_per_sense=2,
        own_candidates=False,
        captions=captions,
        rng=np.random.default_rng(0),
    )
    return make_batch(step, textual, texts, pictures, "cpu")


# --- training


def test_a_clip_learns_both_tasks_from_token_ids_and_stored_states(main):
    lines = lines_of(main / "model")
    assert [line["step"] for line in lines] == list(range(121))
    for name in ("loss", "loss_sig", "loss_isg", "loss_w2s", "loss_w2i"):
        first, last = np.mean([line[name] for line in lines[1:9]]), np.mean([line[name] for line in lines[-8:]])
        assert last < 0.5 * first, name
    looks = [line for line in lines if "dev_visual" in line]
    best = max(looks, key=lambda line: line["dev_textual"] + line["dev_visual"])
    # By chance, of two senses a word and ten pictures a query: 50 and 10.
    assert best["dev_textual"] + best["dev_visual"] > 100 and best["dev_visual"] > 40
    assert sorted(path.name for path in (main / "model").iterdir()) == [
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    ]


def test_a_trained_clip_predicts_what_the_looks_at_dev_found(call, main, tmp_path):
    inventory, texts, pictures = opened(call)
    instances = [*call["textual_dev"], *call["visual_dev"]]
    predictions = [tmp_path / f"{number}.jsonl" for number in range(3)]
    predict(
        main / "model",
        inventory,
        texts,
        pictures,
        tasks=["textual", "visual", "visual"],
        instances=instances,
        predictions=predictions,
        definitions={},
        forms=["photo"],
        device="cpu",
    )
    right = []
    kinds = (TextualInstance, VisualInstance, VisualInstance)
    for kind, source, target in zip(kinds, instances, predictions, strict=True):
        items, answers = list(read_records(source, kind)), list(read_json_lines(target))
        assert [answer["instance_id"] for answer in answers] == [item.instance_id for item in items]
        for item, answer in zip(items, answers, strict=True):
            assert sorted(answer["candidates"]) == sorted(item.candidates)
            assert answer["scores"] == sorted(answer["scores"], reverse=True)
        right.append([a["candidates"][0] in i.gold for i, a in zip(items, answers, strict=True)])
    scores = {"dev_textual": 100 * np.mean(right[0]), "dev_visual": 100 * np.mean(right[1] + right[2])}
    looks = [line for line in lines_of(main / "model") if "dev_visual" in line]
    best = max(looks, key=lambda line: line["dev_textual"] + line["dev_visual"])
    assert scores == pytest.approx({name: best[name] for name in scores})


@pytest.mark.parametrize(
    "model",
    [
        AS_RELEASED,
        {"w2i_text": "caption"},
        {"image_positions": None},
        {"sig": False, "fusion": False},
        {"isg": False, "fusion": False},
    ],
    ids=["as_released", "captions", "positions as they are", "without sig", "without isg"],
)
def test_other_forms_of_the_model_learn_too(call, tmp_path, model):
    run(into(call, tmp_path, model, epochs=2, max_steps=32, dev_every=32))
    _, *lines = lines_of(tmp_path / "model")
    off = {f"loss_{part}" for part in ("sig", "isg") if not model.get(part, True)}
    for name in ("loss", "loss_sig", "loss_isg", "loss_w2s", "loss_w2i"):
        values = [line[name] for line in lines]
        if name in off:
            assert not any(values)
        else:
            assert all(np.isfinite(values)) and min(values) > 0
    assert np.mean([line["loss"] for line in lines[-6:]]) < np.mean([line["loss"] for line in lines[:6]])
    temperatures = {round(line["temperature"], 6) for line in lines}
    # The public code compares raw cosines.
    assert temperatures == {1.0} if model is AS_RELEASED else len(temperatures) > 1
    asked = json.loads((tmp_path / "model" / "config.json").read_text())["model"]
    assert {name: asked[name] for name in model} == model


@pytest.mark.parametrize("tasks", [["textual"], ["visual"]])
def test_one_task_alone_is_trained_without_the_other(call, tmp_path, tasks):
    run(into(call, tmp_path, tasks=tasks, max_steps=4))
    _, *lines = lines_of(tmp_path / "model")
    assert [name for name in lines[-1] if name.startswith("dev_")] == [f"dev_{tasks[0]}"]
    assert all((line["loss_w2i"] > 0) == (tasks == ["visual"]) for line in lines)


def test_patches_averaged_to_a_grid_train_and_come_back(folder, call, tmp_path):
    encoder = call["encoder"] | {"grid": 1}
    texts, pictures = embedded(folder, tmp_path / "features", encoder)
    with_grid = call | {"encoder": encoder, "text_features": [texts], "picture_features": [pictures]}
    run(into(with_grid, tmp_path, max_steps=4))
    model = read_model(tmp_path / "model")
    states = tokens_of(FeatureStore([pictures]), list(FeatureStore([pictures]).place)[:2], "cpu")
    assert states.states.shape[1] == model.image_token_count == 2
    assert model.image(states).fused.shape == (2, 16)


def test_only_the_last_blocks_the_final_norms_and_the_projections_are_trained(call, tmp_path):
    asked = into(call, tmp_path, {"trainable_text_blocks": 1}, max_steps=4)
    torch.manual_seed(asked["seed"])
    before = starting_model(asked["model"], asked["encoder"], None, opened(call)[2]).own_state()
    run(asked)
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert after.keys() == before.keys()
    changed = {name for name in after if name.startswith("clip.") and not torch.equal(after[name], before[name])}
    trained = ("text.transformer.resblocks.1.", "text.ln_final.", "visual.transformer.resblocks.1.", "visual.ln_post.")
    whole = {"clip.text.text_projection", "clip.visual.proj"}
    assert changed == {n for n in after if n.startswith(tuple(f"clip.{part}" for part in trained))} | whole
    # What is new is trained as a whole.
    assert not [n for n in after if not n.startswith("clip.") and torch.equal(after[n], before[n])]


def test_in_bf16_the_losses_are_nearly_those_of_32_bit(call, tmp_path):
    losses = {}
    for precision in ("no", "bf16"):
        # In a process of its own: accelerate knows one precision a process.
        asked = into(call, tmp_path / precision, precision=precision, max_steps=3)
        finished(asked, tmp_path / "said.txt")
        losses[precision] = [line["loss"] for line in lines_of(tmp_path / precision / "model")[1:]]
        kept = load_file(tmp_path / precision / "model" / "model.safetensors")
        assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
    assert losses["bf16"] != losses["no"] and losses["bf16"] == pytest.approx(losses["no"], rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", [{}, AS_RELEASED, {"recompute": True}], ids=["paper", "as_released", "recompute"])
def test_the_same_training_runs_in_bf16_on_a_gpu(call, tmp_path, model):
    asked = into(call, tmp_path, model, precision="bf16", epochs=2, max_steps=32, dev_every=16)
    finished(asked | {"device": "cuda"}, tmp_path / "said.txt")
    losses = [line["loss"] for line in lines_of(tmp_path / "model")[1:]]
    assert len(losses) == 32 and np.isfinite(losses).all() and np.mean(losses[-6:]) < np.mean(losses[:6])
    read_model(tmp_path / "model")


# --- what is refused


@pytest.fixture
def by_name(tmp_path):
    """A tiny CLIP that open_clip knows by name, and two files of weights."""
    (tmp_path / "polclip-tiny-weights.json").write_text(json.dumps(tiny_clip.CLIP))
    open_clip.add_model_config(tmp_path)
    files = []
    for seed in (0, 1):
        write_clip(tmp_path / str(seed), seed)
        files.append(str(tmp_path / str(seed) / "open_clip_model.safetensors"))
    return "polclip-tiny-weights", files


def test_features_of_other_weights_or_other_frozen_blocks_are_refused(folder, call, by_name, tmp_path):
    name, (weights, others) = by_name
    encoder = call["encoder"] | {"clip_architecture": name, "clip_weights": weights}
    _, pictures = embedded(folder, tmp_path / "features", encoder)
    store = FeatureStore([pictures])
    model = asdict(tiny_clip.SETTINGS)
    starting_model(model, encoder, None, store)
    # The same file elsewhere is the same weights.
    elsewhere = tmp_path / "elsewhere.safetensors"
    elsewhere.write_bytes(Path(weights).read_bytes())
    starting_model(model, encoder | {"clip_weights": str(elsewhere)}, None, store)
    for key, value in {"clip_weights": others, "trainable_image_blocks": 2, "grid": 2}.items():
        with pytest.raises(UserError, match=f"made with {key} .*Delete the folder embeddings/pictures"):
            starting_model(model, encoder | {key: value}, None, store)


def test_settings_of_a_pair_that_were_left_in_the_block_do_not_concern_a_clip(folder, call, tmp_path):
    left = {"text_layers": 2, "text_precision": "bf16"}
    store = FeatureStore(call["picture_features"])
    starting_model(asdict(tiny_clip.SETTINGS), call["encoder"] | left, None, store)
    check_features(FeatureStore(call["text_features"]), EncoderSettings(**call["encoder"] | left).of_texts())
    other = EncoderSettings("clip", clip_architecture="ViT-B-32", clip_weights="openai").of_texts()
    with pytest.raises(UserError, match=r"stored texts were made with clip_\w+ .*Delete the folder embeddings/texts"):
        check_features(FeatureStore(call["text_features"]), other, "texts")


def test_settings_of_a_clip_that_were_left_in_the_block_do_not_concern_a_pair():
    pair = EncoderSettings("pair", text_layers=2)
    left = replace(pair, clip_architecture="local-dir:gone", clip_weights="gone.pt", trainable_image_blocks=3)
    assert left.of_texts() == pair.of_texts() == {"kind": "pair", "text_layers": 2, "text_precision": "no"}
    assert left.of_pictures() == pair.of_pictures() == {"kind": "pair", "grid": 4}


def test_features_of_other_weights_in_the_same_folder_are_refused(folder, call, tmp_path):
    encoder = call["encoder"] | {"clip_architecture": write_clip(tmp_path / "clip", seed=0)}
    _, pictures = embedded(folder, tmp_path / "features", encoder)
    write_clip(tmp_path / "clip", seed=1)
    with pytest.raises(UserError, match="Delete the folder embeddings/pictures"):
        starting_model(asdict(tiny_clip.SETTINGS), encoder, None, FeatureStore([pictures]))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"reused_blocks": 3}, r"model\.reused_blocks: 3 blocks, but the \w+ tower has 2"),
        ({"trainable_text_blocks": 3}, r"model\.trainable_text_blocks: 3 blocks, but the text tower has 2"),
        ({"trainable_image_blocks": 3}, r"trainable_image_blocks: 3 blocks, but the image tower has 2"),
        ({"image_positions": 78}, r"model\.image_positions: 78, but the text tower knows 77 positions"),
        ({"sig": False}, r"model\.fusion attends to what SIG and ISG generate.*model\.sig"),
        ({"isg": False}, r"model\.fusion attends to what SIG and ISG generate.*model\.isg"),
    ],
)
def test_settings_that_contradict_the_towers_are_refused_with_the_reason(changed, reason):
    with pytest.raises(UserError, match=reason):
        random_clip_model(clip_settings(**changed))


def test_the_most_that_the_towers_have_is_allowed():
    everything = {"reused_blocks": 2, "trainable_text_blocks": 2, "trainable_image_blocks": 2, "image_positions": 77}
    random_clip_model(clip_settings(**everything))
    random_clip_model(clip_settings(sig=False, isg=False, fusion=False))


# --- texts of any length


def random_texts(lengths, seed):
    """Token ids with their ends, padded to the longest."""
    random = torch.Generator().manual_seed(seed)
    real = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(1, START, real.shape, generator=random)
    ids[:, 0] = START
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return Tokens(None, ids, real)


def with_padding(tokens, more, seed):
    """The same texts behind which any ids stand, that are not real."""
    random = torch.Generator().manual_seed(seed)
    rows, length = tokens.real.shape
    ids = torch.randint(0, END + 1, (rows, length + more), generator=random)
    ids[:, :length] = torch.where(tokens.real, tokens.states, ids[:, :length])
    return Tokens(None, ids, torch.nn.functional.pad(tokens.real, (0, more)))


FORMS = [
    clip_settings(fused_image_query=query, fusion_pooling="mean", trainable_image_blocks=1)
    for query in ("image", "generated")
]
MODELS = {form.fused_image_query: random_clip_model(form) for form in FORMS}


@pytest.mark.parametrize("query", MODELS)
@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(2, 50), min_size=1, max_size=4), st.integers(1, 27), st.integers(0, 1000))
@torch.inference_mode()
def test_padding_changes_nothing(query, lengths, more, seed):
    model = MODELS[query]
    texts = random_texts(lengths, seed)
    padded = with_padding(texts, more, seed + 1)
    target = texts.real & (torch.rand(texts.real.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)
    target[:, 0] = True

    def outputs(texts, target):
        gloss = model.gloss(texts, with_target=True)
        return [*gloss[:4], model.phrase(texts), model.word_in_context(texts, target)]

    longer = torch.nn.functional.pad(target, (0, more))
    for one, other in zip(outputs(texts, target), outputs(padded, longer), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    # And each text is what it is alone.
    for row, length in enumerate(lengths):
        alone = Tokens(None, texts.states[row : row + 1, :length], texts.real[row : row + 1, :length])
        own = outputs(alone, target[row : row + 1, :length])
        for one, other in zip(own, outputs(texts, target), strict=True):
            torch.testing.assert_close(one[0], other[row], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_what_is_real_does_change_what_a_text_becomes():
    model = MODELS["image"]
    texts = random_texts([9, 9], seed=3)
    other = texts.states.clone()
    other[:, 4] += 1
    one, two = (model.gloss(texts._replace(states=states)) for states in (texts.states, other))
    assert (one.fused - two.fused).abs().max() > 1e-3 and (one.generated - two.generated).abs().max() > 1e-3
    target = torch.zeros_like(texts.real)
    target[:, 4] = True
    words = [model.word_in_context(texts._replace(states=states), target) for states in (texts.states, other)]
    assert (words[0] - words[1]).abs().max() > 1e-3
    # A word is read from its own states.
    assert (words[0] - model.word_in_context(texts, target.roll(1, 1))).abs().max() > 1e-3


@pytest.mark.parametrize(("query", "pooling"), [("image", "mean"), ("generated", "first")])
@torch.inference_mode()
def test_the_batch_around_it_does_not_change_what_a_picture_becomes(query, pooling):
    model = random_clip_model(clip_settings(fused_image_query=query, fusion_pooling=pooling))
    states = torch.randn(4, 5, 24, generator=torch.Generator().manual_seed(0))
    pictures = Tokens(None, states, torch.ones(4, 5, dtype=torch.bool))
    whole = model.image(pictures)
    for row in range(4):
        alone = model.image(Tokens(None, states[row : row + 1], pictures.real[:1]))
        for one, other in zip(alone[:3], whole[:3], strict=True):
            torch.testing.assert_close(one[0], other[row], atol=1e-5, rtol=0)


def test_a_cut_text_keeps_its_end_and_is_told_from_others(tmp_path):
    architecture = write_clip(tmp_path / "clip")
    clip, _ = load_clip(architecture, "")
    encoder = ClipTextEncoder(clip, architecture)
    common = " ".join(["bat"] * 97)
    encoded = encoder(encoder.tokens([f"a small cave {common}", f"the mighty mouse {common}", "a small cave"]))
    for tokens in encoded.states[:2]:
        assert len(tokens) == 77 and tokens[0] == START and tokens[-1] == END and (tokens[1:-1] < START).all()
    assert encoded.states[0][4:].tolist() == encoded.states[1][4:].tolist()
    assert [len(spans) for spans in encoded.spans] == [77, 77, 5]
    # At the end of a cut text, the state knows how the text began.
    assert np.abs(encoded.pooled[0] - encoded.pooled[1]).max() > 1e-4
    model = random_clip_model()
    ids = torch.tensor(np.stack(encoded.states[:2])).long()
    with torch.inference_mode():
        one, other = model.phrase(Tokens(None, ids, torch.ones_like(ids, dtype=torch.bool)))
    assert (one - other).abs().max() > 1e-4


# --- gradients, and a model on disk


@pytest.mark.parametrize("changed", [{}, AS_RELEASED], ids=["paper", "as_released"])
def test_computing_the_states_again_gives_the_same_losses_and_gradients(call, monkeypatch, changed):
    batch = batch_of(call, captions="w2i_text" in changed)
    run_block, runs = clip_towers.run_block, []

    def counted(block, *given):
        runs.append(block)
        return run_block(block, *given)

    monkeypatch.setattr(clip_towers, "run_block", counted)
    found = {}
    for recompute in (False, True):
        form = clip_settings(trainable_image_blocks=1, recompute=recompute, **changed)
        model = random_clip_model(form).train()
        runs.clear()
        losses = model(batch)
        losses.total.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        found[recompute] = losses, gradients, len(runs)
    (losses, gradients, once), (again, gradients_again, twice) = found[False], found[True]
    assert twice > 1.5 * once
    assert min(losses) > 0
    torch.testing.assert_close(tuple(again), tuple(losses), atol=1e-6, rtol=0)
    assert all(gradient is not None for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_again[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@contextlib.contextmanager
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@torch.inference_mode()
def everything(model, call):
    """All that a model says of some words, phrases, glosses and pictures."""
    batch = batch_of(call)
    said = [
        model.word_in_context(*batch.words.parts[0]),
        model.phrase(batch.phrases.parts[0]),
        *model.gloss(batch.glosses.parts[0], with_target=True),
        *model.image(batch.images, with_target=True),
        *model(batch),
    ]
    return [part for part in said if part is not None]  # states are a pair's


@pytest.mark.parametrize(
    "form", [{}, AS_RELEASED, {"image_positions": None}], ids=["paper", "as_released", "positions"]
)
def test_a_written_model_comes_back_from_its_folder_and_as_from_the_hub(call, tmp_path, monkeypatch, form):
    model = random_clip_model(clip_settings(trainable_image_blocks=1, **form), seed=5)
    model.write(tmp_path / "written")
    model.save_pretrained(tmp_path / "saved")
    with no_network(monkeypatch):
        back = [read_model(tmp_path / "written"), PolCLIP.from_pretrained(str(tmp_path / "saved"))]
    expected = everything(model, call)
    for other in back:
        assert type(other) is type(model) and not other.training
        assert other.settings == model.settings and other.image_token_count == model.image_token_count
        for ours, theirs in zip(everything(other, call), expected, strict=True):
            assert torch.equal(ours, theirs)


def test_a_folder_whose_weights_do_not_fit_is_refused(tmp_path):
    random_clip_model().write(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["clip.visual.proj"] = torch.zeros(24, 8)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"do not fit config\.json \(clip\.visual\.proj\)"):
        read_model(tmp_path)
