import json
import shutil
from dataclasses import replace

import pytest
import torch
from open_clip.model import CustomTextCLIP
from tiny_clip import CLIP, random_clip_model
from tiny_clip import SETTINGS as CLIP_MODEL
from tiny_features import CLASSES, IMAGE, MODEL, TEXT, TOWERS, random_model, random_tokens, tiny_world
from transformers import BertConfig

from polclip.corpora.texts import text_id
from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.errors import UserError
from polclip.model.blocks import unit
from polclip.model.clip_polclip import ClipPolCLIP
from polclip.model.clip_towers import embed_text, project_text, text_states
from polclip.model.losses import same_id
from polclip.model.pair_polclip import PairPolCLIP
from polclip.model.polclip import PolCLIP, read_model
from polclip.model.representations import Batch, Chunks, Labels, Represented, Tokens, joined
from polclip.training.chunks import CHUNK, represent_glosses
from polclip.training.corpora import tokens_of

START_OF_TEXT, END_OF_TEXT = 49406, 49407
CLIP_TOKENS = 5  # of a picture of the tiny CLIP: CLS and 2 x 2 patches
MODELS = pytest.mark.parametrize("build", [random_model, random_clip_model], ids=["pair", "clip"])


def close(one, other):
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


def kept(represented: Represented) -> list:
    """What it is made of here."""
    return [part for part in represented if part is not None]


def picked(tokens: Tokens, rows, longest=None) -> Tokens:
    of_items = [part if part is None else part[rows] for part in (tokens.pooled, tokens.classes)]
    return Tokens(of_items[0], tokens.states[rows, :longest], tokens.real[rows, :longest], of_items[1])


