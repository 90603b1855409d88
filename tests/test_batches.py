from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_features import CLASSES, IMAGE, tiny_world

from polclip.corpora.texts import caption_text, gloss_text, photo_text, text_id
from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.records import Phrase, Picture, TextualInstance, read_records, write_records
from polclip.training.batches import make_batch, make_step
from polclip.training.budget import Part
from polclip.training.corpora import SenseCorpus, TextualCorpus, target_state


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"))


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
    target, sentence, _ = textual.words([row, 0], "cpu")
    np.testing.assert_allclose(target[0], states[5:7].mean(0), atol=3e-4)  # kept in 16 bit
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
    tokens, inside, of = corpus.words([1, 0, 2, 0], "cpu")
    assert of.tolist() == [0, 1, 2, 1] and len(tokens.states) == 3  # a text with two words stands once
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
