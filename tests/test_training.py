import json
from dataclasses import asdict, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_features import CLASSES, IMAGE, MODEL, TEXT, random_model, tiny_world

from polclip.corpora.texts import caption_text, gloss_text, photo_text, text_id
from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.errors import UserError
from polclip.files import read_json_lines
from polclip.model.losses import contrastive_loss
from polclip.model.pair_polclip import Heads, PairPolCLIP
from polclip.model.polclip import PolCLIP
from polclip.model.representations import Losses
from polclip.records import Phrase, Picture, TextualInstance, VisualInstance, read_records, write_records
from polclip.training import alignment, loop, state
from polclip.training.alignment import QueryRanking, align, read_heads
from polclip.training.batches import make_batch, make_step
from polclip.training.budget import Part
from polclip.training.corpora import SenseCorpus, TextualCorpus, target_state
from polclip.training.loop import Trainer, train
from polclip.training.schedule import PlannedStep, parameter_groups, rate
from polclip.training.settings import AlignmentSettings, TrainingSettings
from polclip.training.state import SavedState

FORMS = ("photo", "listed")
ALIGNMENT = AlignmentSettings(
    epochs=6,
    batch=22,
    learning_rate=0.005,
    text_learning_rate=0.001,
    weight_decay=0.01,
    temperature=0.07,
    hidden=32,
    channel_dropout=0.1,
    dropout=0.1,
    members=2,
    sense_weight=0.5,
    word_epochs=1,
    word_batch=16,
    word_learning_rate=0.0003,
)
SETTINGS = TrainingSettings(
    tasks=("textual", "visual"),
    epochs=2,
    max_steps=12,
    words=16,
    glosses=24,
    pictures=30,
    pictures_per_sense=2,
    phrases=8,
    own_candidates=False,
    learning_rate=0.005,
    pretrained_learning_rate=0.005,
    rise=0.1,
    weight_decay=0.01,
    clip_norm=1.0,
    accumulate=1,
    precision="no",
    dev_every=4,
    dev_instances=50,
    patience=None,
    save_minutes=60.0,
    tensorboard=False,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"))


def aligned(world, folder, seed=1, **changes):
    paths = (world.phrases, world.pictures_train, world.dev_style, world.dev_words)
    settings = replace(ALIGNMENT, **changes)
    align(
        folder,
        world.inventory,
        world.texts,
        world.pictures,
        world.classes,
        *paths,
        FORMS,
        [world.textual_train],
        settings,
        seed,
    )
    return list(read_json_lines(folder / "metrics.jsonl"))


@pytest.fixture(scope="module")
def towers(world, tmp_path_factory):
    """Barely aligned, so that something is left to learn."""
    folder = tmp_path_factory.mktemp("towers")
    aligned(world, folder, epochs=1, learning_rate=1e-4, text_learning_rate=1e-5)
    return folder


def trained(world, towers, folder, model=MODEL, seed=7, settings=SETTINGS, **paths):
    given = {
        "textual_train": [world.textual_train],
        "textual_dev": [world.textual_dev],
        "pictures_train": [world.pictures_train],
        "phrases": [world.phrases],
        "visual_dev": [world.dev_style, world.dev_words],
        "definitions": [],
        "forms": FORMS,
    }
    train(
        folder,
        world.inventory,
        world.texts,
        world.pictures,
        towers=towers,
        **{**given, **paths},
        model=asdict(model),
        encoder={"kind": "pair"},
        settings=settings,
        seed=seed,
        device="cpu",
        resume=folder.with_name(f"{folder.name}-state"),
    )
    return list(read_json_lines(folder / "metrics.jsonl"))


@pytest.fixture(scope="module")
def main(world, towers, tmp_path_factory):
    """Folder and log of a model with everything on."""
    folder = tmp_path_factory.mktemp("main") / "seed-7"
    return folder, trained(world, towers, folder)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- alignment


def test_alignment_solves_what_the_towers_alone_do_not(world, tmp_path):
    lines = aligned(world, tmp_path)
    *lines, of_words = lines
    assert of_words.keys() == {"word_epoch", "word_loss"}
    assert len(lines) == ALIGNMENT.epochs and lines[-1]["loss"] < lines[0]["loss"] / 2
    described, kept = read_heads(tmp_path)
    assert (described.text_width, described.image_width, described.classes) == (TEXT, IMAGE, CLASSES)
    heads = Heads(described)
    heads.load_state_dict(kept)
    heads.eval()
    dev = [QueryRanking([path], world.texts, world.pictures, FORMS) for path in (world.dev_style, world.dev_words)]
    rate = np.mean([ranking.hit_rate(heads) for ranking in dev])
    # The best epoch is the one that is kept.
    assert rate == pytest.approx(max(line["dev_visual"] for line in lines)) and rate > 90
    assert np.mean([ranking.hit_rate(Heads(described).eval()) for ranking in dev]) < 50
    for line in lines:
        assert line["dev_visual"] == pytest.approx((line["dev_style"] + line["dev_words"]) / 2)
    concepts = torch.from_numpy(
        world.texts.pooled([text_id(gloss_text(world.inventory.synset(s))) for s in world.classes])
    )
    assert torch.allclose(heads.image.class_embeddings, torch.nn.functional.normalize(concepts, dim=-1), atol=1e-6)
    taught = [synset_id for synset_id in world.inventory.synset_ids() if f"train:{synset_id}.0" in world.pictures]
    glosses = [text_id(gloss_text(world.inventory.synset(s))) for s in taught]
    with torch.inference_mode():
        assert torch.allclose(heads.image.sense_embeddings, heads.text(torch.from_numpy(world.texts.pooled(glosses))))
    assert all(member.concept_weight.item() != 1 for member in heads.image.members)  # each member learned


def test_alignment_keeps_its_best_epoch_and_matches_both_ways(world, tmp_path, monkeypatch):
    seen, matched = [], []

    def rate(_, heads):
        seen.append({name: tensor.clone() for name, tensor in heads.state_dict().items()})
        assert not heads.training
        return 50.0 if len(seen) in (3, 4) else 10.0  # the two dev sets of the second of three epochs

    def loss(similarity, same, scale):
        matched.append(similarity.detach())
        return contrastive_loss(similarity, same, scale)

    monkeypatch.setattr(QueryRanking, "hit_rate", rate)
    monkeypatch.setattr(alignment, "contrastive_loss", loss)
    aligned(world, tmp_path, epochs=3, word_epochs=0)
    kept = read_heads(tmp_path)[1]
    assert same(kept, seen[2]) and not same(kept, seen[4])
    assert all(torch.equal(one, other.T) for one, other in zip(matched[::2], matched[1::2], strict=True))


def test_alignment_with_one_seed_is_one_result(world, tmp_path):
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        aligned(world, tmp_path / name, seed, epochs=2)
    one, again, other = (read_heads(tmp_path / name)[1] for name in ("one", "again", "other"))
    assert same(one, again) and not same(one, other)


def test_alignment_leaves_out_dev_queries_whose_pictures_could_not_be_read(world, tmp_path):
    queries = list(read_records(world.dev_style, VisualInstance))
    broken = replace(queries[0], candidates=["dev:lost", *queries[0].candidates[1:]])
    write_records(tmp_path / "some.parquet", VisualInstance, [broken, *queries[1:5]])
    assert len(QueryRanking([tmp_path / "some.parquet"], world.texts, world.pictures, FORMS).gold) == 4
    write_records(tmp_path / "none.parquet", VisualInstance, [broken])
    with pytest.raises(UserError, match=r"No visual query.*none\.parquet"):
        QueryRanking([tmp_path / "none.parquet"], world.texts, world.pictures, FORMS)


def test_alignment_without_a_picture_is_refused(world, tmp_path):
    write_records(tmp_path / "pictures.parquet", Picture, [])
    with pytest.raises(UserError, match="No training picture"):
        aligned(replace(world, pictures_train=tmp_path / "pictures.parquet"), tmp_path / "towers")
    assert not (tmp_path / "towers").exists()


def test_the_word_head_learns_each_word_against_its_candidates_and_leaves_the_other_heads(world, tmp_path):
    lines = aligned(world, tmp_path / "plain", epochs=1, word_epochs=0)
    assert not any("word_loss" in line for line in lines)
    _, before = read_heads(tmp_path / "plain")
    lines = aligned(world, tmp_path / "learned", epochs=1, word_epochs=10, word_learning_rate=0.005)
    losses = [line["word_loss"] for line in lines if "word_loss" in line]
    assert len(losses) == 10 and losses[-1] < losses[0] / 2
    described, after = read_heads(tmp_path / "learned")
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved and all(name.startswith("word.") for name in moved)
    heads = Heads(described)
    heads.load_state_dict(after)
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    glosses = [text_id(gloss_text(world.inventory.synset(s))) for s in corpus.synsets]
    with torch.inference_mode():
        cosines = (
            heads.eval().word_in_context(*corpus.words(range(len(corpus)), "cpu"))
            @ heads.text(torch.from_numpy(world.texts.pooled(glosses))).T
        )
    right = [gold[row[own].argmax()] for row, own, gold in zip(cosines, corpus.candidates, corpus.gold, strict=True)]
    assert np.mean(right) > 0.85


# --- training


def test_training_learns_both_tasks(main):
    _, lines = main
    before, *_, after = [line for line in lines if "dev_textual" in line]
    # Chance: half of the words, a tenth of the pictures; the heads start a little above it.
    assert before["dev_textual"] < 75 < 85 < after["dev_textual"]
    assert before["dev_visual"] < 70 < 90 < after["dev_visual"]
    joint = [line["loss"] for line in lines[1:]]
    assert np.mean(joint[-3:]) < np.mean(joint[:3]) / 2


def test_the_log_has_a_line_a_step_and_dev_scores_where_the_dev_sets_are_looked_at(main, world):
    _, lines = main
    assert [line["step"] for line in lines] == list(range(SETTINGS.max_steps + 1))
    assert [line["step"] for line in lines if "dev_visual" in line] == [0, 4, 8, 12]
    assert "loss" not in lines[0]  # before the first step
    for line in lines[1:]:
        assert {"seconds", "loss", "loss_sig", "loss_isg", "loss_w2s", "loss_w2i"} <= line.keys()
        assert {"temperature", "learning_rate"} <= line.keys()
        parts = sum(line[f"loss_{name}"] for name in ("sig", "isg", "w2s", "w2i"))
        assert line["loss"] == pytest.approx(parts, rel=1e-4) and line["loss_sig"] > 0 < line["loss_isg"]
    rates = [line["learning_rate"] for line in lines[1:]]
    assert max(rates) <= SETTINGS.learning_rate and 0 < rates[-1] < rates[-2] < rates[3]


def test_tensorboard_gets_the_numbers_of_every_step_beside_the_model(world, towers, tmp_path, monkeypatch):
    boards = []

    class Board:
        def __init__(self, folder):
            self.folder, self.scalars, self.closed = folder, [], False
            boards.append(self)

        def add_scalar(self, name, value, step):
            self.scalars.append((name, value, step))

        def close(self):
            self.closed = True

    monkeypatch.setattr(state, "_summary_writer", Board)
    lines = trained(world, towers, tmp_path / "model", settings=replace(SETTINGS, max_steps=2, tensorboard=True))
    (board,) = boards
    assert board.folder == tmp_path / "model" / "tensorboard" and board.closed
    assert {step for _, _, step in board.scalars} == {0, 1, 2}
    assert ("loss", lines[2]["loss"], 2) in board.scalars and ("dev_visual", lines[2]["dev_visual"], 2) in board.scalars


def test_the_saved_state_is_gone_when_training_is_done(main):
    folder, _ = main
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "metrics.jsonl"}


