import json
import shutil
from dataclasses import replace

import pytest
import torch
from tiny_features import CLASSES, CLIP_TOWERS, IMAGE, MODEL, TEXT, TOWERS, random_model, random_tokens, tiny_world

from polclip.corpora.texts import text_id
from polclip.encoders.feature_store import FeatureStore, ShardWriter
from polclip.errors import UserError
from polclip.model.blocks import unit
from polclip.model.losses import same_id
from polclip.model.polclip import Labels, PolCLIP, Represented, Tokens, four_losses
from polclip.training.batches import CHUNK, represent_glosses
from polclip.training.corpora import tokens_of


def close(one, other):
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


def picked(tokens: Tokens, rows, longest=None) -> Tokens:
    states, real = tokens.states[rows, :longest], tokens.real[rows, :longest]
    return Tokens(tokens.pooled[rows], states, real, None if tokens.classes is None else tokens.classes[rows])


@pytest.mark.parametrize("towers", [TOWERS, CLIP_TOWERS], ids=["pair", "clip"])
@pytest.mark.parametrize("side", ["gloss", "image"])
def test_neither_padding_nor_the_rest_of_the_batch_changes_what_an_item_becomes(towers, side):
    model, lengths = random_model(towers), [3, 7, 1, 5]
    tokens = random_tokens(lengths, TEXT if side == "gloss" else IMAGE, CLASSES if side == "image" else 0)
    represent = getattr(model, side)
    together = represent(tokens)[:3]
    for k, length in enumerate(lengths):
        alone = represent(picked(tokens, [k], length))[:3]
        assert close(alone, [part[[k]] for part in together])
    order = [2, 0, 3, 1]
    assert close(represent(picked(tokens, order))[:3], [part[order] for part in together])
    for part in together:
        assert torch.allclose(part.norm(dim=-1), torch.ones(4))


@torch.inference_mode()
def test_a_picture_is_drawn_towards_the_senses_it_resembles():
    tokens = random_tokens([1, 1], IMAGE, CLASSES)
    head = random_model(replace(TOWERS, senses=2, sense_weight=0.5)).heads.image
    image = unit(torch.stack(head.each(tokens.pooled, tokens.classes)).mean(0))
    senses = unit(torch.stack([image[0] + 0.2 * image[1], -image[0]]))
    head.sense_embeddings.copy_(senses)
    # Picture 0 resembles sense 0 so much more that its concept is that sense.
    drawn = head(tokens.pooled, tokens.classes)
    assert torch.allclose(drawn[0], unit(image[0] + 0.5 * senses[0]), atol=1e-4)


@pytest.mark.parametrize("side", ["gloss", "image"])
def test_every_token_and_every_part_counts(side):
    model = random_model()
    tokens = random_tokens([4, 4], TEXT if side == "gloss" else IMAGE, CLASSES)
    before = getattr(model, side)(tokens)
    states = tokens.states.clone()
    states[0, 2, :5] += 3  # not all of them: a norm stands in front
    after = getattr(model, side)(tokens._replace(states=states))
    assert torch.equal(before.plain, after.plain)  # the pooled state alone
    for part in ("generated", "fused"):
        assert not torch.allclose(getattr(before, part)[0], getattr(after, part)[0], atol=1e-4)
        assert torch.allclose(getattr(before, part)[1], getattr(after, part)[1], atol=1e-6)
    # Fusion reads what was generated, not the source's tokens alone.
    with torch.no_grad():
        (model.sig if side == "gloss" else model.isg).project.bias += 1
    assert not torch.allclose(getattr(model, side)(tokens).fused, before.fused, atol=1e-4)


def test_glosses_in_chunks_of_like_length_are_what_they_are_one_by_one(tmp_path):
    lengths = torch.randint(2, 12, (CHUNK + 9,), generator=torch.Generator().manual_seed(1)).tolist()
    writer = ShardWriter()
    for k, length in enumerate(lengths):
        tokens = random_tokens([length], TEXT, seed=k)
        writer.add([f"gloss {k}"], tokens.states.numpy(), tokens.pooled.numpy())
    writer.write(tmp_path / "texts")
    store, model = FeatureStore([tmp_path / "texts"]), random_model()
    ids = [f"gloss {k}" for k in range(len(lengths))]
    together = represent_glosses(model, store, ids)
    for k, item in enumerate(ids):
        assert close(model.gloss(tokens_of(store, [item], "cpu"))[:3], [part[[k]] for part in together[:3]])
    without_sig = random_model(settings=replace(MODEL, sig=False, fusion=False))
    assert represent_glosses(without_sig, store, ids).generated is None