def random_ids(lengths, seed=0) -> Tokens:
    """Texts of so many tokens each, as a CLIP reads them; words stand behind their end, to be noticed if read."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(list(lengths))
    ids = torch.randint(1000, 40000, (len(lengths), int(lengths.max())), generator=rng)
    ids[:, 0] = START_OF_TEXT
    ids[torch.arange(len(lengths)), lengths - 1] = END_OF_TEXT
    return Tokens(None, ids, torch.arange(ids.shape[1]) < lengths.unsqueeze(1))


def texts_for(model: PolCLIP, lengths, seed=0) -> Tokens:
    return random_tokens(lengths, TEXT, seed=seed) if isinstance(model, PairPolCLIP) else random_ids(lengths, seed)


def images_for(model: PolCLIP, count, seed=0) -> Tokens:
    if isinstance(model, PairPolCLIP):
        return random_tokens([4] * count, IMAGE, CLASSES, seed)
    return random_tokens([CLIP_TOKENS] * count, IMAGE, seed=seed)._replace(pooled=None)


def words_for(model: PolCLIP, count, seed=5) -> tuple:
    """What `word_in_context` takes of so many words."""
    if isinstance(model, PairPolCLIP):
        return tuple(random_tokens([1] * count, TEXT, seed=each).pooled for each in (seed, seed + 1, seed + 2))
    sentences = random_ids([6] * count, seed)
    target = torch.zeros_like(sentences.real)
    target[:, 2:4] = True
    return sentences, target


def phrases_for(model: PolCLIP, count, seed=9):
    """What `phrase` takes of so many texts."""
    texts = texts_for(model, [4] * count, seed)
    return texts.pooled if isinstance(model, PairPolCLIP) else texts


@MODELS
@pytest.mark.parametrize("side", ["gloss", "image"])
@torch.inference_mode()
def test_neither_padding_nor_the_rest_of_the_batch_changes_what_an_item_becomes(build, side):
    model = build()
    lengths = [3, 7, 2, 5]
    if side == "gloss":
        tokens = texts_for(model, lengths)
    elif isinstance(model, PairPolCLIP):
        tokens = random_tokens(lengths, IMAGE, CLASSES)
    else:  # its pictures all have as many tokens
        lengths = [CLIP_TOKENS] * 4
        tokens = images_for(model, 4)
    represent = getattr(model, side)
    together = kept(represent(tokens, with_target=True))
    for k, length in enumerate(lengths):
        alone = kept(represent(picked(tokens, [k], length), with_target=True))
        assert close(alone, [part[[k]] for part in together])
    order = [2, 0, 3, 1]
    assert close(kept(represent(picked(tokens, order), with_target=True)), [part[order] for part in together])
    for part in together:
        assert torch.allclose(part.norm(dim=-1), torch.ones(4))
        assert not torch.allclose(part[[0]], part[[1]], atol=1e-3)


@pytest.fixture(scope="module")
def two_way_model(tmp_path_factory):
    """Over a CLIP whose text tower is one of transformers', with its dropout."""
    folder = tmp_path_factory.mktemp("bert")
    BertConfig(
        vocab_size=END_OF_TEXT + 1,
        hidden_size=TEXT,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    ).save_pretrained(folder)
    text = {"hf_model_name": str(folder), "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}
    config = {**CLIP, "text_cfg": {**text, "hf_model_pretrained": False}}
    torch.manual_seed(0)
    return ClipPolCLIP(CustomTextCLIP(**config), replace(CLIP_MODEL, image_positions=None), config).eval()


@torch.inference_mode()
def test_padding_changes_nothing_for_a_text_tower_that_reads_both_ways(two_way_model):
    tokens = random_ids([3, 7, 2, 5])
    together = kept(two_way_model.gloss(tokens, with_target=True))
    for k, length in enumerate([3, 7, 2, 5]):
        alone = kept(two_way_model.gloss(picked(tokens, [k], length), with_target=True))
        assert close(alone, [part[[k]] for part in together])
    assert close(together[:1], [two_way_model.phrase(tokens)])


@torch.inference_mode()
def test_a_text_tower_of_transformers_is_built_again_from_the_models_own_folder(two_way_model, tmp_path):
    two_way_model.write(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["clip"]["text_cfg"]["hf_model_name"] = "nobody/is-asked"  # a name of the model hub
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    tokens = random_ids([3, 7])
    assert torch.equal(read_model(tmp_path / "model").phrase(tokens), two_way_model.phrase(tokens))


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


@pytest.mark.parametrize("side", ["gloss", "image"])
@torch.inference_mode()
def test_over_a_clip_every_token_and_every_part_counts_too(side):
    model = random_clip_model()
    tokens = texts_for(model, [5, 5]) if side == "gloss" else images_for(model, 2)
    before = getattr(model, side)(tokens)
    states = tokens.states.clone()
    states[0, 2] += 3 if side == "gloss" else torch.arange(IMAGE) / IMAGE
    after = getattr(model, side)(tokens._replace(states=states))
    if side == "image":  # its embedding is the state of CLS alone
        assert torch.equal(before.plain, after.plain)
    for part in ("generated", "fused"):
        assert not torch.allclose(getattr(before, part)[0], getattr(after, part)[0], atol=1e-4)
        assert torch.allclose(getattr(before, part)[1], getattr(after, part)[1], atol=1e-6)
    (model.to_image if side == "gloss" else model.to_text).bias += torch.arange(IMAGE if side == "gloss" else TEXT)
    assert not torch.allclose(getattr(model, side)(tokens).fused, before.fused, atol=1e-4)


def test_glosses_in_chunks_of_like_length_are_what_they_are_one_by_one(tmp_path):
    lengths = torch.randint(2, 12, (CHUNK + 9,), generator=torch.Generator().manual_seed(1)).tolist()
    with shard_writer(tmp_path / "texts") as writer:
        for k, length in enumerate(lengths):
            tokens = random_tokens([length], TEXT, seed=k)
            writer.add([f"gloss {k}"], tokens.states.numpy(), tokens.pooled.numpy())
    store, model = FeatureStore([tmp_path / "texts"]), random_model()
    ids = [f"gloss {k}" for k in range(len(lengths))]
    together = represent_glosses(model, store, ids)
    for k, item in enumerate(ids):
        assert close(model.gloss(tokens_of(store, [item], "cpu"))[:3], [part[[k]] for part in together[:3]])
    without_sig = random_model(settings=replace(MODEL, sig=False, fusion=False))
    assert represent_glosses(without_sig, store, ids).generated is None


def test_generators_fusion_and_word_head_start_near_their_source():
    model = PairPolCLIP(TOWERS, MODEL).eval()
    for represented in (
        model.gloss(random_tokens([5, 3], TEXT)),
        model.image(random_tokens([5, 3], IMAGE, CLASSES)),
    ):
        for part in (represented.generated, represented.fused):
            assert (part * represented.plain).sum(-1).min() > 0.99
            assert not torch.equal(part, represented.plain)
    sentence, target = random_tokens([1, 1], TEXT).pooled, random_tokens([1, 1], TEXT, seed=1).pooled
    assert torch.allclose(model.word_in_context(target, sentence, target), unit(sentence))
    assert torch.allclose(model.phrase(sentence), unit(sentence))
    with torch.no_grad():
        model.heads.text.mlp[-1].weight.normal_()  # an aligned head: glosses go through it, so must the word
    assert not torch.allclose(model.heads.text(sentence), unit(sentence), atol=1e-2)
    assert torch.allclose(model.word_in_context(target, sentence, target), model.heads.text(sentence), atol=1e-6)


def test_the_word_head_reads_the_target_and_its_sentence():
    model, (one, other) = random_model(), random_tokens([1, 1], TEXT).pooled.split(1)
    start = model.word_in_context(one, other, one)
    assert not torch.allclose(start, model.word_in_context(other, other, one), atol=1e-3)
    assert not torch.allclose(start, model.word_in_context(one, one, one), atol=1e-3)


@torch.inference_mode()
def test_over_a_clip_a_word_is_the_mean_of_its_tokens_in_the_sentence():
    model = random_clip_model()
    sentences, target = random_ids([8, 5]), torch.zeros(2, 8, dtype=torch.bool)
    target[0, 2:4] = target[1, 3] = True
    states = text_states(model.clip.text, sentences.states, sentences.real)
    means = torch.stack([states[0, 2:4].mean(0), states[1, 3]])
    words = model.word_in_context(sentences, target)
    assert torch.allclose(words, unit(project_text(model.clip.text, means)), atol=1e-6)
    assert not torch.allclose(words, model.phrase(sentences), atol=1e-3)
    with_next = target.clone()
    with_next[0, 4] = True
    changed = model.word_in_context(sentences, with_next)
    assert not torch.allclose(changed[0], words[0], atol=1e-3) and torch.allclose(changed[1], words[1], atol=1e-6)


def test_what_a_context_is_compared_with_is_the_plain_and_the_fused_vector_together():
    plain, fused = torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert Represented(plain, None, fused).matched.tolist() == [[1, 1], [1, 1]]


def test_parts_of_a_batch_are_joined_in_the_order_asked_for():
    one, other = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0]])
    parts = [Represented(one, None, one + 10), Represented(other, None, other + 10)]
    whole = joined(parts, torch.tensor([2, 0, 1]))
    assert whole.plain.tolist() == [[2], [0], [1]] and whole.fused.tolist() == [[12], [10], [11]]
    assert whole.generated is None and whole.target is None
    assert joined(parts).plain.tolist() == [[0], [1], [2]]


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
    images, glosses = random_tokens([4, 4], IMAGE, CLASSES), random_tokens([4, 4], TEXT)
    target = model.image(images, with_target=True).target
    of_glosses = model.gloss(glosses, with_target=True).target
    assert not target.requires_grad and not of_glosses.requires_grad
    # In training too, the target drops nothing out and moves with `follow` alone.
    assert torch.equal(target, model.image(images, with_target=True).target)
    assert torch.equal(of_glosses, model.gloss(glosses, with_target=True).target)
    assert not torch.allclose(target, model.heads.eval().image(images.pooled, images.classes), atol=1e-3)
    assert not torch.allclose(of_glosses, model.heads.text(glosses.pooled), atol=1e-3)
    model.restart_momentum()
    target, of_glosses = (f(x, with_target=True).target for f, x in ((model.image, images), (model.gloss, glosses)))
    assert torch.allclose(target, model.heads.image(images.pooled, images.classes))
    assert torch.allclose(of_glosses, model.heads.text(glosses.pooled))