def test_one_seed_is_one_model_bit_for_bit(main, world, towers, tmp_path):
    folder, lines = main
    again = trained(world, towers, tmp_path / "again")
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()
    assert [line["loss"] for line in lines[1:]] == [line["loss"] for line in again[1:]]
    trained(world, towers, tmp_path / "other", seed=8)
    assert not same(weights(folder), weights(tmp_path / "other"))


def test_every_part_is_trained_even_where_all_rates_are_equal(main, towers):
    folder, _ = main
    _, start = read_heads(towers)
    learned = weights(folder)
    fresh = PairPolCLIP(read_heads(towers)[0], MODEL).state_dict()
    assert SETTINGS.pretrained_learning_rate == SETTINGS.learning_rate
    assert not torch.equal(learned["heads.text.mlp.2.weight"], start["text.mlp.2.weight"])
    assert not torch.equal(learned["heads.image.members.1.concept_weight"], start["image.members.1.concept_weight"])
    assert torch.equal(learned["heads.image.class_embeddings"], start["image.class_embeddings"])
    for name in ("heads.word.mlp.5.weight", "log_scale", "sig.norm.bias", "isg.norm.bias", "fusion.norm.bias"):
        assert not torch.equal(learned[name], fresh[name]), name


def test_head_and_block_rates_are_their_own(world, towers, tmp_path):
    still = replace(SETTINGS, max_steps=2, pretrained_learning_rate=0.0, weight_decay=0.0)
    trained(world, towers, tmp_path / "still", settings=still)
    _, start = read_heads(towers)
    learned = weights(tmp_path / "still")
    assert all(torch.equal(learned[f"heads.{name}"], tensor) for name, tensor in start.items())
    assert learned["sig.norm.bias"].any()


