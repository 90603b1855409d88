import json
from dataclasses import asdict, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_features import FORMS, MODEL, aligned, random_model, same, tiny_world
from tiny_features import TRAINING as SETTINGS

from polclip.errors import UserError
from polclip.files import read_json_lines
from polclip.model.pair_polclip import PairPolCLIP
from polclip.model.polclip import PolCLIP
from polclip.model.representations import Losses
from polclip.records import Phrase, Picture, TextualInstance, VisualInstance, read_records, write_records
from polclip.training import loop, state
from polclip.training.alignment import read_heads
from polclip.training.batches import make_step
from polclip.training.loop import Trainer, train
from polclip.training.schedule import PlannedStep, parameter_groups, rate
from polclip.training.state import SavedState


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"))


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
        "definitions": {},
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
        encoder={"kind": "pair", "text_layers": 1},
        context_words=0,
        text_weights=None,
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


def test_the_moving_average_of_the_weights_is_looked_at_and_kept(world, towers, tmp_path, monkeypatch):
    def looked_at(name, average):
        seen = []

        def score(model, *_):
            seen.append({name: tensor.clone() for name, tensor in model.own_state().items()})
            return {"dev_visual": float(len(seen))}  # the last is kept

        monkeypatch.setattr(loop, "dev_scores", score)
        trained(world, towers, tmp_path / name, settings=replace(SETTINGS, average=average, max_steps=3, dev_every=1))
        return seen

    _, *steps = looked_at("itself", None)
    start, *means = looked_at("mean", 0.75)
    assert same(start, looked_at("again", None)[0])
    expected = steps[0]
    for weights_then, mean in zip(steps, means, strict=True):
        expected = {name: 0.75 * tensor + 0.25 * weights_then[name] for name, tensor in expected.items()}
        for name, tensor in expected.items():
            torch.testing.assert_close(mean[name], tensor, atol=1e-6, rtol=0)
    assert not same(means[-1], steps[-1])
    assert same(weights(tmp_path / "mean"), means[-1])


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

    def noted(_, corpora, settings, table):
        rows = loop._some(range(len(corpora.textual_dev[0])), settings.dev_instances)
        seen["words"] = [corpora.textual_dev[0].instances[k].instance_id for k in rows]
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


def test_definitions_stand_in_the_queries_of_the_dev_set(world, towers, tmp_path):
    query = next(read_records(world.dev_style, VisualInstance))
    told = [{"instance_id": query.instance_id, "definition": "a thing that was never embedded"}]
    (tmp_path / "definitions.jsonl").write_text("\n".join(map(json.dumps, told)))
    with pytest.raises(UserError, match="No features are stored"):
        trained(world, towers, tmp_path / "model", definitions={world.dev_style: tmp_path / "definitions.jsonl"})


def test_definitions_stand_before_the_sentences_of_the_dev_set_and_never_in_training(world, towers, tmp_path):
    lines = {
        path: {"instance_id": next(read_records(path, TextualInstance)).instance_id, "definition": "never embedded"}
        for path in (world.textual_train, world.textual_dev)
    }
    for path, line in lines.items():
        (tmp_path / path.stem).write_text(json.dumps(line))
    told = {path: tmp_path / path.stem for path in lines}
    with pytest.raises(UserError, match="No features are stored"):
        trained(world, towers, tmp_path / "model", definitions=told)
    del told[world.textual_dev]
    trained(world, towers, tmp_path / "model", settings=replace(SETTINGS, max_steps=1), definitions=told)