def test_over_a_clip_the_momentum_copies_are_of_both_towers():
    model = random_clip_model(replace(CLIP_MODEL, momentum=0.9)).train()
    pairs = [(model.momentum.text, model.clip.text), (model.momentum.image_top, model.image_top)]
    before = [[p.clone() for p in slow.parameters()] for slow, _ in pairs]
    texts, images = texts_for(model, [4, 6]), images_for(model, 2)
    start = model.gloss(texts, with_target=True).target, model.image(images, with_target=True).target
    with torch.no_grad():
        for _, online in pairs:
            for k, parameter in enumerate(p for p in online.parameters() if p.requires_grad):
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(k))
    # The towers move, their copies do not until they are told to.
    assert close(start, (model.gloss(texts, with_target=True).target, model.image(images, with_target=True).target))
    model.follow()
    for (slow, online), old in zip(pairs, before, strict=True):
        for mine, was, fast in zip(slow.parameters(), old, online.parameters(), strict=True):
            assert not mine.requires_grad
            assert torch.allclose(mine, 0.9 * was + 0.1 * fast, atol=1e-6)
    for represented, was in zip(
        (model.gloss(texts, with_target=True), model.image(images, with_target=True)), start, strict=True
    ):
        assert not represented.target.requires_grad
        assert not torch.allclose(represented.target, was, atol=1e-3)
        assert not torch.allclose(represented.target, represented.plain, atol=1e-3)
    model.restart_momentum()
    assert torch.allclose(model.gloss(texts, with_target=True).target, embed_text(model.clip.text, texts)[1])
    assert torch.allclose(model.image(images, with_target=True).target, model.image(images).plain)