@pytest.mark.parametrize("best_at", [1, 3])
def test_the_weights_that_do_best_on_dev_are_kept(world, towers, tmp_path, monkeypatch, best_at):
    seen = []

    def score(model, *_):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"dev_textual": 100.0 if len(seen) == best_at else 20.0, "dev_visual": 0.0}

    monkeypatch.setattr(loop, "dev_scores", score)
    trained(world, towers, tmp_path / "model", settings=SETTINGS)
    kept = weights(tmp_path / "model")
    assert len(seen) == 4 and kept.keys() == random_model().own_state().keys()
    assert same(kept, {name: seen[best_at - 1][name] for name in kept})
    assert not same(kept, {name: seen[0 if best_at == 3 else 2][name] for name in kept})


def test_momentum_starts_at_the_aligned_heads_and_follows_each_step(world, towers, tmp_path, monkeypatch):
    seen = []

    def score(model, *_):
        seen.append({name: tensor.clone() for name, tensor in model.momentum.module.state_dict().items()})
        return {"dev_visual": 1.0}

    monkeypatch.setattr(loop, "dev_scores", score)
    trained(world, towers, tmp_path / "model")
    _, start = read_heads(towers)
    assert same(seen[0], start)
    for before, after in pairwise(seen):
        assert not torch.equal(before["text.mlp.2.weight"], after["text.mlp.2.weight"])