def test_generators_fusion_and_word_head_start_near_their_source():
    model = PolCLIP(TOWERS, MODEL).eval()
    for represented in (
        model.gloss(random_tokens([5, 3], TEXT)),
        model.image(random_tokens([5, 3], IMAGE, CLASSES)),
    ):
        for part in (represented.generated, represented.fused):
            assert (part * represented.plain).sum(-1).min() > 0.99
            assert not torch.equal(part, represented.plain)
    sentence, target = random_tokens([1, 1], TEXT).pooled, random_tokens([1, 1], TEXT, seed=1).pooled
    assert torch.allclose(model.word_in_context(target, sentence), unit(sentence))
    assert torch.allclose(model.phrase(sentence), unit(sentence))
    with torch.no_grad():
        model.heads.text.mlp[-1].weight.normal_()  # an aligned head: glosses go through it, so must the word
    assert not torch.allclose(model.heads.text(sentence), unit(sentence), atol=1e-2)
    assert torch.allclose(model.word_in_context(target, sentence), model.heads.text(sentence), atol=1e-6)


def test_the_word_head_reads_the_target_and_its_sentence():
    model, (one, other) = random_model(), random_tokens([1, 1], TEXT).pooled.split(1)
    start = model.word_in_context(one, other)
    assert not torch.allclose(start, model.word_in_context(other, other), atol=1e-3)
    assert not torch.allclose(start, model.word_in_context(one, one), atol=1e-3)
    clip = random_model(CLIP_TOWERS)
    assert torch.allclose(clip.word_in_context(one, other), unit(one @ clip.heads.text.projection))


def test_what_a_context_is_compared_with_is_the_plain_and_the_fused_vector_together():
    plain, fused = torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert Represented(plain, None, fused).matched.tolist() == [[1, 1], [1, 1]]


def test_an_image_head_is_the_mean_of_its_members():
    head, tokens = random_model().heads.image, random_tokens([1, 2], IMAGE)
    one, other = head.each(tokens.pooled, torch.full((2, CLASSES), 1 / CLASSES))
    assert not torch.allclose(one, other, atol=1e-2)
    assert torch.allclose(head(tokens.pooled, torch.full((2, CLASSES), 1 / CLASSES)), unit(one + other), atol=1e-6)


def test_an_image_head_adds_its_concept():
    model = random_model()
    head, pooled = model.heads.image, random_tokens([1], IMAGE).pooled
    with torch.no_grad():
        for member in head.members:
            member.concept_weight.fill_(1000.0)
    chances = torch.zeros(1, CLASSES)
    chances[0, 3] = 1
    assert torch.allclose(head(pooled, chances), unit(head.class_embeddings[[3]]), atol=1e-2)


# --- momentum


def test_momentum_copies_follow_by_the_rule_and_take_no_gradient():
    model = random_model(settings=replace(MODEL, momentum=0.9)).train()
    before = {name: p.clone() for name, p in model.momentum.module.named_parameters()}
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter += 1
    model.follow()
    online = dict(model.heads.named_parameters())
    for name, slow in model.momentum.module.named_parameters():
        assert not slow.requires_grad
        assert torch.allclose(slow, 0.9 * before[name] + 0.1 * online[name], atol=1e-6)
    images = random_tokens([4, 4], IMAGE, CLASSES)
    target = model.image_target(images)
    assert not target.requires_grad and not model.gloss_target(images.pooled[:, :TEXT]).requires_grad
    # In training too, the target drops nothing out and moves with `follow` alone.
    assert torch.equal(target, model.image_target(images))
    assert not torch.allclose(target, model.heads.eval().image(images.pooled, images.classes), atol=1e-3)
    model.restart_momentum()
    assert torch.allclose(model.image_target(images), model.heads.image(images.pooled, images.classes))