def test_the_target_of_a_text_tower_with_dropout_is_not_dropped_out(two_way_model):
    texts = random_ids([4, 6])
    still = two_way_model.gloss(texts, with_target=True)
    two_way_model.train()
    moving = two_way_model.gloss(texts, with_target=True)
    two_way_model.eval()
    assert not torch.allclose(moving.plain, still.plain, atol=1e-3)  # the embedding itself is
    assert torch.allclose(moving.target, still.target, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "settings"), [(random_model, MODEL), (random_clip_model, CLIP_MODEL)], ids=["pair", "clip"]
)
def test_without_momentum_the_targets_are_the_online_embeddings(build, settings):
    model = build(settings=replace(settings, momentum=None))
    for represented in (
        model.gloss(texts_for(model, [4, 3]), with_target=True),
        model.image(images_for(model, 2), with_target=True),
    ):
        assert torch.equal(represented.target, represented.plain)
        assert represented.plain.requires_grad and not represented.target.requires_grad
    model.follow()  # nothing to move


@MODELS
def test_a_target_is_made_where_it_is_asked_for_alone(build):
    model = build()
    assert model.gloss(texts_for(model, [4])).target is None and model.image(images_for(model, 1)).target is None


# --- the four losses


def one_part(items) -> Chunks:
    return Chunks([items], torch.tensor([0]))


NOTHING = Chunks([], torch.zeros(0, dtype=torch.long))


def batch_of(model, with_images=True, captions=False) -> Batch:
    """A word, a phrase, and three glosses of which two have pictures; the caption is of the second sense."""
    of_gloss, of_images, of_contexts = ["a", "b", "c"], ["a", "a", "b", "a"], ["a", "c"]
    labels = Labels(
        same_id(of_gloss, of_images),
        same_id(of_contexts, of_gloss),
        torch.tensor([[True, True, False], [True, False, True]]),
        same_id(of_contexts, of_images),
        same_id(["b"], of_images) if captions else None,
    )
    return Batch(
        words=one_part(words_for(model, 1)),
        phrases=one_part(phrases_for(model, 1)),
        captions=one_part(phrases_for(model, 1, seed=11)) if captions else None,
        glosses=Chunks([texts_for(model, [5, 3], 1), texts_for(model, [2], 2)], torch.tensor([2, 0, 1])),
        images=images_for(model, 4) if with_images else None,
        labels=labels,
        word_count=1,
    )