def test_dropout_is_on_in_training_and_off_on_dev(world, towers, tmp_path, monkeypatch):
    states = {"rank_words": set(), "rank_queries": set(), "forward": set()}
    for place, name in ((loop, "rank_words"), (loop, "rank_queries"), (PolCLIP, "forward")):
        plain, found = getattr(place, name), states[name]

        def noted(model, *rest, plain=plain, found=found):
            found.add(model.training)
            return plain(model, *rest)

        monkeypatch.setattr(place, name, noted)
    trained(world, towers, tmp_path / "model")
    assert states == {"rank_words": {False}, "rank_queries": {False}, "forward": {True}}


def test_dev_sets_are_looked_at_in_part_evenly_spread(world, towers, tmp_path, monkeypatch):
    seen = {}

    def noted(_, corpora, settings):
        rows = loop._some(range(len(corpora.textual_dev)), settings.dev_instances)
        seen["words"] = [corpora.textual_dev.instances[k].instance_id for k in rows]
        seen["queries"] = [query.instance_id for query, _ in corpora.visual_dev]
        return {"dev_visual": 1.0}

    monkeypatch.setattr(loop, "dev_scores", noted)
    trained(world, towers, tmp_path / "model", settings=replace(SETTINGS, max_steps=1, dev_instances=3))
    words = [x.instance_id for x in read_records(world.textual_dev, TextualInstance)]
    assert seen["words"] == [words[k] for k in (0, (len(words) - 1) // 2, len(words) - 1)]
    by_set = [[q.instance_id for q in read_records(p, VisualInstance)] for p in (world.dev_style, world.dev_words)]
    assert seen["queries"] == [ids[k] for ids in by_set for k in (0, (len(ids) - 1) // 2, len(ids) - 1)]


def test_only_matrices_decay():
    matrix, bias = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2))
    scalar = torch.nn.Parameter(torch.zeros(()))
    groups = parameter_groups([(0.1, [matrix, bias]), (0.1, [scalar])], 0.05)
    found = [(len(group["params"]), group["peak"], group["weight_decay"]) for group in groups]
    assert found == [(1, 0.1, 0.05), (1, 0.1, 0.0), (1, 0.1, 0.0)]
    assert groups[0]["params"][0] is matrix


class Slope(torch.nn.Module):
    """Stands in for a model: its loss falls along a direction."""

    scale, pretrained, wants_captions, device = torch.tensor(1.0), ("heads.",), False, torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, direction):
        zero = torch.zeros(())
        return Losses(self.weight @ direction, zero, zero, zero)

    def follow(self):
        pass


def stepping(folder, monkeypatch, **changes):
    """A model, and what steps it along a direction by plain gradient descent at a rate of 1."""
    model = Slope()
    trainer = Trainer(model, None, replace(SETTINGS, **changes), 0, "cpu", SavedState(folder, 60), folder)
    trainer.optimizer = trainer.accelerator.prepare(torch.optim.SGD([{"params": [model.weight], "peak": 1.0}], lr=0.5))
    monkeypatch.setattr(loop, "rate", lambda *_: 1.0)
    monkeypatch.setattr(loop, "make_step", lambda direction, *_, **__: direction)
    monkeypatch.setattr(loop, "make_batch", lambda step, *_: torch.tensor(step))
    monkeypatch.setattr(
        trainer, "corpora", SimpleNamespace(**dict.fromkeys(("textual", "visual", "inventory", "texts", "pictures")))
    )
    return model, lambda direction, move=True: trainer._step(PlannedStep(direction, [], 0.5), move)


def test_an_update_forgets_the_last_gradient_and_clips_before_the_step(tmp_path, monkeypatch):
    model, step = stepping(tmp_path, monkeypatch)
    step([30.0, 40.0])
    assert torch.allclose(model.weight, torch.tensor([-0.6, -0.8]), atol=1e-4)
    step([0.5, 0.0])
    assert torch.allclose(model.weight, torch.tensor([-1.1, -0.8]), atol=1e-4)


def test_gradients_of_several_steps_are_averaged_into_one_update(tmp_path, monkeypatch):
    model, step = stepping(tmp_path, monkeypatch, accumulate=2)
    step([0.2, 0.0], move=False)
    assert not model.weight.any()
    step([0.0, 0.4])
    assert torch.allclose(model.weight, torch.tensor([-0.1, -0.2]), atol=1e-5)
    step([30.0, 0.0], move=False)  # forgets those before, and is not yet clipped
    step([0.0, 40.0])
    assert torch.allclose(model.weight, torch.tensor([-0.7, -1.0]), atol=1e-4)


def test_the_rate_rises_and_falls_and_is_never_zero_on_the_way():
    rates = [rate((step + 0.5) / 100, 0.1) for step in range(100)]
    assert rates.index(max(rates)) == 10 and max(rates) > 0.99 and min(rates) > 0 and rates[-1] < 0.001
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rate(0.1, 0.2) == 0.5 and rate(0.0, 0.0) == 1  # without a rise the peak comes first


def test_text_alone(world, towers, tmp_path):
    off = replace(MODEL, sig=False, isg=False, fusion=False)
    lines = trained(world, towers, tmp_path / "text_only", off, settings=replace(SETTINGS, tasks=("textual",)))
    joint = lines[1:]
    assert all(line["loss_sig"] == line["loss_isg"] == line["loss_w2i"] == 0 < line["loss_w2s"] for line in joint)
    assert "dev_visual" not in lines[-1] and lines[-1]["dev_textual"] > 85
    _, start = read_heads(towers)
    # Pictures were not looked at.
    learned = weights(tmp_path / "text_only")
    assert all(torch.equal(learned[f"heads.{name}"], t) for name, t in start.items() if name.startswith("image."))


def test_pictures_alone_and_no_fusion(world, towers, tmp_path):
    settings = replace(SETTINGS, tasks=("visual",), epochs=SETTINGS.max_steps)  # a step holds all senses
    lines = trained(world, towers, tmp_path / "visual", replace(MODEL, fusion=False), settings=settings)
    assert len(lines) == 1 + SETTINGS.max_steps
    assert "dev_textual" not in lines[-1] and lines[-1]["dev_visual"] > 80
    assert not any(name.startswith("fusion.") for name in weights(tmp_path / "visual"))
    assert not PolCLIP.from_pretrained(tmp_path / "visual").settings.fusion


def test_nothing_is_written_when_training_fails_midway(world, towers, tmp_path, monkeypatch):
    calls = []

    def fail(*arguments, **named):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("out of memory")
        return make_step(*arguments, **named)

    monkeypatch.setattr(loop, "make_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        trained(world, towers, tmp_path / "model", settings=SETTINGS)
    assert len(calls) == 5 and not (tmp_path / "model").exists()


def test_a_word_without_candidates_or_gold_does_no_harm(world, towers, tmp_path):
    some = list(read_records(world.textual_train, TextualInstance))
    strange = [replace(some[0], candidates=[], gold=[]), replace(some[1], gold=[])]
    for side in ("train", "dev"):
        write_records(tmp_path / f"{side}.parquet", TextualInstance, [*strange, *some[2:40]])
    settings = replace(SETTINGS, max_steps=4, own_candidates=True)
    lines = trained(
        world,
        towers,
        tmp_path / "model",
        settings=settings,
        textual_train=[tmp_path / "train.parquet"],
        textual_dev=[tmp_path / "dev.parquet"],
    )
    assert all(np.isfinite(line["loss"]) for line in lines[1:])
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "model").values())


