"""Data sets of one's own: sentences and pictures from a folder, and what is said of a line that cannot be read."""

import pytest
from malformed import table
from PIL import Image
from tiny_wordnet import tiny_inventory

from polclip.corpora.own_pictures import build_pictures, build_queries
from polclip.corpora.own_texts import build
from polclip.errors import UserError
from polclip.records import Phrase, Picture, TextualInstance, VisualInstance, read_records


@pytest.fixture(scope="module")
def inventory(tmp_path_factory):
    return tiny_inventory(tmp_path_factory.mktemp("inventory"))


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def sentences(tmp_path, inventory, text):
    counts = build(written(tmp_path / "texts.jsonl", text), "zoo", inventory, tmp_path / "texts.parquet")
    return list(read_records(tmp_path / "texts.parquet", TextualInstance)), counts


def test_sentences_are_cut_into_tokens_around_the_target(tmp_path, inventory):
    found, counts = sentences(
        tmp_path,
        inventory,
        '{"text": "A bat, an old bat.", "gold": "bat%1:05:00::"}\n'
        '{"text": "A bat, an old bat.", "target": [14, 17], "gold": ["bat%1:06:00::"], "id": "second"}\n'
        '{"text": "It ate the mice.", "gold": "mouse%1:05:00::", "document": "d1"}\n'
        '{"text": "She improved it.", "target": "improved", "gold": ["improve%2:35:00::"], "document": "d1"}\n',
    )
    assert [(x.instance_id, x.text[slice(*x.target_span)], x.lemma, x.pos) for x in found] == [
        ("zoo.1", "bat", "bat", "n"),
        ("second", "bat", "bat", "n"),
        ("zoo.3", "mice", "mouse", "n"),
        ("zoo.4", "improved", "improve", "v"),
    ]
    assert found[0].target_span[0] < found[1].target_span[0]  # the second bat of the sentence
    assert found[0].candidates == ["bat%1:05:00::", "bat%1:06:00::"] and found[1].gold == ["bat%1:06:00::"]
    # One sentence for both of its targets; alone, but for those that name a document.
    assert len({x.sentence_id for x in found}) == 3 and [x.document for x in found] == ["", "", "d1", "d1"]
    assert (counts["sentences"], counts["instances"], counts["gold_missing"]) == (3, 4, 0)


@table(
    {
        "no json": ("bat\n", r"texts\.jsonl:1: cannot be read"),
        "no gold": ('{"text": "A bat"}', r"KeyError: 'gold'.*A line has a text and the sense keys"),
        "unknown key": ('{"text": "A bat", "gold": "bat%1:05:09::"}', r":1: Unknown sense key .*Allowed for bat: "),
        "no target": ('{"text": "A cat", "gold": "bat%1:05:00::"}', r":1: 'bat' is not in the text 'A cat'"),
        "outside": ('{"text": "A bat", "target": [9, 12], "gold": "bat%1:05:00::"}', r":1: cannot be read"),
        "twice": (
            '{"text": "A bat", "gold": "bat%1:05:00::", "id": 1}\n' * 2,
            r":2: the id '1' comes twice",
        ),
        "empty": ("", r"texts\.jsonl is empty"),
    }
)
def test_a_sentence_that_cannot_be_read_is_named_by_its_line(tmp_path, inventory, case):
    text, said = case
    with pytest.raises(UserError, match=said):
        sentences(tmp_path, inventory, text)


def test_the_xml_of_the_unified_framework_is_read_too(tmp_path, inventory):
    xml = (
        '<corpus><text id="d0"><sentence id="d0.s0"><wf lemma="a" pos="DET">A</wf>'
        '<instance id="d0.s0.t0" lemma="bat" pos="NOUN">bat</instance></sentence></text></corpus>'
    )
    written(tmp_path / "texts.gold.key.txt", "d0.s0.t0 bat%1:06:00::\n")
    build(written(tmp_path / "texts.data.xml", xml), "zoo", inventory, tmp_path / "texts.parquet")
    (only,) = read_records(tmp_path / "texts.parquet", TextualInstance)
    assert (only.instance_id, only.gold) == ("d0.s0.t0", ["bat%1:06:00::"])
    (tmp_path / "texts.gold.key.txt").unlink()
    with pytest.raises(UserError, match=r"texts\.gold\.key\.txt cannot be read"):
        build(tmp_path / "texts.data.xml", "zoo", inventory, tmp_path / "texts.parquet")