@pytest.mark.parametrize(
    ("build", "loss", "reached", "not_reached"),
    [
        (random_model, "sig", {"sig", "read_text", "shared"}, {"isg", "read_image", "fusion"}),
        (random_model, "isg", {"isg", "read_image", "shared"}, {"sig", "read_text", "fusion"}),
        (random_model, "w2s", {"sig", "fusion", "heads"}, {"isg", "read_image"}),
        (random_model, "w2i", {"isg", "fusion", "heads"}, {"sig", "read_text"}),
        (random_clip_model, "sig", {"clip", "to_image", "shared"}, {"to_text", "to_positions", "fusion"}),
        (random_clip_model, "isg", {"clip", "to_text", "to_positions", "shared"}, {"to_image", "fusion"}),
        (random_clip_model, "w2s", {"clip", "to_image", "fusion"}, {"to_text", "to_positions"}),
        (random_clip_model, "w2i", {"clip", "to_text", "to_positions", "fusion"}, {"to_image"}),
    ],
)
def test_each_loss_trains_the_parts_it_is_about(build, loss, reached, not_reached):
    model = build()
    getattr(model(batch_of(model)), loss).backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached <= moved and not not_reached & moved and "momentum" not in moved


@MODELS
@torch.no_grad()
def test_the_losses_compare_what_the_paper_says_at_the_learned_temperature(build):
    model = build()
    model.log_scale.fill_(1.5)
    scale, every = torch.tensor(1.5).exp(), [0, 1, 2, 3]
    for parameter in model.momentum.parameters():  # else a target would be the embedding in training
        parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    batch = batch_of(model)
    losses = model(batch)
    # The first gloss is the last of those that were run.
    parts = [model.gloss(tokens, with_target=True) for tokens in batch.glosses.parts]
    gloss = Represented(*(torch.cat([other, one]) for one, other in zip(*map(kept, parts), strict=True)))
    image = model.image(batch.images, with_target=True)
    contexts = torch.cat([model.word_in_context(*batch.words.parts[0]), model.phrase(batch.phrases.parts[0])])

    def row(similarity, good, compared):
        share = (scale * similarity).exp()
        return -(share[good] / share[compared].sum()).log().mean()

    sig, isg = gloss.generated @ image.target.T, image.generated @ gloss.target.T
    w2s, w2i = contexts @ gloss.fused.T, contexts @ image.fused.T
    assert torch.allclose(losses.sig, (row(sig[0], [0, 1, 3], every) + row(sig[1], [2], every)) / 2, atol=1e-5)
    by_image = [row(isg[k], [0, 0, 1, 0][k], [0, 1, 2]) for k in every]
    assert torch.allclose(losses.isg, sum(by_image) / 4, atol=1e-5)
    assert torch.allclose(losses.w2s, (row(w2s[0], [0], [0, 1]) + row(w2s[1], [2], [0, 2])) / 2, atol=1e-5)
    assert torch.allclose(losses.w2i, row(w2i[0], [0, 1, 3], every), atol=1e-5)  # no picture shows the second's sense
    # Captions, where there are some, are compared with pictures in place of the contexts.
    with_captions = batch_of(model, captions=True)
    caption = model.phrase(with_captions.captions.parts[0]) @ image.fused.T
    told = model(with_captions)
    assert torch.allclose(told.w2i, row(caption[0], [2], every), atol=1e-5)
    assert torch.equal(told.w2s, losses.w2s) and not torch.allclose(told.w2i, losses.w2i, atol=1e-3)


def test_several_positives_may_be_summed_as_the_public_code_does():
    mean, summed = random_clip_model(), random_clip_model(replace(CLIP_MODEL, several_positives="sum"))
    with torch.no_grad():
        one, other = mean(batch_of(mean)), summed(batch_of(summed))
    assert torch.allclose(one.isg, other.isg) and torch.allclose(one.w2s, other.w2s)  # one positive a row
    assert torch.allclose(other.w2i, 3 * one.w2i)  # the only row that counts has three
    assert one.sig < other.sig < 3 * one.sig