def test_empty_corpora_are_refused(world, towers, tmp_path):
    nothing = tmp_path / "nothing.parquet"
    for kind, key, message in (
        (TextualInstance, "textual_train", "No textual instance"),
        (TextualInstance, "textual_dev", "No textual instance"),
        (Picture, "pictures_train", "No picture with features in"),
    ):
        write_records(nothing, kind, [])
        with pytest.raises(UserError, match=message):
            trained(world, towers, tmp_path / "model", settings=SETTINGS, **{key: [nothing]})
        assert not (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("tasks", [("textual", "visual"), ("visual",)], ids="+".join)
def test_an_empty_visual_dev_set_is_refused(world, towers, tmp_path, tasks):
    write_records(tmp_path / "nothing.parquet", VisualInstance, [])
    settings = replace(SETTINGS, max_steps=1, tasks=tasks)
    with pytest.raises(UserError, match="visual"):
        trained(world, towers, tmp_path / "model", settings=settings, visual_dev=[tmp_path / "nothing.parquet"])
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_pictures_without_any_phrase_are_enough_beside_text(world, towers, tmp_path):
    write_records(tmp_path / "phrases.parquet", Phrase, [])
    settings = replace(SETTINGS, max_steps=2)
    phrases = [tmp_path / "phrases.parquet"]
    lines = trained(world, towers, tmp_path / "model", settings=settings, phrases=phrases)
    assert len(lines) == 3 and all(line[f"loss_{name}"] > 0 for line in lines[1:] for name in ("sig", "isg", "w2i"))


def test_pictures_alone_without_any_phrase_are_refused(world, towers, tmp_path):
    write_records(tmp_path / "phrases.parquet", Phrase, [])
    settings = replace(SETTINGS, tasks=("visual",))
    with pytest.raises(UserError, match="phrase"):
        trained(world, towers, tmp_path / "model", settings=settings, phrases=[tmp_path / "phrases.parquet"])


# --- batches and corpora


def step_of(world, own_candidates=False, senses=("00000101-n", "00000104-n"), rows=(0, 30), captions=False):
    textual = TextualCorpus.read([world.textual_train], world.inventory, world.texts)
    visual = SenseCorpus.read([world.phrases], [world.pictures_train], world.pictures)
    step = make_step(
        [Part(row, tuple(textual.candidates[row])) for row in rows],
        [visual.phrases[synset_id][0] for synset_id in senses],
        textual,
        visual,
        world.inventory,
        pictures_per_sense=2,
        own_candidates=own_candidates,
        captions=captions,
        rng=np.random.default_rng(0),
    )
    return textual, step, make_batch(step, textual, world.texts, world.pictures, "cpu")


def test_a_batch_is_labelled_by_synset(world):
    textual, step, batch = step_of(world)
    # bat as an animal, bat as a club (rows 0 and 30), then the phrases of bat (animal) and mouse (animal).
    assert [textual.instances[k].gold for k in step.words] == [["bat%1:05:00::"], ["bat%1:06:00::"]]
    synsets = ["00000101-n", "00000102-n", "00000104-n"]
    assert step.glosses == [text_id(gloss_text(world.inventory.synset(s))) for s in synsets]
    # Every sense of the step that has pictures shows two of them: those of the words' candidates, too.
    assert [picture.split(":")[1].split(".")[0] for picture in step.pictures] == [s for s in synsets for _ in range(2)]
    assert len(set(step.pictures)) == 6 and step.captions is None and step.labels.image_of_caption is None
    assert step.labels.gloss_of_context.int().tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    by_sense = [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    assert step.labels.gloss_of_image.int().tolist() == by_sense
    assert step.labels.image_of_context.int().tolist() == [by_sense[k] for k in (0, 1, 0, 2)]
    assert step.labels.candidates.all()
    assert batch.images.pooled.shape == (6, IMAGE) and batch.images.classes.shape == (6, CLASSES)
    np.testing.assert_array_equal(batch.images.pooled, world.pictures.pooled(step.pictures))
    phrase = text_id(photo_text("bat of 00000101-n"))
    np.testing.assert_array_equal(batch.phrases.parts[0][0].numpy(), world.texts.pooled([phrase])[0])
    np.testing.assert_array_equal(batch.words.parts[0][1], world.texts.pooled([textual.text_ids[k] for k in (0, 30)]))
    assert batch.word_count == 2 and batch.captions is None
    glosses = torch.cat([tokens.pooled for tokens in batch.glosses.parts])[batch.glosses.order]
    np.testing.assert_array_equal(glosses, world.texts.pooled(step.glosses))


def test_own_candidates_hold_for_words_and_not_for_phrases(world):
    _, step, _ = step_of(world, own_candidates=True)
    assert step.labels.candidates.int().tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    _, phrases_alone, batch = step_of(world, own_candidates=True, rows=())
    assert phrases_alone.labels.candidates.all() and phrases_alone.words == []
    assert batch.word_count == 0 and batch.words.parts == []
    _, words_alone, batch = step_of(world, senses=())
    assert len(words_alone.pictures) == 4 and batch.phrases.parts == []


def test_a_part_of_a_word_is_compared_with_its_own_share_of_the_senses(world):
    textual = TextualCorpus.read([world.textual_train], world.inventory, world.texts)
    (gold,) = textual.candidates[0][textual.gold[0]]
    step = make_step(
        [Part(0, (gold,)), Part(30, tuple(textual.candidates[30]))],
        [],
        textual,
        None,
        world.inventory,
        pictures_per_sense=2,
        own_candidates=True,
        captions=False,
        rng=np.random.default_rng(0),
    )
    assert step.labels.candidates.int().tolist() == [[1, 0], [1, 1]]
    assert step.pictures == [] and make_batch(step, textual, world.texts, world.pictures, "cpu").images is None


def test_captions_tell_of_every_candidate_sense_and_phrase(world, tmp_path):
    textual = TextualCorpus.read([world.textual_train], world.inventory, world.texts)
    visual = SenseCorpus.read([world.phrases], [world.pictures_train], world.pictures)
    rows = (0, 30)
    step = make_step(
        [Part(row, tuple(textual.candidates[row])) for row in rows],
        visual.phrases["00000104-n"],
        textual,
        visual,
        world.inventory,
        pictures_per_sense=1,
        own_candidates=False,
        captions=True,
        rng=np.random.default_rng(0),
    )
    told = [("bat", "00000101-n"), ("bat", "00000102-n"), ("mouse", "00000104-n")]
    assert step.captions == [text_id(caption_text(word, world.inventory.synset(s))) for word, s in told]
    assert step.labels.image_of_caption.int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_the_target_is_the_mean_of_the_tokens_over_its_characters(world):
    textual = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    (row,) = [k for k, x in enumerate(textual.instances) if x.instance_id == "look_up%2:31:00::.0"]
    text = text_id(textual.instances[row].text)
    states = world.texts.states(text).astype(np.float32)  # number 0 of KEY look up, between two special tokens
    target, sentence = textual.words([row, 0], "cpu")
    np.testing.assert_allclose(target[0], states[5:7].mean(0), atol=1e-6)
    np.testing.assert_allclose(sentence, world.texts.pooled([text, textual.text_ids[0]]))
    # Part of a token is enough; a target that was cut off leaves the mean over all.
    np.testing.assert_allclose(target_state(world.texts, text, (1, 3)), states[1], atol=1e-6)
    np.testing.assert_allclose(target_state(world.texts, text, (900, 903)), states.mean(0), atol=1e-6)


def test_of_token_ids_the_target_is_which_of_them_stand_over_its_characters(world, tmp_path):
    by_id = {x.instance_id: x for x in read_records(world.textual_dev, TextualInstance)}
    long, short, cut_off = (by_id[f"{key}.0"] for key in ("look_up%2:31:00::", "bat%1:05:00::", "bat%1:06:00::"))
    with shard_writer(tmp_path / "ids") as writer:
        for x in (long, short, cut_off):
            spans = world.texts.spans(text_id(x.text))[: 3 if x is cut_off else None]
            writer.add([text_id(x.text)], [np.arange(len(spans)) + 100], np.zeros((1, 4)), spans=[spans])
    write_records(tmp_path / "some.parquet", TextualInstance, [long, short, cut_off])
    corpus = TextualCorpus.read([tmp_path / "some.parquet"], world.inventory, FeatureStore([tmp_path / "ids"]))
    tokens, inside = corpus.words([1, 0, 2], "cpu")
    assert tokens.pooled is None and tokens.states[0].tolist() == [*range(100, 107), 0]
    assert inside[:2].int().tolist() == [[0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1, 0]]
    assert inside[2].tolist() == tokens.real[2].tolist() == [True] * 3 + [False] * 5  # all that was left of it


def test_senses_with_pictures_are_read_with_their_phrases(world, tmp_path):
    pictures = list(read_records(world.pictures_train, Picture))[:9]  # eight of the first sense, one of the next
    lost = replace(pictures[0], picture_id="lost")
    write_records(tmp_path / "pictures.parquet", Picture, [*pictures, lost])
    some = list(read_records(world.phrases, Phrase))[1:4]
    write_records(tmp_path / "phrases.parquet", Phrase, some)
    senses = SenseCorpus.read([tmp_path / "phrases.parquet"], [tmp_path / "pictures.parquet"], world.pictures)
    first, second = pictures[0].synset_id, pictures[8].synset_id
    assert senses.pictures == {first: [p.picture_id for p in pictures[:8]], second: [pictures[8].picture_id]}
    # The first has no phrase, and the other phrases no picture.
    assert senses.synsets == [second] and senses.phrases == {second: [some[0]]}


def test_definitions_stand_in_the_queries_of_the_dev_set(world, towers, tmp_path):
    query = next(read_records(world.dev_style, VisualInstance))
    told = [{"instance_id": query.instance_id, "definition": "a thing that was never embedded"}]
    (tmp_path / "definitions.jsonl").write_text("\n".join(map(json.dumps, told)))
    with pytest.raises(UserError, match="No features are stored"):
        trained(world, towers, tmp_path / "model", definitions=[tmp_path / "definitions.jsonl"])