def test_without_momentum_the_targets_are_the_online_heads():
    model = random_model(settings=replace(MODEL, momentum=None))
    images = random_tokens([4], IMAGE, CLASSES)
    assert torch.equal(model.image_target(images), model.heads.image(images.pooled, images.classes))
    assert not model.image_target(images).requires_grad
    model.follow()  # nothing to move


# --- the four losses


def losses_of(model, with_images=True):
    """A batch of two contexts, three glosses of which two have pictures."""
    glosses, images = random_tokens([3, 5, 2], TEXT), random_tokens([4] * 4, IMAGE, CLASSES)
    of_gloss, of_images, of_contexts = ["a", "b", "c"], ["a", "a", "b", "a"], ["a", "c"]
    words = random_tokens([1, 1], TEXT, seed=5).pooled
    labels = Labels(
        same_id(of_gloss, of_images),
        same_id(of_contexts, of_gloss),
        torch.ones(2, 3, dtype=torch.bool),
        same_id(of_contexts, of_images),
    )
    contexts = model.word_in_context(words, words)
    return four_losses(model, contexts, model.gloss(glosses), glosses.pooled, images if with_images else None, labels)


@pytest.mark.parametrize(
    ("loss", "reached", "not_reached"),
    [
        ("sig", {"sig", "read_text", "shared"}, {"isg", "read_image", "fusion", "word"}),
        ("isg", {"isg", "read_image", "shared"}, {"sig", "read_text", "fusion", "word"}),
        ("w2s", {"sig", "fusion", "word", "heads"}, {"isg", "read_image"}),
        ("w2i", {"isg", "fusion", "word", "heads"}, {"sig", "read_text"}),
    ],
)
def test_each_loss_trains_the_parts_it_is_about(loss, reached, not_reached):
    model = random_model()
    getattr(losses_of(model), loss).backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached <= moved and not not_reached & moved and "momentum" not in moved


def test_the_losses_compare_what_the_paper_says_at_the_learned_temperature():
    model = random_model()
    glosses, images = random_tokens([3, 5, 2], TEXT), random_tokens([4] * 4, IMAGE, CLASSES)
    contexts, of_gloss, of_images = unit(torch.randn(2, TEXT)), ["a", "b", "c"], ["a", "a", "b", "a"]
    allowed = torch.tensor([[True, True, False], [True, False, True]])
    labels = Labels(
        same_id(of_gloss, of_images), same_id(["a", "c"], of_gloss), allowed, same_id(["a", "c"], of_images)
    )
    with torch.no_grad():
        model.log_scale.fill_(1.5)
        gloss, image = model.gloss(glosses), model.image(images)
        losses = four_losses(model, contexts, gloss, glosses.pooled, images, labels)
        image_m, gloss_m = model.image_target(images), model.gloss_target(glosses.pooled)
        scale = torch.tensor(1.5).exp()

    def row(similarity, good, compared):
        share = (scale * similarity).exp()
        return -(share[good] / share[compared].sum()).log().mean()

    every = [0, 1, 2, 3]
    sig = gloss.generated @ image_m.T
    isg = image.generated @ gloss_m.T
    w2s, w2i = contexts @ gloss.fused.T, contexts @ image.fused.T
    assert torch.allclose(losses.sig, (row(sig[0], [0, 1, 3], every) + row(sig[1], [2], every)) / 2, atol=1e-5)
    by_image = [row(isg[k], [0, 0, 1, 0][k], [0, 1, 2]) for k in every]
    assert torch.allclose(losses.isg, sum(by_image) / 4, atol=1e-5)
    assert torch.allclose(losses.w2s, (row(w2s[0], [0], [0, 1]) + row(w2s[1], [2], [0, 2])) / 2, atol=1e-5)
    assert torch.allclose(losses.w2i, row(w2i[0], [0, 1, 3], every), atol=1e-5)  # no picture shows the second's sense


def test_losses_of_parts_that_are_off_are_zero_and_the_total_is_the_sum():
    full = losses_of(random_model())
    assert all(loss > 0 for loss in full) and torch.allclose(full.total, sum(full))
    assert [bool(loss) for loss in losses_of(random_model(), with_images=False)] == [False, False, True, False]
    only_sig = losses_of(random_model(settings=replace(MODEL, isg=False, fusion=False)))
    assert [bool(loss) for loss in only_sig] == [True, False, True, True]