def test_losses_of_parts_that_are_off_are_zero_and_the_total_is_the_sum():
    def losses_of(settings=MODEL, with_images=True):
        model = random_model(settings=settings)
        return model(batch_of(model, with_images))

    full = losses_of()
    assert all(loss > 0 for loss in full) and torch.allclose(full.total, sum(full))
    assert [bool(loss) for loss in losses_of(with_images=False)] == [False, False, True, False]
    only_sig = losses_of(replace(MODEL, isg=False, fusion=False))
    assert [bool(loss) for loss in only_sig] == [True, False, True, True]


@MODELS
@pytest.mark.parametrize(
    ("off", "with_images", "expected"),
    [({}, True, 3), ({}, False, 0), ({"isg": False}, True, 1), ({"sig": False}, True, 2)],
)
def test_a_target_is_computed_only_where_its_loss_is_asked_for(build, monkeypatch, off, with_images, expected):
    settings = CLIP_MODEL if build is random_clip_model else MODEL
    model = build(settings=replace(settings, **off, fusion=not off))
    target, asked = type(model)._target, []
    monkeypatch.setattr(type(model), "_target", lambda *given: asked.append(1) or target(*given))
    model(batch_of(model, with_images))
    assert len(asked) == expected  # two parts of glosses, and the images


@MODELS
def test_a_step_may_have_no_words_or_no_phrases(build):
    model = build()
    batch = batch_of(model)
    for k, alone in ((0, batch._replace(phrases=NOTHING)), (1, batch._replace(words=NOTHING, word_count=0))):
        labels = [label if label is None else label[[k]] for label in batch.labels]
        labels = batch.labels._replace(
            gloss_of_context=labels[1], candidates=labels[2], image_of_context=batch.labels.image_of_context[[0]]
        )
        losses = model(alone._replace(labels=labels))
        losses.total.backward()
        assert all(loss > 0 for loss in losses)


def test_gradients_of_the_losses_reach_generators_but_not_their_targets():
    model = random_model(settings=replace(MODEL, momentum=None))
    model(batch_of(model)).sig.backward()
    # SIG's target is an image embedding: without momentum it is the image head's own, held still.
    assert all(p.grad is None or not p.grad.any() for p in model.heads.image.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.sig.parameters())


def test_the_temperature_is_learned_or_fixed_and_never_below_a_hundredth():
    model = random_model(settings=replace(MODEL, temperature=0.05))
    model(batch_of(model)).total.backward()
    assert model.log_scale.grad is not None
    fixed = PairPolCLIP(TOWERS, replace(MODEL, temperature=0.05, learn_temperature=False))
    assert fixed.scale.item() == pytest.approx(20) and not fixed.log_scale.requires_grad
    raw = random_clip_model(replace(CLIP_MODEL, temperature=None))
    assert raw.scale.item() == 1 and not raw.log_scale.requires_grad
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    assert model.scale.item() == 100


# --- refusals, saving and reading