@pytest.fixture
def zoo(tmp_path):
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in ("flying.png", "club.JPG", "rodent.png", "field.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    rows = "flying.png\tbat%1:05:00::\nclub.JPG\tbat%1:06:00::\nrodent.png\tmouse%1:05:00::\nfield.png\n"
    written(folder / "pictures.tsv", "file\tsense_key\n" + rows)
    written(
        folder / "queries.tsv", "bat\tbat mammal\tflying.png\tclub.JPG\tfield.png\nfield\tgreen\tfield.png\tclub.JPG\n"
    )
    return folder


def pictures_of(tmp_path, zoo, inventory):
    made = (tmp_path / "copied", tmp_path / "pictures.parquet", tmp_path / "phrases.parquet")
    build_pictures(zoo, "zoo", inventory, *made)
    return made


def test_pictures_are_copied_and_tied_to_synsets(tmp_path, zoo, inventory):
    folder, pictures, phrases = pictures_of(tmp_path, zoo, inventory)
    found = list(read_records(pictures, Picture))
    assert [p.picture_id for p in found] == ["zoo:flying.png", "zoo:club.JPG", "zoo:rodent.png", "zoo:field.png"]
    assert found[0].synset_id == inventory.sense("bat%1:05:00::").synset_id and found[3].synset_id is None
    assert all(Image.open(p.path).size == (8, 8) for p in found) and len(list(folder.iterdir())) == 4
    assert [p.phrase for p in read_records(phrases, Phrase)] == ["bat animal", "bat", "mouse animal"]
    written(zoo / "phrases.tsv", "word\tphrase\tsense_key\nbat\tbat cave\tbat%1:05:00::\n")
    pictures_of(tmp_path, zoo, inventory)
    assert [p.synset_id for p in read_records(phrases, Phrase)] == [found[0].synset_id]


def test_queries_know_their_sense_and_their_rivals(tmp_path, zoo, inventory):
    _, pictures, _ = pictures_of(tmp_path, zoo, inventory)
    assert build_queries(zoo, "zoo", inventory, pictures, tmp_path / "queries.parquet") == 2
    bat, field = read_records(tmp_path / "queries.parquet", VisualInstance)
    assert (bat.gold, bat.sense_key, bat.rivals) == ("zoo:flying.png", "bat%1:05:00::", ["zoo:club.JPG"])
    assert bat.candidates == sorted(bat.candidates) and len(bat.candidates) == 3
    assert (field.sense_key, field.rivals) == (None, [])


@table(
    {
        "picture": (
            "pictures.tsv",
            "file\tsense_key\nlost.png\t\n",
            r"pictures\.tsv:2: there is no picture .*lost\.png",
        ),
        "key": ("pictures.tsv", "file\tsense_key\nclub.JPG\tclub\n", r"pictures\.tsv:2: Unknown sense key 'club'"),
        "head": (
            "pictures.tsv",
            "club.JPG\tbat%1:06:00::\n",
            r"pictures\.tsv:1: the columns file, sense_key are missing",
        ),
        "twice": ("pictures.tsv", "file\tsense_key\nclub.JPG\t\nclub.JPG\t\n", r"names a file twice"),
        "alone": ("queries.tsv", "bat\tbat mammal\tflying.png\n", r"queries\.tsv:1: a line is word, phrase"),
        "unlisted": ("queries.tsv", "bat\tb\tflying.png\tx.png\n", r"queries\.tsv:1: x\.png is not in pictures\.tsv"),
    }
)
def test_what_is_wrong_with_pictures_is_named_by_its_line(tmp_path, zoo, inventory, case):
    file, text, said = case
    written(zoo / file, text)
    with pytest.raises(UserError, match=said):
        _, pictures, _ = pictures_of(tmp_path, zoo, inventory)
        build_queries(zoo, "zoo", inventory, pictures, tmp_path / "queries.parquet")
    assert file == "queries.tsv" or not (tmp_path / "copied").exists()