def test_gradients_of_the_losses_reach_generators_but_not_their_targets():
    model = random_model(settings=replace(MODEL, momentum=None))
    losses_of(model).sig.backward()
    # SIG's target is an image embedding: without momentum it is the image head's own, held still.
    assert all(p.grad is None or not p.grad.any() for p in model.heads.image.parameters())


def test_the_temperature_is_learned_or_fixed_and_never_below_a_hundredth():
    model = random_model(settings=replace(MODEL, temperature=0.05))
    losses_of(model).total.backward()
    assert model.log_scale.grad is not None
    fixed = PolCLIP(TOWERS, replace(MODEL, temperature=0.05, learn_temperature=False))
    assert fixed.scale.item() == pytest.approx(20) and not fixed.log_scale.requires_grad
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    assert model.scale.item() == 100


# --- refusals, saving and reading


@pytest.mark.parametrize("off", ["sig", "isg"])
def test_fusion_without_what_it_attends_to_is_refused(off):
    with pytest.raises(UserError, match=r"model\.sig and model\.isg have to be true"):
        PolCLIP(TOWERS, replace(MODEL, **{off: False}))


@pytest.mark.parametrize(
    ("towers", "settings"),
    [
        (TOWERS, MODEL),
        (CLIP_TOWERS, MODEL),
        (TOWERS, replace(MODEL, sig=False, isg=False, fusion=False, momentum=None)),
    ],
    ids=["pair", "clip", "plain"],
)
def test_a_saved_model_comes_back_as_it_was(tmp_path, towers, settings):
    model = random_model(towers, settings).train()
    model.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.safetensors", "config.json"}
    back = PolCLIP.from_pretrained(tmp_path / "model")
    assert (back.towers, back.settings, back.training) == (towers, settings, False)
    model.eval()
    glosses, images = random_tokens([3, 5], TEXT), random_tokens([4, 4], IMAGE, CLASSES)
    for one, other in ((model.gloss(glosses), back.gloss(glosses)), (model.image(images), back.image(images))):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True) if a is not None)
    words = random_tokens([1], TEXT).pooled
    assert torch.equal(model.word_in_context(words, words), back.word_in_context(words, words))
    assert torch.equal(model.scale, back.scale)
    assert torch.equal(back.image_target(images), back.heads.image(images.pooled, images.classes))


def test_folders_that_hold_no_such_model_are_refused(tmp_path):
    random_model().save_pretrained(tmp_path / "model")

    def spoiled(name, spoil):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "model", folder)
        spoil(folder)
        with pytest.raises(UserError, match=name):
            PolCLIP.from_pretrained(folder)

    def rewrite(folder, change):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(change(config)))

    spoiled("no_weights", lambda folder: (folder / "model.safetensors").unlink())
    spoiled("no_config", lambda folder: (folder / "config.json").unlink())
    spoiled("no_json", lambda folder: (folder / "config.json").write_text("{"))
    spoiled("cut_short", lambda folder: (folder / "model.safetensors").write_bytes(b"1234567890"))
    spoiled("of_bert", lambda folder: rewrite(folder, lambda _: {"architectures": ["BertModel"]}))
    spoiled("unknown_key", lambda folder: rewrite(folder, lambda c: {**c, "model": {**c["model"], "depth": 3}}))
    spoiled("wider", lambda folder: rewrite(folder, lambda c: {**c, "model": {**c["model"], "width": 32}}))
    spoiled("deeper", lambda folder: rewrite(folder, lambda c: {**c, "model": {**c["model"], "own_blocks": 2}}))
    spoiled("shallower", lambda folder: rewrite(folder, lambda c: {**c, "model": {**c["model"], "fusion": False}}))


def test_features_of_the_tiny_world_are_read_with_their_padding(tmp_path):
    world = tiny_world(tmp_path, instances=2, drawings=1)
    long, short = "number 0 of look_up%2:31:00:: look up", "number 0 of bat%1:05:00:: bat"
    tokens = tokens_of(world.texts, [text_id(short), text_id(long)], "cpu")
    assert tokens.real.sum(1).tolist() == [7, 8] and tokens.classes is None
    assert not tokens.states[0, 7].any()
    assert tokens_of(world.pictures, ["dev:00000101-n.0"], "cpu").classes.shape == (1, CLASSES)