@pytest.mark.parametrize("off", ["sig", "isg"])
def test_fusion_without_what_it_attends_to_is_refused(off):
    with pytest.raises(UserError, match=r"model\.sig and model\.isg have to be true"):
        PairPolCLIP(TOWERS, replace(MODEL, **{off: False}))
    with pytest.raises(UserError, match=r"model\.sig and model\.isg have to be true"):
        random_clip_model(replace(CLIP_MODEL, **{off: False}))


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (random_model, MODEL),
        (random_model, replace(MODEL, sig=False, isg=False, fusion=False, momentum=None)),
        (random_clip_model, CLIP_MODEL),
        (random_clip_model, replace(CLIP_MODEL, sig=False, isg=False, fusion=False, momentum=None)),
    ],
    ids=["pair", "pair_plain", "clip", "clip_plain"],
)
def test_a_saved_model_comes_back_as_it_was(tmp_path, build, settings):
    model = build(settings=settings).train()
    with torch.no_grad():  # of a model just made, the start would do
        model.log_scale += 0.5
    model.save_pretrained(tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    model.write(tmp_path / "written")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "written" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    assert not (tmp_path / "written" / "README.md").exists()
    model.eval()
    glosses, images = texts_for(model, [3, 5]), images_for(model, 2)
    for back in (PolCLIP.from_pretrained(tmp_path / "model"), read_model(tmp_path / "written")):
        assert type(back) is type(model) and (back.settings, back.training) == (settings, False)
        assert back.description() == model.description()
        for one, other in ((model.gloss(glosses), back.gloss(glosses)), (model.image(images), back.image(images))):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True) if a is not None)
        words = words_for(model, 2)
        assert torch.equal(model.word_in_context(*words), back.word_in_context(*words))
        assert torch.equal(model.scale, back.scale)
        for represented in (back.image(images, with_target=True), back.gloss(glosses, with_target=True)):
            assert torch.allclose(represented.target, represented.plain, atol=1e-6)  # the copies start anew


def test_a_model_is_read_from_a_repository_of_the_model_hub(tmp_path, monkeypatch):
    random_model().save_pretrained(tmp_path / "fetched")
    asked = []

    def download(repository, **options):
        asked.append((repository, options["revision"]))
        return str(tmp_path / "fetched")

    def one_file(repo_id, filename, **_):
        return str(tmp_path / "fetched" / filename)

    monkeypatch.setattr("polclip.model.polclip.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", one_file)
    back = PolCLIP.from_pretrained("someone/polclip", revision="v1")
    assert asked == [("someone/polclip", "v1")]
    assert isinstance(back, PairPolCLIP) and back.towers == TOWERS


@MODELS
@pytest.mark.parametrize("read", [read_model, PolCLIP.from_pretrained], ids=["read_model", "from_pretrained"])
def test_folders_that_hold_no_such_model_are_refused(tmp_path, build, read):
    model = build()
    model.save_pretrained(tmp_path / "model")

    def spoiled(name, spoil):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "model", folder)
        spoil(folder)
        with pytest.raises(UserError, match=name):
            read(folder)

    def rewrite(folder, change):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(change(config)))

    def changed(**keys):
        return lambda folder: rewrite(folder, lambda c: {**c, "model": {**c["model"], **keys}})

    spoiled("no_weights", lambda folder: (folder / "model.safetensors").unlink())
    spoiled("no_config", lambda folder: (folder / "config.json").unlink())
    spoiled("cut_short", lambda folder: (folder / "model.safetensors").write_bytes(b"1234567890"))
    spoiled("of_bert", lambda folder: rewrite(folder, lambda _: {"architectures": ["BertModel"]}))
    spoiled("of_another_kind", lambda folder: rewrite(folder, lambda c: {**c, "kind": "blip"}))
    spoiled("unknown_key", changed(depth=3))
    spoiled("wider", changed(width=32) if isinstance(model, PairPolCLIP) else changed(feed_forward=64))
    spoiled("deeper", changed(fusion_blocks=2))
    spoiled("shallower", changed(fusion=False))


@pytest.mark.parametrize("read", [read_model, PolCLIP.from_pretrained], ids=["read_model", "from_pretrained"])
def test_a_folder_whose_config_is_no_json_is_refused(tmp_path, read):
    random_model().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not a PolCLIP model"):
        read(tmp_path / "model")


def test_features_of_the_tiny_world_are_read_with_their_padding(tmp_path):
    world = tiny_world(tmp_path, instances=2, drawings=1)
    long, short = "number 0 of look_up%2:31:00:: look up", "number 0 of bat%1:05:00:: bat"
    tokens = tokens_of(world.texts, [text_id(short), text_id(long)], "cpu")
    assert tokens.real.sum(1).tolist() == [7, 8] and tokens.classes is None
    assert not tokens.states[0, 7].any()
    assert tokens_of(world.pictures, ["dev:00000101-n.0"], "cpu").classes.shape == (1, CLASSES)
