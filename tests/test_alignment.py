from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_features import ALIGNMENT, CLASSES, FORMS, IMAGE, TEXT, aligned, same, tiny_world

from polclip.corpora.texts import gloss_text, text_id
from polclip.errors import UserError
from polclip.model.losses import contrastive_loss
from polclip.model.pair_polclip import Heads
from polclip.records import Picture, VisualInstance, read_records, write_records
from polclip.training import alignment
from polclip.training.alignment import QueryRanking, read_heads
from polclip.training.corpora import TextualCorpus


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"))


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
            heads.eval().word_in_context(*corpus.words(range(len(corpus)), "cpu")[:2])
            @ heads.text(torch.from_numpy(world.texts.pooled(glosses))).T
        )
    right = [gold[row[own].argmax()] for row, own, gold in zip(cosines, corpus.candidates, corpus.gold, strict=True)]
    assert np.mean(right) > 0.85
