import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_features import CLASSES, CLIP_TOWERS, IMAGE, MODEL, TEXT, tiny_world

from polclip.corpora.texts import gloss_text, photo_text, text_id
from polclip.errors import UserError
from polclip.files import read_json_lines
from polclip.model.losses import contrastive_loss
from polclip.model.polclip import Heads, PolCLIP
from polclip.records import Phrase, Picture, TextualInstance, VisualInstance, read_records, write_records
from polclip.training import alignment, loop
from polclip.training.alignment import AlignmentSettings, QueryRanking, align, copy_clip_heads, read_heads, save_heads
from polclip.training.batches import SenseCorpus, make_step, shuffled
from polclip.training.corpora import TextualCorpus, target_state
from polclip.training.loop import TrainingSettings, train

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
)
SETTINGS = TrainingSettings(
    tasks=("textual", "visual"),
    warm_up_epochs=1,
    warm_up_batch=16,
    warm_up_learning_rate=0.0003,
    steps=12,
    words=16,
    senses=8,
    pictures_per_sense=2,
    own_candidates=False,
    learning_rate=0.005,
    head_learning_rate=0.005,
    weight_decay=0.01,
    clip_norm=1.0,
    dev_every=4,
    dev_instances=50,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"))


def aligned(world, folder, seed=1, **changes):
    paths = (world.phrases, world.pictures_train, world.dev_style, world.dev_words)
    settings = replace(ALIGNMENT, **changes)
    align(folder, world.inventory, world.texts, world.pictures, world.classes, *paths, FORMS, settings, seed)
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
        model=model,
        settings=settings,
        seed=seed,
        device="cpu",
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
    assert len(lines) == ALIGNMENT.epochs and lines[-1]["loss"] < lines[0]["loss"] / 2
    described, kept = read_heads(tmp_path)
    assert (described.kind, described.text_width, described.image_width) == ("pair", TEXT, IMAGE)
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
    aligned(world, tmp_path, epochs=3)
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


def test_a_clips_heads_are_its_projections(tmp_path, monkeypatch):
    text, image = torch.randn(TEXT, 12), torch.randn(IMAGE, 12)
    monkeypatch.setattr("polclip.training.alignment.clip_projections", lambda *_: (text, image))
    copy_clip_heads(tmp_path / "towers", "ViT", tmp_path / "weights")
    described, kept = read_heads(tmp_path / "towers")
    assert (described.kind, described.text_width, described.image_width, described.embed) == ("clip", TEXT, IMAGE, 12)
    assert described.channel_dropout == 0  # that is for a pair
    assert torch.equal(kept["text.projection"], text) and torch.equal(kept["image.projection"], image)
    assert (tmp_path / "towers" / "metrics.jsonl").read_text() == ""


# --- training


def test_training_learns_both_tasks(main):
    _, lines = main
    before, *_, after = [line for line in lines if "dev_textual" in line]
    # Chance: half of the words, a tenth of the pictures; the heads start a little above it.
    assert before["dev_textual"] < 75 < 85 < after["dev_textual"]
    assert before["dev_visual"] < 70 < 90 < after["dev_visual"]
    joint = [line["loss"] for line in lines if line["stage"] == "joint"]
    assert np.mean(joint[-3:]) < np.mean(joint[:3]) / 2


def test_the_warm_up_trains_the_word_head_alone(world, towers, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_joint", lambda *_: iter(()))
    settings = replace(SETTINGS, warm_up_epochs=10, warm_up_learning_rate=0.005)
    lines = trained(world, towers, tmp_path / "model", settings=settings)
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2 and lines[-1]["dev_textual"] > 85
    _, start = read_heads(towers)
    assert all(torch.equal(weights(tmp_path / "model")[f"heads.{name}"], tensor) for name, tensor in start.items())


def test_the_log_has_a_line_a_step_and_dev_scores_where_the_dev_sets_are_looked_at(main, world):
    _, lines = main
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert sum(line["stage"] == "joint" for line in lines) == SETTINGS.steps
    instances = sum(1 for _ in read_records(world.textual_train, TextualInstance))
    warm_up = SETTINGS.warm_up_epochs * (instances // SETTINGS.warm_up_batch)
    assert len(lines) == warm_up + SETTINGS.steps
    looks = [line["step"] - warm_up for line in lines if "dev_visual" in line]
    assert looks == [0, 4, 8, 12]
    for line in lines[warm_up:]:
        assert {"seconds", "loss", "loss_sig", "loss_isg", "loss_w2s", "loss_w2i"} <= line.keys()
        assert {"temperature", "learning_rate"} <= line.keys()
        parts = sum(line[f"loss_{name}"] for name in ("sig", "isg", "w2s", "w2i"))
        assert line["loss"] == pytest.approx(parts, rel=1e-4) and line["loss_sig"] > 0 < line["loss_isg"]
    rates = [line["learning_rate"] for line in lines[warm_up:]]
    assert max(rates) <= SETTINGS.learning_rate and 0 < rates[-1] < rates[-2] < rates[3]


def test_one_seed_is_one_model_bit_for_bit(main, world, towers, tmp_path):
    folder, lines = main
    again = trained(world, towers, tmp_path / "again")
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()
    assert [line["loss"] for line in lines] == [line["loss"] for line in again]
    trained(world, towers, tmp_path / "other", seed=8)
    assert not same(weights(folder), weights(tmp_path / "other"))


def test_every_part_is_trained_even_where_all_rates_are_equal(main, towers):
    folder, _ = main
    _, start = read_heads(towers)
    learned = weights(folder)
    fresh = PolCLIP(read_heads(towers)[0], MODEL).state_dict()
    assert SETTINGS.head_learning_rate == SETTINGS.learning_rate
    assert not torch.equal(learned["heads.text.mlp.2.weight"], start["text.mlp.2.weight"])
    assert not torch.equal(learned["heads.image.members.1.concept_weight"], start["image.members.1.concept_weight"])
    assert torch.equal(learned["heads.image.class_embeddings"], start["image.class_embeddings"])
    for name in ("word.mlp.5.weight", "log_scale", "sig.norm.bias", "isg.norm.bias", "fusion.norm.bias"):
        assert not torch.equal(learned[name], fresh[name]), name


def test_head_and_block_rates_are_their_own(world, towers, tmp_path):
    still = replace(SETTINGS, warm_up_epochs=0, steps=2, head_learning_rate=0.0, weight_decay=0.0)
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
        return 50.0 if len(seen) == best_at else 10.0

    monkeypatch.setattr(loop, "_dev_score", score)
    trained(world, towers, tmp_path / "model", settings=replace(SETTINGS, warm_up_epochs=1))
    kept = weights(tmp_path / "model")
    assert len(seen) == 4 and same(kept, {name: seen[best_at - 1][name] for name in kept})
    assert not same(kept, {name: seen[0 if best_at == 3 else 2][name] for name in kept})


def test_momentum_starts_at_the_aligned_heads_and_follows_each_step(world, towers, tmp_path, monkeypatch):
    seen = []

    def score(model, *_):
        seen.append({name: tensor.clone() for name, tensor in model.momentum.module.state_dict().items()})
        return 1.0

    monkeypatch.setattr(loop, "_dev_score", score)
    trained(world, towers, tmp_path / "model")
    _, start = read_heads(towers)
    assert same(seen[0], start)  # the warm-up leaves the heads alone
    for before, after in pairwise(seen):
        assert not torch.equal(before["text.mlp.2.weight"], after["text.mlp.2.weight"])


def test_dropout_is_on_in_training_and_off_on_dev(world, towers, tmp_path, monkeypatch):
    states = {"rank_words": set(), "rank_queries": set(), "four_losses": set()}
    for name, found in states.items():
        plain = getattr(loop, name)
        monkeypatch.setattr(
            loop, name, lambda model, *rest, plain=plain, found=found: found.add(model.training) or plain(model, *rest)
        )
    trained(world, towers, tmp_path / "model")
    assert states == {"rank_words": {False}, "rank_queries": {False}, "four_losses": {True}}


def test_only_matrices_decay():
    matrix, bias = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2))
    scalar = torch.nn.Parameter(torch.zeros(()))
    groups = loop._groups([(0.1, [matrix, bias]), (0.1, [scalar])], 0.05)
    found = [(len(group["params"]), group["peak"], group["weight_decay"]) for group in groups]
    assert found == [(1, 0.1, 0.05), (1, 0.1, 0.0), (1, 0.1, 0.0)]
    assert groups[0]["params"][0] is matrix


def test_an_update_forgets_the_last_gradient_and_clips_before_the_step():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([{"params": [weight], "peak": 1.0}], lr=1.0)
    loop._update(optimizer, weight @ torch.tensor([30.0, 40.0]), 0.1, clip_norm=1.0)
    assert torch.allclose(weight, torch.tensor([-0.6, -0.8]), atol=1e-4)
    loop._update(optimizer, weight @ torch.tensor([0.5, 0.0]), 0.1, clip_norm=1.0)
    assert torch.allclose(weight, torch.tensor([-1.1, -0.8]), atol=1e-4)


def test_the_rate_rises_and_falls_and_is_never_zero_on_the_way():
    rates = [loop._rate((step + 0.5) / 100) for step in range(100)]
    assert rates.index(max(rates)) == 10 and max(rates) > 0.99 and min(rates) > 0 and rates[-1] < 0.001


def test_text_alone(world, towers, tmp_path):
    off = replace(MODEL, sig=False, isg=False, fusion=False)
    lines = trained(world, towers, tmp_path / "text_only", off, settings=replace(SETTINGS, tasks=("textual",)))
    joint = [line for line in lines if line["stage"] == "joint"]
    assert all(line["loss_sig"] == line["loss_isg"] == line["loss_w2i"] == 0 < line["loss_w2s"] for line in joint)
    assert "dev_visual" not in lines[-1] and lines[-1]["dev_textual"] > 85
    _, start = read_heads(towers)
    # Pictures were not looked at.
    learned = weights(tmp_path / "text_only")
    assert all(torch.equal(learned[f"heads.{name}"], t) for name, t in start.items() if name.startswith("image."))


def test_pictures_alone_and_no_fusion(world, towers, tmp_path):
    settings = replace(SETTINGS, tasks=("visual",))
    lines = trained(world, towers, tmp_path / "visual", replace(MODEL, fusion=False), settings=settings)
    assert len(lines) == SETTINGS.steps  # no words, no warm-up of the word head
    assert "dev_textual" not in lines[-1] and lines[-1]["dev_visual"] > 80
    assert not any(name.startswith("fusion.") for name in weights(tmp_path / "visual"))
    assert not PolCLIP.from_pretrained(tmp_path / "visual").settings.fusion


def test_a_clip_needs_no_warm_up(world, tmp_path):
    heads = Heads(CLIP_TOWERS)
    torch.nn.init.normal_(heads.text.projection)
    torch.nn.init.normal_(heads.image.projection)
    save_heads(tmp_path / "clip", heads, CLIP_TOWERS, [])
    settings = replace(SETTINGS, steps=3, own_candidates=True)
    lines = trained(world, tmp_path / "clip", tmp_path / "model", replace(MODEL, momentum=None), settings=settings)
    assert len(lines) == 3
    assert PolCLIP.from_pretrained(tmp_path / "model").towers == CLIP_TOWERS


def test_nothing_is_written_when_training_fails_midway(world, towers, tmp_path, monkeypatch):
    calls = []

    def fail(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("out of memory")
        return make_step(*arguments)

    monkeypatch.setattr(loop, "make_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        trained(world, towers, tmp_path / "model", settings=replace(SETTINGS, warm_up_epochs=0))
    assert len(calls) == 5 and not list((tmp_path / "model").iterdir())


def test_a_word_without_candidates_or_gold_does_no_harm(world, towers, tmp_path):
    some = list(read_records(world.textual_train, TextualInstance))
    strange = [replace(some[0], candidates=[], gold=[]), replace(some[1], gold=[])]
    for side in ("train", "dev"):
        write_records(tmp_path / f"{side}.parquet", TextualInstance, [*strange, *some[2:40]])
    settings = replace(SETTINGS, warm_up_epochs=1, steps=4, own_candidates=True)
    lines = trained(
        world,
        towers,
        tmp_path / "model",
        settings=settings,
        textual_train=[tmp_path / "train.parquet"],
        textual_dev=[tmp_path / "dev.parquet"],
    )
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "model").values())


def test_empty_corpora_are_refused(world, towers, tmp_path):
    nothing = tmp_path / "nothing.parquet"
    for kind, key, message in (
        (TextualInstance, "textual_train", "No textual instance"),
        (TextualInstance, "textual_dev", "No textual instance"),
        (Picture, "pictures_train", "No sense has both"),
        (Phrase, "phrases", "No sense has both"),
        (VisualInstance, "visual_dev", "visual"),
    ):
        write_records(nothing, kind, [])
        with pytest.raises(UserError, match=message):
            trained(world, towers, tmp_path / "model", settings=replace(SETTINGS, warm_up_epochs=0), **{key: [nothing]})
        assert not (tmp_path / "model" / "model.safetensors").exists()


# --- batches and corpora


def test_every_row_comes_once_a_pass():
    rng = np.random.default_rng(0)
    batches = shuffled(10, 4, rng)
    rows = np.concatenate([next(batches) for _ in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10)) and rows[:10].tolist() != rows[10:].tolist()
    assert len(next(shuffled(3, 7, rng))) == 7 and len(next(shuffled(3, 0, rng))) == 0


def step_of(world, own_candidates=False, senses=("00000101-n", "00000104-n"), rows=(0, 30)):
    textual = TextualCorpus.read([world.textual_train], world.inventory, world.texts)
    visual = SenseCorpus(list(read_records(world.phrases, Phrase)), list(read_records(world.pictures_train, Picture)))
    step = make_step(
        np.array(rows, dtype=int),
        list(senses),
        textual,
        visual,
        world.inventory,
        world.texts,
        world.pictures,
        2,
        own_candidates,
        np.random.default_rng(0),
        torch.device("cpu"),
    )
    return textual, step


def test_a_batch_is_labelled_by_synset(world):
    textual, step = step_of(world)
    # bat as an animal, bat as a club (rows 0 and 30), then the phrases of bat (animal) and mouse (animal).
    assert [textual.instances[k].gold for k in step.words] == [["bat%1:05:00::"], ["bat%1:06:00::"]]
    synsets = ["00000101-n", "00000102-n", "00000104-n"]
    assert step.gloss_ids == [text_id(gloss_text(world.inventory.synset(s))) for s in synsets]
    assert step.labels.gloss_of_context.int().tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert step.labels.gloss_of_image.int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert step.labels.image_of_context.int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    assert step.labels.candidates.all()
    assert step.images.pooled.shape == (4, IMAGE) and step.images.classes.shape == (4, CLASSES)
    phrase = text_id(photo_text("bat of 00000101-n"))
    np.testing.assert_array_equal(step.phrases[0].numpy(), world.texts.pooled([phrase])[0])


def test_own_candidates_hold_for_words_and_not_for_phrases(world):
    _, step = step_of(world, own_candidates=True)
    assert step.labels.candidates.int().tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    _, phrases_alone = step_of(world, own_candidates=True, rows=())
    assert phrases_alone.labels.candidates.all() and len(phrases_alone.words) == 0
    _, words_alone = step_of(world, senses=())
    assert words_alone.images is None and words_alone.phrases.shape == (0, TEXT)


def test_the_target_is_the_mean_of_the_tokens_over_its_characters(world):
    textual = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    (row,) = [k for k, x in enumerate(textual.instances) if x.instance_id == "look_up%2:31:00::.0"]
    text = text_id(textual.instances[row].text)
    states = world.texts.states(text).astype(np.float32)  # number 0 of KEY look up, between two special tokens
    np.testing.assert_allclose(textual.target[row], states[5:7].mean(0), atol=1e-6)
    np.testing.assert_allclose(textual.sentence[row], world.texts.pooled([text])[0])
    # Part of a token is enough; a target that was cut off leaves the mean over all.
    np.testing.assert_allclose(target_state(world.texts, text, (1, 3)), states[1], atol=1e-6)
    np.testing.assert_allclose(target_state(world.texts, text, (900, 903)), states.mean(0), atol=1e-6)


def test_definitions_stand_in_the_queries_of_the_dev_set(world, towers, tmp_path):
    query = next(read_records(world.dev_style, VisualInstance))
    told = [{"instance_id": query.instance_id, "definition": "a thing that was never embedded"}]
    (tmp_path / "definitions.jsonl").write_text("\n".join(map(json.dumps, told)))
    with pytest.raises(UserError, match="No features are stored"):
        trained(world, towers, tmp_path / "model", definitions=[tmp_path / "definitions.jsonl"])
