"""Data sets of one's own: sentences and pictures from a folder, and what is said of a line that cannot be read."""

import json
import unicodedata

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
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def sentence(**other):
    """A line of a file of sentences, with something else in it."""
    return json.dumps({"text": "A bat", "gold": "bat%1:05:00::"} | other)


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


def test_a_gold_is_found_however_its_word_is_written(tmp_path, inventory):
    found, counts = sentences(
        tmp_path,
        inventory,
        '{"text": "A b\u00e1t flew.", "gold": "bat%1:05:00::"}\n'
        '{"text": "Sheep galore!", "gold": "galore(ip)%5:00:00:many:00"}\n'
        '{"text": "He saw Mighty\u2011Mouse.", "target": "mighty mouse", "gold": "mighty_mouse%1:05:00::"}\n',
    )
    assert [x.text[slice(*x.target_span)] for x in found] == ["b\u00e1t", "galore", "Mighty\u2011Mouse"]
    assert [x.gold for x in found] == [["bat%1:05:00::"], ["galore%5:00:00:many:00"], ["mighty_mouse%1:05:00::"]]
    assert counts["gold_missing"] == 0


@table(
    {
        "no json": ("bat\n", r"texts\.jsonl:1: not JSON \(Expecting value at character 1\)\. A line is"),
        "very deep json": ("[" * 100_000, r"texts\.jsonl:1: not JSON that can be read"),
        "a list": ("[]", r":1: not a JSON object"),
        "an empty line": ('\n{"text": "A bat", "gold": "bat%1:05:00::"}', r":1: an empty line"),
        "no text": ('{"gold": "bat%1:05:00::"}', r":1: `text` is null\. It has to be a sentence"),
        "no gold": ('{"text": "A bat"}', r":1: `gold` is null\. It has to be a sense key or a list"),
        "cp1252": (b'{"text": "A caf\xe9"}', r":1: byte 16 of the line is not UTF-8"),
        "half a pair": (sentence(text="A bat \ud83e"), r":1: the line has .ud83e, half of a surrogate pair"),
    }
    | {
        f"{field} {value!r}": (sentence(**{field: value}), rf":1: `{field}` (is|.* covers no word)")
        for field, values in {
            "text": (5, None, "", "  ", ["A bat"]),
            "gold": (5, None, "", [], [""], [None], {"key": "bat%1:05:00::"}, [["bat%1:05:00::"]], True),
            "target": (
                5,
                True,
                "",
                " ",
                {},
                [],
                [2],
                [2, 3, 4],
                [2.0, 5.0],
                [False, True],
                ["2", "5"],
                [-3, 5],
                [5, 2],
                [2, 2],
                [2, 99],
                [1, 2],
            ),
            "id": (None, "", " ", "a b", "a\tb", 1.5, True, [], {}),
            "document": (5, "", " ", [], True),
        }.items()
        for value in values
    }
    | {
        "unknown key": ('{"text": "A bat", "gold": "bat%1:05:09::"}', r":1: Unknown sense key .*Allowed for bat: "),
        "no target": ('{"text": "A cat", "gold": "bat%1:05:00::"}', r":1: 'bat' is not in the text 'A cat'"),
        "outside": (sentence(target=[9, 12]), r":1: `target` is \[9, 12\], but the text has 5 characters"),
        "a second key of no one": (sentence(gold=["bat%1:05:00::", "bat%1:05:09::"]), r":1: Unknown sense key"),
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


PHRASES = "word\tphrase\tsense_key\n"


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


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("told", ["NFC", "NFD"])
def test_names_are_the_same_however_their_accents_are_encoded(tmp_path, zoo, inventory, on_disk, told):
    name = "caf\u00e9/fl\u00e8che.png"
    (zoo / unicodedata.normalize(on_disk, "caf\u00e9")).mkdir()
    Image.new("RGB", (9, 9)).save(zoo / unicodedata.normalize(on_disk, name))
    written(zoo / "pictures.tsv", f"file\tsense_key\nclub.JPG\n{unicodedata.normalize(told, name)}\n")
    other = unicodedata.normalize("NFD" if told == "NFC" else "NFC", name)
    written(zoo / "queries.tsv", f"bat\tbat mammal\t{other}\tclub.JPG\n")
    _, pictures, _ = pictures_of(tmp_path, zoo, inventory)
    assert [Image.open(p.path).size for p in read_records(pictures, Picture)] == [(8, 8), (9, 9)]
    build_queries(zoo, "zoo", inventory, pictures, tmp_path / "queries.parquet")
    (query,) = read_records(tmp_path / "queries.parquet", VisualInstance)
    assert query.gold == f"zoo:{name}"


def test_what_excel_writes_is_read(tmp_path, zoo, inventory):
    (zoo / "field.png").rename(zoo / 'a "field", green.png')
    written(zoo / "pictures.tsv", '\ufefffile\tsense_key\r\n"a ""field"", green.png"\t\r\nclub.JPG\tbat%1:06:00::\r\n')
    written(zoo / "queries.tsv", 'bat\t"bat, club"\tclub.JPG\t"a ""field"", green.png"\r\n')
    _, pictures, _ = pictures_of(tmp_path, zoo, inventory)
    assert [p.name for p in read_records(pictures, Picture)] == ['a "field", green.png', "club.JPG"]
    build_queries(zoo, "zoo", inventory, pictures, tmp_path / "queries.parquet")
    (query,) = read_records(tmp_path / "queries.parquet", VisualInstance)
    assert query.phrase == "bat, club" and 'zoo:a "field", green.png' in query.candidates


def test_keys_of_tables_may_carry_their_marker_and_words_be_written_otherwise(tmp_path, zoo, inventory):
    galore = "galore(ip)%5:00:00:many:00"
    written(zoo / "pictures.tsv", f"file\tsense_key\nflying.png\tbat%1:05:00::\nclub.JPG\t{galore}\n")
    _, pictures, phrases = pictures_of(tmp_path, zoo, inventory)
    assert [p.synset_id for p in read_records(pictures, Picture)][1] == "00000302-s"
    assert [p.sense_key for p in read_records(phrases, Phrase)] == ["bat%1:05:00::", "galore%5:00:00:many:00"]
    written(zoo / "phrases.tsv", f"word\tphrase\tsense_key\ngalore\tsheep galore\t{galore}\n")
    _, _, phrases = pictures_of(tmp_path, zoo, inventory)
    assert [p.sense_key for p in read_records(phrases, Phrase)] == ["galore%5:00:00:many:00"]
    written(zoo / "queries.tsv", "b\u00e1ts\tb\u00e1ts here\tflying.png\tclub.JPG\n")
    build_queries(zoo, "zoo", inventory, pictures, tmp_path / "queries.parquet")
    (query,) = read_records(tmp_path / "queries.parquet", VisualInstance)
    assert query.sense_key == "bat%1:05:00::"


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
        "twice": (
            "pictures.tsv",
            "file\tsense_key\nclub.JPG\t\nclub.JPG\t\n",
            r":3: club\.JPG is the picture of .*:2 a",
        ),
        "twice by another name": ("pictures.tsv", "file\tsense_key\nclub.JPG\n./club.JPG\n", r":3: .*of .*:2 again"),
        "twice by a link": (
            "pictures.tsv",
            "file\tsense_key\nclub.JPG\nlink.png\n",
            r":3: link\.png is the picture",
        ),
        "above the folder": (
            "pictures.tsv",
            "file\tsense_key\n../other.png\n",
            r":2: \.\./other\.png is not a file in",
        ),
        "out and back": ("pictures.tsv", "file\tsense_key\n../zoo/club.JPG\n", r":2: .* is not a file in .*zoo"),
        "absolute": (
            "pictures.tsv",
            "file\tsense_key\n/etc/passwd\n",
            r":2: /etc/passwd is not a file in .*zoo",
        ),
        "linked outside": ("pictures.tsv", "file\tsense_key\noutside.png\n", r":2: outside\.png is not a file in"),
        "of no name": ("pictures.tsv", "file\tsense_key\n\tbat%1:05:00::\n", r":2: the field `file` is empty"),
        "a folder": ("pictures.tsv", "file\tsense_key\n.\n", r":2: there is no picture"),
        "HEIC": (
            "pictures.tsv",
            "file\tsense_key\nphone.png\n",
            r":2: phone\.png is HEIC, which is not read",
        ),
        "no line": ("pictures.tsv", "file\tsense_key\n", r"pictures\.tsv has no line below"),
        "a column twice": ("pictures.tsv", "file\tsense_key\tfile\na\tb\tc\n", r":1: the column file occurs twice"),
        "a field too many": ("pictures.tsv", "file\tsense_key\nclub.JPG\t\tbat\n", r":2: 3 fields for 2 columns"),
        "cp1252": ("pictures.tsv", b"file\tsense_key\ncaf\xe9.png\n", r":2: byte 4 of the line is not UTF-8"),
        "no word": (
            "phrases.tsv",
            f"{PHRASES}\tbat cave\tbat%1:05:00::\n",
            r":2: the field `word` is empty",
        ),
        "no key": ("phrases.tsv", f"{PHRASES}bat\tbat cave\t\n", r":2: the field `sense_key` is empty"),
        "an empty phrase": ("phrases.tsv", f"{PHRASES}bat\t\tbat%1:05:00::\n", r":2: the field `phrase` is empty"),
        "no phrase": ("phrases.tsv", PHRASES, r"phrases\.tsv has no line below"),
        "alone": ("queries.tsv", "bat\tbat mammal\tflying.png\n", r"queries\.tsv:1: a line is word, phrase"),
        "unlisted": ("queries.tsv", "bat\tb\tflying.png\tx.png\n", r"queries\.tsv:1: x\.png is not in pictures\.tsv"),
    }
)
def test_what_is_wrong_with_pictures_is_named_by_its_line(tmp_path, zoo, inventory, case):
    file, text, said = case
    written(zoo / file, text)
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    (zoo / "outside.png").symlink_to(tmp_path / "other.png")
    (zoo / "link.png").symlink_to("club.JPG")
    (zoo / "phone.png").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(UserError, match=said):
        _, pictures, _ = pictures_of(tmp_path, zoo, inventory)
        build_queries(zoo, "zoo", inventory, pictures, tmp_path / "queries.parquet")
    assert file == "queries.tsv" or not (tmp_path / "copied").exists()
