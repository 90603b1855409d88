"""Definitions in the contexts that models read: whose, where, and what becomes of a target that is pushed out."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_clip import random_clip_model, write_clip
from tiny_features import IMAGE, tiny_world
from tiny_wordnet import tiny_inventory

from polclip.corpora.texts import collect, context_text, gloss_text, photo_text, text_id
from polclip.encoders.clip import ClipTextEncoder, load_clip
from polclip.encoders.embed import embed_texts
from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.errors import UserError
from polclip.evaluation.baselines import predict_baseline
from polclip.evaluation.predict import predict, rank_queries, rank_words
from polclip.files import read_json_lines
from polclip.model.blocks import unit
from polclip.records import TextualInstance, VisualInstance, read_records, write_records
from polclip.training.corpora import TextualCorpus, read_queries

TOLD = {"one": "an animal that flies", "other": "a thing that is held", "queries": "small and soft"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A world with two textual sets of the same ids and a visual one, their definitions, and a CLIP's features.

    The definition of the first instance of a set is too long for the text tower; the second has none.
    """
    folder = tmp_path_factory.mktemp("asked")
    world = tiny_world(folder, instances=8, drawings=2)
    words = list(read_records(world.textual_dev, TextualInstance))
    sets = {
        "one": (TextualInstance, words),
        "other": (TextualInstance, [replace(x, tokens=["other", *x.tokens[1:]]) for x in words]),
        "queries": (VisualInstance, list(read_records(world.dev_words, VisualInstance))),
    }
    definitions = {}
    for name, (kind, records) in sets.items():
        write_records(folder / f"{name}.parquet", kind, records)
        definitions[folder / f"{name}.parquet"] = folder / f"{name}.jsonl"
        told = [f"{TOLD[name]} {'on and on ' * 40}", None, *[TOLD[name]] * (len(records) - 2)]
        lines = [
            json.dumps({"instance_id": x.instance_id, "definition": text})
            for x, text in zip(records, told, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    textual, visual = [folder / "one.parquet", folder / "other.parquet"], [folder / "queries.parquet"]
    collect(folder / "t.parquet", world.inventory, textual, visual, [world.phrases], definitions, ("photo", "listed"))
    architecture = write_clip(folder / "clip")
    encoder = ClipTextEncoder(load_clip(architecture, "")[0], architecture)
    embed_texts(folder / "t.parquet", encoder, folder / "clip_texts", 0, 1, batch=64)
    rng, ids = np.random.default_rng(0), sorted(world.pictures.place)
    with shard_writer(folder / "clip_pictures") as writer:
        writer.add(ids, rng.normal(size=(len(ids), 5, IMAGE)), rng.normal(size=(len(ids), 16)))
    world = replace(
        world,
        texts=FeatureStore([folder / "clip_texts"]),
        pictures=FeatureStore([folder / "clip_pictures"]),
        texts_folder=folder / "clip_texts",
        pictures_folder=folder / "clip_pictures",
    )
    return world, textual, visual, definitions


def test_each_corpus_is_read_with_its_own_definitions(asked, caplog):
    world, textual, visual, definitions = asked
    caplog.set_level("INFO")
    corpus = TextualCorpus.read(textual, world.inventory, world.texts, definitions)
    plain = TextualCorpus.read(textual, world.inventory, world.texts)
    one = len(corpus) // 2
    assert caplog.messages == [f"2 of {len(corpus)} sentences are too long to be read behind a definition."]
    assert corpus.instances == plain.instances and corpus.instances[0].instance_id == corpus.instances[one].instance_id
    for k, instance in enumerate(corpus.instances):
        text = context_text(instance, TOLD["one" if k < one else "other"])[0]
        left = k % one in (0, 1)  # too long, or none
        assert corpus.text_ids[k] == (plain.text_ids[k] if left else text_id(text))
        assert plain.text_ids[k] == text_id(instance.text) and plain.spans[k] == instance.target_span
        # Of the same words in the same order, wherever they stand, the target is the same.
        tokens, inside, _ = corpus.words([k], "cpu")
        alone, of_alone, _ = plain.words([k], "cpu")
        assert tokens.states[inside].tolist() == alone.states[of_alone].tolist() != []
    for number, (query, ids) in enumerate(read_queries(visual, definitions)[1:], start=1):
        assert ids == [text_id(photo_text(query.phrase, TOLD["queries"] if number > 1 else None))]
    assert all(ids == [text_id(photo_text(query.phrase))] for query, ids in read_queries(visual, {}))


def test_what_is_collected_is_what_is_looked_up(asked):
    world, textual, _, definitions = asked
    folder = textual[0].parent
    collect(folder / "some.parquet", world.inventory, textual, [], [], definitions)
    found = set(pd.read_parquet(folder / "some.parquet")["text_id"])
    plain, defined = (TextualCorpus.read(textual, world.inventory, world.texts, d) for d in ({}, definitions))
    senses = {text_id(gloss_text(world.inventory.synset(s))) for s in plain.synsets}
    cut = {text_id(context_text(x, f"{TOLD[name]} {'on and on ' * 40}")[0]) for name, x in
           (("one", plain.instances[0]), ("other", plain.instances[len(plain) // 2]))}  # fmt: skip
    assert found == {*plain.text_ids, *defined.text_ids} | senses | cut

    (folder / "late.jsonl").write_text(json.dumps({"instance_id": plain.instances[3].instance_id, "definition": "new"}))
    with pytest.raises(UserError, match="No features are stored"):
        TextualCorpus.read(textual, world.inventory, world.texts, {textual[0]: folder / "late.jsonl"})


@torch.inference_mode()
def test_a_causal_tower_reads_the_target_by_its_definition(asked):
    world, textual, _, definitions = asked
    model = random_clip_model()
    defined = TextualCorpus.read(textual, world.inventory, world.texts, definitions)
    plain = TextualCorpus.read(textual, world.inventory, world.texts)
    rows = range(4)
    words = [model.word_in_context(*corpus.words(rows, "cpu")) for corpus in (defined, plain)]
    apart = (words[0] - words[1]).norm(dim=1)
    assert apart[:2].max() < 1e-5 and apart[2:].min() > 1e-2


def test_a_pair_reads_the_targets_own_states_behind_the_definition(tmp_path):
    inventory = tiny_inventory(tmp_path)
    candidates = inventory.sense_keys("bat", "n")
    instance = TextualInstance("1", "s", ["the", "bat", "flew"], 1, 2, "bat", "n", candidates, candidates[:1])
    write_records(tmp_path / "words.parquet", TextualInstance, [instance])
    (tmp_path / "words.jsonl").write_text(json.dumps({"instance_id": "1", "definition": "of note"}))
    with shard_writer(tmp_path / "texts") as writer:
        for text in ("the bat flew", "(bat: of note) the bat flew"):  # the state of each word is its place
            spans = np.array([match.span() for match in re.finditer(r"\S+", text)])
            states = np.arange(len(spans))[:, None] * np.ones(16)
            writer.add([text_id(text)], [states], np.full((1, 16), len(spans)), spans=[spans])
    store, path = FeatureStore([tmp_path / "texts"]), tmp_path / "words.parquet"
    for definitions, target, sentence, middle in (({}, 1, 3, 1), ({path: tmp_path / "words.jsonl"}, 4, 6, 2.5)):
        corpus = TextualCorpus.read([path], inventory, store, definitions)
        states, pooled, mean = corpus.words([0], "cpu")
        assert (states[0, 0], pooled[0, 0], mean[0, 0]) == (target, sentence, middle)


def test_models_and_baselines_predict_by_the_definitions_they_are_given(asked, tmp_path):
    world, textual, visual, definitions = asked
    known = {path: definitions[path] for path in (textual[1], *visual)}  # one of the textual sets goes without
    model, corpora = random_clip_model(), [*textual, *visual]
    model.write(tmp_path / "model")
    files = [tmp_path / f"{k}.jsonl" for k in range(3)]
    given = {"tasks": ["textual", "textual", "visual"], "instances": corpora, "predictions": files}

    predict(tmp_path / "model", world.inventory, world.texts, world.pictures, **given, definitions=known,
            forms=["photo"], device="cpu")  # fmt: skip
    found = [[line["scores"] for line in read_json_lines(file)] for file in files]
    for scores, path in zip(found, corpora, strict=True):
        plain, defined = (_scores(model, world, path, given) for given in ({}, definitions))
        np.testing.assert_allclose(scores, plain if path is textual[0] else defined, atol=1e-5)
        assert np.abs(np.subtract(plain, defined)).max() > 1e-3

    predict_baseline("zero_shot", world.inventory, **given, definitions=known, text_features=[world.texts_folder],
                     picture_features=[world.pictures_folder])  # fmt: skip
    for file, path in zip(files[:2], textual, strict=True):
        instance, line = list(read_records(path, TextualInstance))[5], list(read_json_lines(file))[5]
        text = context_text(instance, TOLD["other"] if path is textual[1] else None)[0]
        texts = [text, *(gloss_text(world.inventory.synset_of(key)) for key in line["candidates"])]
        sentence, *glosses = unit(torch.from_numpy(world.texts.pooled([text_id(text) for text in texts])))
        assert line["scores"] == pytest.approx([float(sentence @ gloss) for gloss in glosses], abs=1e-5)


@torch.inference_mode()
def _scores(model, world, path, definitions):
    if path.stem == "queries":
        ranking = rank_queries(model, read_queries([path], definitions), world.texts, world.pictures)
    else:
        ranking = rank_words(
            model, TextualCorpus.read([path], world.inventory, world.texts, definitions), world.inventory
        )
    return [prediction.scores for prediction in ranking]
