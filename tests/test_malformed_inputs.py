"""Malformed inputs, reader by reader: a table of what is wrong and what comes of it.

What is refused ends in a UserError that names the file and, where there is one, the line, member or instance; nothing
is written then. What can be done without is skipped and counted. What is merely odd is read as it was meant.
"""

import gzip
import io
import json
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_wordnet import COUNTS, FOLDER, tiny_inventory
from typer.testing import CliRunner

from polclip.cli import app
from polclip.corpora import image_senses, semcor_tags, unified_wsd, vwsd
from polclip.corpora.image_metadata import read_metadata
from polclip.corpora.key_files import read_keys
from polclip.corpora.picture_files import unpack_pictures
from polclip.corpora.text_lines import text_lines
from polclip.errors import UserError
from polclip.evaluation.prediction_files import read_predictions
from polclip.files import read_json
from polclip.inventory import build_inventory
from polclip.pictures import read_picture
from polclip.records import SCHEMAS, TextualInstance, VisualInstance, read_records


@pytest.fixture
def inventory(tmp_path):
    return tiny_inventory(tmp_path)


def table(cases):
    """A test for each entry, named by its key."""
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def damaged(path, old):
    """The file with bytes changed in the middle of what `old` was packed to."""
    content, packed = path.read_bytes(), zlib.compress(old)[2:-4]
    at = content.index(packed[:20]) + len(packed) // 2
    path.write_bytes(content[:at] + bytes(byte ^ 0x55 for byte in content[at : at + 8]) + content[at + 8 :])
    return path


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


# --- the unified XML

XML = """<?xml version="1.0" encoding="UTF-8"?>
<corpus lang="en"><text id="d000">
<sentence id="d000.s000">
<wf lemma="the" pos="DET">The</wf>
<instance id="d000.s000.t000" lemma="bat" pos="NOUN">bats</instance>
<instance id="d000.s000.t001" lemma="look_up" pos="VERB">looked up</instance>
</sentence>
</text></corpus>
"""
GOLD = "d000.s000.t000 bat%1:05:00::\nd000.s000.t001 look_up%2:31:00::\n"
LAUGHS = '<!DOCTYPE c [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
FROM_DISK = '<!DOCTYPE c [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


def build_xml(folder, inventory, xml=XML, gold=GOLD):
    xml, gold = (text.encode() if isinstance(text, str) else text for text in (xml, gold))
    archive = zipped(folder / "sets.zip", {"tiny/tiny.data.xml": xml, "tiny/tiny.gold.key.txt": gold})
    counts = unified_wsd.build(archive, "tiny", inventory, folder / "out.parquet")
    return counts, list(read_records(folder / "out.parquet", TextualInstance))


REFUSED_XML = {  # the XML, what the message says after the file's name
    "cut in the middle": (XML[: XML.index("looked")], ":6: not the XML of the unified framework"),
    "two roots": (XML + "<corpus></corpus>", ":9: not the XML .*junk after document element"),
    "empty": ("", ":1: not the XML .*no element"),
    "an HTML page": ("<!DOCTYPE html><html></html>", ":1: not the XML .*without DTD"),
    "an entity bomb": (XML.replace("<corpus", LAUGHS + "<corpus").replace("bats", "&c;"), ":2: .*without DTD"),
    "an external entity": (XML.replace("<corpus", FROM_DISK + "<corpus").replace("bats", "&x;"), ":2: .*without DTD"),
    "a DTD elsewhere": (XML.replace("<corpus", '<!DOCTYPE c SYSTEM "c.dtd"><corpus'), ":2: .*without DTD"),
    "an entity of no one": (XML.replace("bats", "&bat;"), ":5: .*undefined entity"),
    "a bare ampersand": (XML.replace("bats", "b&ts"), ":5: .*not well-formed"),
    "Latin-1 that says UTF-8": (XML.replace("bats", "b\xe4ts").encode("latin-1"), ":5: .*not well-formed"),
    "UTF-16 that says UTF-8": (XML.encode("utf-16"), ":1: .*encoding"),
    "an encoding of no one": (XML.replace("UTF-8", "klingon"), ":1: .*klingon"),
    "an instance without id": (XML.replace('id="d000.s000.t001" ', ""), ":6: instance None has no id"),
    "an instance twice": (XML.replace("t001", "t000"), ":6: instance 'd000.s000.t000' comes twice"),
    "an instance without gold": (XML.replace("t001", "t002"), ":6: instance 'd000.s000.t002' has no gold line"),
    "an instance without lemma": (XML.replace('lemma="look_up" ', ""), ":6: instance .* has no lemma"),
    "an unknown part of speech": (XML.replace("VERB", "PRON"), ":6: .*'PRON'. Allowed: NOUN VERB ADJ ADV"),
    "no part of speech": (XML.replace(' pos="VERB"', ""), ":6: .*part of speech None"),
    "a gold line without instance": (
        re.sub("<instance.*t001.*\n", "", XML),
        ": 1 gold lines have no instance in the XML, such as d000.s000.t001",
    ),
}  # fmt: skip


@table(REFUSED_XML)
def test_xml_is_refused_with_file_and_line(tmp_path, inventory, case):
    xml, message = case
    with pytest.raises(UserError, match=f"sets.zip:tiny/tiny.data.xml{message}"):
        build_xml(tmp_path, inventory, xml)
    assert not (tmp_path / "out.parquet").exists()


ODD_XML = {
    "UTF-16": XML.replace("UTF-8", "UTF-16").encode("utf-16"),
    "a byte order mark": XML.encode("utf-8-sig"),
    "CRLF": XML.replace("\n", "\r\n"),
    "Latin-1 that says so": XML.replace("UTF-8", "ISO-8859-1").encode("latin-1"),
    "an empty sentence": XML.replace("<sentence", '<sentence id="d000.s009"></sentence><sentence', 1),
    "markup inside a word": XML.replace("bats", "b<b>at</b>s"),
    "all on one line": XML.replace("\n", " "),
}


@table(ODD_XML)
def test_odd_xml_gives_the_same_instances(tmp_path, inventory, case):
    counts, instances = build_xml(tmp_path, inventory, case)
    assert instances == build_xml(tmp_path, inventory)[1]
    assert counts["sentences"] == (2 if "s009" in str(case) else 1)


def test_a_target_without_text_is_counted_and_its_lemma_stands_for_it(tmp_path, inventory):
    counts, (_, look_up) = build_xml(tmp_path, inventory, XML.replace("looked up", " "))
    assert counts["target_without_text"] == 1 and counts["instances"] == 2
    assert look_up.text == "The bats look up" and look_up.text[slice(*look_up.target_span)] == "look up"


GOLD_MISSING = {  # XML and gold key of the first instance; the reason
    "a lemma not in WordNet": ('lemma="zorb" pos="NOUN"', "zorb%1:05:00::", "no_candidates"),
    "a lemma not in WordNet as that part of speech": ('lemma="cave" pos="VERB"', "cave%1:17:00::", "no_candidates"),
    "a key not in WordNet": ('lemma="bat" pos="NOUN"', "bat%1:99:00::", "gold_not_in_wordnet"),
    "a BabelNet id": ('lemma="bat" pos="NOUN"', "bn:00008822n", "gold_not_in_wordnet"),
    "a key of another lemma": ('lemma="bat" pos="NOUN"', "flittermouse%1:05:00::", "gold_of_another_lemma"),
    "a key of another part of speech": ('lemma="bat" pos="NOUN"', "bat%2:35:00:: x%1", "gold_of_another_pos"),
}


@table(GOLD_MISSING)
def test_a_gold_that_is_no_candidate_is_kept_and_counted_by_its_reason(tmp_path, inventory, case, caplog):
    caplog.set_level("INFO")
    attributes, key, reason = case
    xml, gold = XML.replace('lemma="bat" pos="NOUN"', attributes), GOLD.replace("bat%1:05:00::", key)
    counts, instances = build_xml(tmp_path, inventory, xml, gold)
    assert len(instances) == 2 and counts["gold_missing"] == 1
    reasons = ("no_candidates", "gold_not_in_wordnet", "gold_of_another_lemma", "gold_of_another_pos")
    assert {name: counts[name] for name in reasons} == dict.fromkeys(reasons, 0) | {reason: 1}
    assert "tiny: 1 sentences, 2 instances, the gold of 1 not among the candidates (the" in caplog.text


def test_gold_keys_of_which_some_are_no_candidates_are_counted_apart(tmp_path, inventory, caplog):
    caplog.set_level("INFO")
    counts, _ = build_xml(tmp_path, inventory, gold=GOLD.replace("bat%1:05:00::", "bat%1:05:00:: bat%1:99:00::"))
    assert (counts["gold_missing"], counts["gold_partly_missing"]) == (0, 1)
    assert "the gold of 0 not among the candidates, of 1 in part" in caplog.text


def test_broken_archives_of_xml_are_refused(tmp_path, inventory):
    build_xml(tmp_path, inventory)
    (tmp_path / "out.parquet").unlink()
    for spoil in (lambda path: damaged(path, XML.encode()), cut):
        with pytest.raises(UserError, match=r"sets.zip is broken"):
            unified_wsd.build(spoil(tmp_path / "sets.zip"), "tiny", inventory, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


# --- gold and answer keys

REFUSED_KEYS = {
    "a line without key": (b"x a\ny\n", "f.txt:2: y has no sense key"),
    "an instance twice": (b"x a\n\nx b\n", "f.txt:3: x stands in the file twice"),
    "an unknown instance": (b"x a\nz a\n", "f.txt:2: z is not an instance"),
    "empty": (b"", "f.txt holds no instance"),
    "blank lines alone": (b"\n \r\n\n", "f.txt holds no instance"),
    "UTF-16": ("x a\n".encode("utf-16"), "f.txt:1: byte 1 of the line is not UTF-8"),
    "UTF-16 without a mark": ("x a\n".encode("utf-16-le"), "f.txt:1: zero bytes, as in UTF-16"),
    "Latin-1": ("x a\ny caf\xe9\n".encode("latin-1"), "f.txt:2: byte 6 of the line is not UTF-8. Save"),
}


@table(REFUSED_KEYS)
def test_keys_are_refused_with_file_and_line(case):
    content, message = case
    with pytest.raises(UserError, match=message):
        read_keys(text_lines(content, "f.txt"), "f.txt", known={"x", "y"})


@pytest.mark.parametrize("content", ["\ufeffx a\ny b\n", "x a\r\ny b", "x a\ry b\r", "x\ta\n\n\n y   b \n\n"])
def test_odd_key_files_are_read(content):
    assert read_keys(text_lines(content.encode(), "f.txt"), "f.txt") == {"x": ["a"], "y": ["b"]}


# --- SemCor's tag files

TAGS = """<contextfile concordance=brown>
<s snum=1>
<wf cmd=ignore pos=DT>The</wf>
<wf cmd=done pos=NN lemma=bat wnsn=1 lexsn=1:05:00::>bat</wf>
<punc>.</punc>
</s>
</contextfile>
"""
REFUSED_TAGS = {
    "wnsn of more parts than lexsn": (TAGS.replace("wnsn=1", "wnsn=1;2"), ":4: .*wnsn=1;2 beside lexsn=1:05:00::"),
    "no lemma": (TAGS.replace("lemma=bat ", ""), ":4: .*no lemma"),
    "no lexsn": (TAGS.replace(" lexsn=1:05:00::", ""), ":4: .*no lexsn"),
    "an unknown part of speech in lexsn": (TAGS.replace("=1:05", "=7:05"), ":4: .*lexsn=7:05:00::, which must begin"),
    "a target without text": (TAGS.replace(">bat<", "><"), ":4: .*no text"),
    "a word without end": (TAGS.replace("bat</wf>", "bat"), ":4: a <wf> or <punc> has no end"),
    "a sentence twice": (TAGS.replace("</s>\n", "</s>\n<s snum=1>\n</s>\n"), ":7: sentence 1 comes twice"),
    "a sentence without end": (TAGS.replace("</s>\n", "<s snum=2>\n</s>\n"), ":6: sentence 2 .*does not end"),
    "cut in the middle": (TAGS[: TAGS.index("<punc>")], ":4: the tag file ends inside a sentence"),
    "empty": ("", ":0: the tag file .*has none"),
    "UTF-16": (TAGS.encode("utf-16"), "the tag file .*has none"),
}


def tags_archive(folder, *contents):
    path = folder / "semcor3.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for number, content in enumerate(contents):
            content = content.encode("latin-1") if isinstance(content, str) else content
            member = tarfile.TarInfo(f"semcor3.0/brown{number + 1}/tagfiles/br-x01")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@table(REFUSED_TAGS)
def test_tag_files_are_refused_with_file_and_line(tmp_path, inventory, case):
    content, message = case
    with pytest.raises(UserError, match=f"semcor3.0.tar.gz:semcor3.0/brown1/tagfiles/br-x01.*{message}"):
        semcor_tags.build(tags_archive(tmp_path, content), inventory, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_letters_that_end_a_line_elsewhere_end_none_in_a_tag_file(tmp_path, inventory):
    odd = TAGS.replace(">The<", ">Th\x85\x1ee<").replace("\n", "\r\n")
    semcor_tags.build(tags_archive(tmp_path, odd), inventory, tmp_path / "out.parquet")
    (instance,) = read_records(tmp_path / "out.parquet", TextualInstance)
    assert instance.tokens[-2:] == ["bat", "."] and instance.target_end == len(instance.tokens) - 1


def test_broken_archives_of_tag_files_are_refused(tmp_path, inventory):
    out = tmp_path / "out.parquet"
    with pytest.raises(UserError, match=r"semcor3.0.tar.gz: the tag file br-x01 is there twice"):
        semcor_tags.build(tags_archive(tmp_path, TAGS, TAGS), inventory, out)
    path = tags_archive(tmp_path, TAGS + os.urandom(20_000).decode("latin-1").replace("<", ""))
    with pytest.raises(UserError, match=r"semcor3.0.tar.gz is broken or no zip or tar archive"):
        semcor_tags.build(cut(path), inventory, out)
    path.write_bytes(gzip.compress(b"no tar archive"))
    with pytest.raises(UserError, match=r"semcor3.0.tar.gz is broken or no zip or tar archive"):
        semcor_tags.build(path, inventory, out)
    assert not out.exists()


# --- the texts of VWSD

IMAGES = [f"image.{number}.jpg" for number in range(10)]
LINE = "\t".join(["bat", "winged bat", *IMAGES])
REFUSED_VWSD = {  # data, gold, message
    "nine images": (LINE.rpartition("\t")[0], IMAGES[0], "data.txt:1: 9 distinct images in 9 where ten"),
    "eleven images": (LINE + "\timage.10.jpg", IMAGES[0], "data.txt:1: 11 distinct images in 11"),
    "an image twice": (LINE.replace("image.9", "image.8"), IMAGES[0], "data.txt:1: 9 distinct images in 10"),
    "spaces for tabs": (LINE.replace("\t", " "), IMAGES[0], "data.txt:1: 0 distinct images"),
    "no word": (LINE.replace("bat\t", "\t", 1), IMAGES[0], "data.txt:1: .*or an empty field"),
    "a word of marks alone": (LINE.replace("bat\t", "\u200e\t", 1), IMAGES[0], "data.txt:1: .*or an empty field"),
    "a blank line in the middle": (f"{LINE}\n\n{LINE}", f"{IMAGES[0]}\n\n{IMAGES[0]}", "data.txt:2: 0 distinct images"),
    "a blank line in front": (f"\n{LINE}", f"\n{IMAGES[0]}", "data.txt:1: 0 distinct"),
    "a gold that is none of the ten": (LINE, "image.77.jpg", "gold.txt:1: 'image.77.jpg' is not one of the line's ten"),
    "a gold in other case": (LINE, "image.0.JPG", "gold.txt:1: 'image.0.JPG' is not one of the line's ten"),
    "a blank gold line": (f"{LINE}\n{LINE}", f"\n{IMAGES[0]}", "gold.txt:1: '' is not one"),
    "more gold than data": (LINE, f"{IMAGES[0]}\n{IMAGES[0]}", "data.txt has 1 lines and .*gold.txt 2"),
    "empty": ("", "", "data.txt is empty. A line is word, phrase and ten"),
    "Latin-1": (LINE.replace("winged", "ge\xf1").encode("latin-1"), IMAGES[0], "data.txt:1: byte 7 of the line is not"),
    "UTF-16": (LINE.encode("utf-16"), IMAGES[0], "data.txt:1: byte 1 of the line is not UTF-8"),
}  # fmt: skip


def vwsd_archive(folder, data=LINE, gold=IMAGES[0], **others):
    return zipped(folder / "vwsd.zip", {"en.test.data.txt": data, "en.test.gold.txt": gold} | others)


@table(REFUSED_VWSD)
def test_vwsd_texts_are_refused_with_file_and_line(tmp_path, case):
    data, gold, message = case
    with pytest.raises(UserError, match=f"vwsd.zip:en.test.{message}"):
        vwsd.build(vwsd_archive(tmp_path, data, gold), "test", "en", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


ODD_VWSD = {
    "marks of direction": LINE.replace("bat\t", "\u200ebat\u200f\t").replace("winged", "\u202bwinged\u202c"),
    "a byte order mark inside": LINE.replace("winged", "\ufeffwinged"),
    "a byte order mark in front": "\ufeff" + LINE,
    "CRLF": LINE + "\r\n",
    "blank lines at the end": LINE + "\n\n \n",
    "spaces around": LINE.replace("\t", " \t "),
}


@table(ODD_VWSD)
def test_odd_vwsd_texts_are_read(tmp_path, case):
    assert vwsd.read_instances(vwsd_archive(tmp_path, case), "test", "en") == vwsd.read_instances(
        vwsd_archive(tmp_path), "test", "en"
    )


def test_marks_inside_a_word_that_say_how_to_write_it_stay(tmp_path):
    joined = "\u0645\u200c\u0646"
    (instance,) = vwsd.read_instances(vwsd_archive(tmp_path, LINE.replace("bat", joined, 1)), "test", "en")
    assert instance.word == joined


def test_pictures_of_another_case_are_counted_as_missing(tmp_path):
    files = {f"test_images/{name}": b"" for name in (*IMAGES[1:], "image.0.JPG")}
    counts = vwsd.build(vwsd_archive(tmp_path, **files), "test", "en", tmp_path / "out.parquet")
    assert (counts["images_missing"], counts["instances_missing_gold_image"]) == (1, 1)


def test_broken_archives_of_vwsd_are_refused(tmp_path):
    twice = vwsd_archive(tmp_path, **{"b/en.test.data.v2.txt": LINE})
    with pytest.raises(UserError, match=r"holds the data of split test in en twice: en.test.data.txt, b/en"):
        vwsd.read_instances(twice, "test", "en")
    with pytest.raises(UserError, match=r"vwsd.zip is broken .*en.test.data.txt"):
        vwsd.read_instances(damaged(vwsd_archive(tmp_path), LINE.encode()), "test", "en")
    with pytest.raises(UserError, match=r"vwsd.zip is broken"):
        vwsd.read_instances(cut(vwsd_archive(tmp_path)), "test", "en")


# --- metadata of senses with pictures

ROW = {
    "word": "bats",
    "words": ["bats", "sleep"],
    "sentence": "bats sleep",
    "token_id": "0",
    "gold_labels": ["bat%1:05:00::"],
    "gold_gloss": ["a winged animal"],
    "candidate_labels": ["bat%1:05:00::", "bat%1:06:00::"],
    "candidate_gloss": ["a winged animal", "a club"],
    "candidate_image_path": {"bat%1:05:00::": ["D:\\all\\bat.jpg"], "bat%1:06:00::": ["/data/club.png"]},
}
MALFORMED_ROWS = {
    "a missing key": {key: value for key, value in ROW.items() if key != "gold_labels"},
    "a number for the row": 3,
    "a list for the row": [ROW],
    "null for the row": None,
    "null for the word": ROW | {"word": None},
    "an empty word": ROW | {"word": " _ "},
    "a number among the words": ROW | {"words": ["bats", 3]},
    "a map for the words": ROW | {"words": {"bats": 1}},
    "null for the gold": ROW | {"gold_labels": None},
    "a map for the gold": ROW | {"gold_labels": {"bat%1:05:00::": 1}},
    "null for the candidates": ROW | {"candidate_labels": None},
    "texts for lists": ROW | {"candidate_labels": "ab", "candidate_gloss": "ab"},
    "an empty label": ROW | {"candidate_labels": ["bat%1:05:00::", ""]},
    "fewer glosses than labels": ROW | {"candidate_gloss": ["a winged animal"]},
    "a list for the images": ROW | {"candidate_image_path": []},
    "a text for the list of images": ROW | {"candidate_image_path": {"bat%1:05:00::": "bat.jpg"}},
    "a number for an image": ROW | {"candidate_image_path": {"bat%1:05:00::": [1]}},
}
TWICE = {
    "gold_labels": ["bn:1n"],
    "gold_gloss": ["of no one"],
    "candidate_labels": ["bn:1n", "bn:1n"],
    "candidate_gloss": ['a winged animal of the night (some say "a mouse with wings")', "of no one"],
    "candidate_image_path": {"bn:1n": ["bat.jpg"]},
}
READ_ROWS = {  # the images that the gold sense then has
    "as it should be": (ROW, ["bat.jpg"]),
    "null for a sense's images": (ROW | {"candidate_image_path": {"bat%1:05:00::": None}}, []),
    "a label twice, once with the gloss of no one": (ROW | TWICE, ["bat.jpg"]),
    "images elsewhere": (
        ROW | {"candidate_image_path": {"bat%1:05:00::": ["../../a.jpg", "/etc/b.jpg", "..\\..\\c.jpg", "..", ""]}},
        ["a.jpg", "b.jpg", "c.jpg"],
    ),
    "half a surrogate pair": (ROW | {"sentence": "bats \ud800 sleep"}, ["bat.jpg"]),
}  # fmt: skip


def build_rows(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    names = ["bat.jpg", "a.jpg", "b.jpg", "c.jpg", "unasked.jpg"]
    images = zipped(folder / "images.zip", {f"../../{name}": b"a picture" for name in names})
    outputs = {name: folder / "out" / f"{name}.parquet" for name in ("train", "phrases", "shown")}
    files = (folder / "rows.json", outputs, folder / "counts.json")
    image_senses.build(tiny_inventory(folder), *files, "image_semcor")
    unpacked = folder / "out" / "files"
    of_pictures = (unpacked, folder / "out" / "pictures.parquet", folder / "skipped.json")
    image_senses.build_pictures(outputs["shown"], images, *of_pictures, "image_semcor")
    return read_json(folder / "counts.json"), list(read_records(outputs["train"], TextualInstance)), unpacked


@table(MALFORMED_ROWS)
def test_malformed_rows_are_skipped_and_counted(tmp_path, case):
    counts, instances, _ = build_rows(tmp_path, case, ROW)
    assert counts["skipped_malformed"] == 1 and [i.instance_id for i in instances] == ["image_semcor.1"]


@table(READ_ROWS)
def test_odd_rows_are_read_and_their_pictures_stay_in_the_folder(tmp_path, case):
    row, images = case
    counts, (instance,), folder = build_rows(tmp_path / "deep" / "er", row)
    assert counts["skipped_malformed"] == 0 and instance.gold == ["bat%1:05:00::"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(images)
    assert not list(tmp_path.glob("*.jpg")) and not list(tmp_path.glob("deep/*.jpg"))


REFUSED_JSON = {
    "cut off": (json.dumps([ROW, ROW])[:-20], "rows.json is broken or cut off after instance 1 "),
    "NaN": (json.dumps([ROW, ROW | {"token_id": float("nan")}]), "rows.json is broken .* after instance 1 "),
    "words after the end": (json.dumps([ROW]) + " and so on", "rows.json is broken .* after instance 1 "),
    "a number of 5,000 digits": (f"[{'9' * 5000}]", "rows.json is broken .* after instance 0 "),
    "not UTF-8": (json.dumps([ROW]).replace("sleep", "sl\xe9ep").encode("latin-1"), "rows.json is broken .*instance 0"),
    "UTF-16": (json.dumps([ROW]).encode("utf-16"), "rows.json is no JSON file"),
    "an HTML page": ("<!DOCTYPE html>", "rows.json is no JSON file of instances: it begins with b'<'"),
    "empty": ("", "rows.json is no JSON file"),
}  # fmt: skip


@table(REFUSED_JSON)
def test_broken_json_is_refused_with_the_last_instance(tmp_path, case):
    content, message = case
    (tmp_path / "rows.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        list(read_metadata(tmp_path / "rows.json"))


def test_json_in_a_broken_zip_is_refused(tmp_path):
    content = json.dumps([ROW | {"sentence": os.urandom(9000).hex()}])
    for spoil in (lambda path: damaged(path, content.encode()), cut):
        with pytest.raises(UserError, match=r"packed.zip is broken"):
            list(read_metadata(spoil(zipped(tmp_path / "packed.zip", {"rows.json": content}))))


# --- archives of pictures


def pictures_archive(path, **kinds):
    with tarfile.open(path, "w") as archive:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f"{name}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO())
    return path


def test_what_is_no_picture_in_an_archive_is_left_there(tmp_path):
    archive = pictures_archive(tmp_path / "a.tar", folder=tarfile.DIRTYPE, p=tarfile.REGTYPE)
    assert unpack_pictures(archive, tmp_path / "out", str, str) == ({"p.jpg": "p.jpg"}, 0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p.jpg"]


def test_a_link_among_pictures_is_refused(tmp_path):
    archive = pictures_archive(tmp_path / "a.tar", p=tarfile.REGTYPE, link=tarfile.SYMTYPE)
    with pytest.raises(UserError, match=r"a.tar: link.jpg is a link"):
        unpack_pictures(archive, tmp_path / "out", str, str)
    assert not (tmp_path / "out").exists()


def test_broken_archives_of_pictures_are_refused_and_leave_nothing(tmp_path):
    picture = os.urandom(5000)
    archive = zipped(tmp_path / "a.zip", {"test_images/a.jpg": picture})
    with pytest.raises(UserError, match=r"a.zip is broken"):
        unpack_pictures(cut(archive), tmp_path / "out", str, str)
    with pytest.raises(UserError, match=r"a.zip is broken"):
        vwsd.unpack_pictures({"test": archive}, tmp_path / "out", tmp_path / "t.parquet")
    assert not (tmp_path / "out").exists() and not (tmp_path / "t.parquet").exists()


# --- pictures

RED = (255, 0, 0)


def saved(name, picture, **how):
    return lambda path: picture.save(path, format=name, **how)


def content(*parts):
    return lambda path: path.write_bytes(b"".join(parts))


def png(width, height, depth, kind, rows):
    """A PNG by hand, for what the library does not write."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = (head, b"IDAT" + zlib.compress(rows), b"IEND")
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def turned():
    """Left half red, right half blue as a camera on its side stored it (orientation 6: turn to the right)."""
    stored = Image.new("RGB", (40, 20), "blue")
    stored.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored, exif


GREY = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
FRAMES = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
PALETTE = Image.new("P", (4, 4), 1)
PALETTE.putpalette([0, 255, 0, 255, 0, 0])
WIDE = Image.new("RGB", (30_000, 200), RED)
READ_PICTURES = {  # how the file is made, size, colour in the middle
    "16-bit grey": (saved("PNG", GREY), (4, 4), (128, 128, 128)),
    "16-bit colour": (content(png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0xFFFF, 0x8000, 0))), (1, 1), (255, 128, 0)),
    "CMYK": (saved("JPEG", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100), (8, 8), (255, 0, 0)),
    "a moving GIF": (saved("GIF", FRAMES[0], save_all=True, append_images=FRAMES[1:]), (4, 4), RED),
    "a moving WebP": (saved("WEBP", FRAMES[0], save_all=True, append_images=FRAMES[1:], lossless=True), (4, 4), RED),
    "one pixel": (saved("PNG", Image.new("RGB", (1, 1), RED)), (1, 1), RED),
    "a side of 30,000 pixels": (saved("PNG", WIDE), (30_000, 200), RED),
    "a palette with transparency": (saved("PNG", PALETTE, transparency=1), (4, 4), (255, 255, 255)),
    "a PNG named .jpg": (saved("PNG", Image.new("RGB", (4, 4), RED)), (4, 4), RED),
    "turned by its camera": (saved("PNG", turned()[0], exif=turned()[1]), (20, 40), (0, 0, 255)),
    "a broken camera's note": (saved("JPEG", Image.new("L", (8, 8), 9), exif=b"Exif\0\0MM\0*\0"), (8, 8), (9, 9, 9)),
}  # fmt: skip
DDS = b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 16, 0, 0) + bytes(44) + struct.pack("<I", 32) + bytes(48)
JPEG = io.BytesIO()
Image.effect_noise((64, 64), 90).save(JPEG, "JPEG")
UNUSABLE_PICTURES = {
    "a cut JPEG": (content(JPEG.getvalue()[:1500]), "cannot be decoded"),
    "no byte": (content(b""), "cannot be decoded"),
    "a text": (content(b"<html>Not found</html>"), "cannot be decoded"),
    "an SVG": (content(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'), "cannot be decoded"),
    "a DDS of no pixel format": (content(DDS), "cannot be decoded"),
    "noise": (content(b"\x89PNG\r\n\x1a\n", bytes(range(256))), "cannot be decoded"),
    "sides of 30,000 pixels": (content(png(30_000, 30_000, 8, 2, b"")), "too large"),
    "a side of 30,000 pixels, a row high": (saved("PNG", Image.new("RGB", (30_000, 1))), "too thin"),
    "no pixel": (content(png(0, 0, 8, 2, b"")), "cannot be decoded"),
    "32-bit grey": (saved("TIFF", Image.new("I", (4, 4), 70_000)), "pixels of 32 bits"),
    "a folder": (lambda path: path.mkdir(), "cannot be read"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "missing"),
}


@table(READ_PICTURES)
def test_odd_pictures_are_read_as_they_look(tmp_path, case):
    make, size, colour = case
    make(tmp_path / "p.jpg")
    picture = read_picture(tmp_path / "p.jpg")
    assert not isinstance(picture, str) and (picture.mode, picture.size) == ("RGB", size)
    assert picture.getpixel((size[0] // 2, size[1] * 3 // 4)) == colour


@table(UNUSABLE_PICTURES)
def test_unusable_pictures_are_skipped_by_reason(tmp_path, case):
    make, reason = case
    make(tmp_path / "p.jpg")
    assert read_picture(tmp_path / "p.jpg") == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read"),
        (RuntimeError("Failed to decode image: Missing or empty image item"), "cannot be decoded"),  # AVIF
        (MemoryError(), "cannot be decoded"),  # JPEG 2000 whose header claims very many tiles
    ],
)
def test_whatever_error_a_picture_ends_in_is_a_reason(tmp_path, monkeypatch, error, reason):
    def refuse(path):
        raise error

    monkeypatch.setattr("PIL.Image.open", refuse)
    assert read_picture(tmp_path / "p.jpg") == reason


# --- WordNet's files

REFUSED_WORDNET = {  # file, what is replaced by what, message
    "a line of two words": ("index.sense", "cave%1:17:00:: 00000103", "cave", "index.sense:7: not in Princeton's"),
    "a key without %": ("index.sense", "cave%1:17:00::", "cave", "index.sense:7: not in Princeton's"),
    "an unknown part of speech": ("index.sense", "cave%1:17", "cave%8:17", "index.sense:7: not in Princeton's .*'8'"),
    "a key twice": ("index.sense", "cave%1:17:00:: 00000103", "mouse%1:05:00:: 00000104", "stands there twice"),
    "a sense of no synset": ("index.sense", "00000103", "00000999", "cave%1:17:00:: has no synset 00000999-n"),
    "a synset cut off": ("data.noun", "17 n 01 cave 0 000 | a hollow under a hill", "", "data.noun:5: not in"),
    "a synset of an unknown file": ("data.noun", "00000103 17", "00000103 99", "data.noun:5: not in .*'99'"),
    "names cut off": ("lexnames", "adj.all\t3", "", "lexnames:1: not in Princeton's"),
    "Latin-1": ("data.noun", "cave", "c\xe4ve", "cannot be read as an archive of WordNet .*utf-8"),
}  # fmt: skip


@table(REFUSED_WORDNET)
def test_wordnet_files_are_refused_with_file_and_line(tmp_path, case):
    name, old, new, message = case
    shutil.copytree(FOLDER, tmp_path / "dict")
    text = (tmp_path / "dict" / name).read_text()
    assert old in text
    (tmp_path / "dict" / name).write_text(text.replace(old, new), encoding="latin-1")
    with pytest.raises(UserError, match=f"dict.*{message}"):
        build_inventory(tmp_path / "dict", tmp_path / "senses", tmp_path / "synsets", counts=COUNTS)
    assert not (tmp_path / "senses").exists() and not (tmp_path / "synsets").exists()


def test_broken_archives_of_wordnet_are_refused(tmp_path):
    members = {f"dict/{file.name}": file.read_bytes() for file in FOLDER.iterdir()}
    for spoil in (lambda path: damaged(path, members["dict/data.noun"]), cut):
        with pytest.raises(UserError, match=r"wordnet.zip cannot be read as an archive of WordNet"):
            build_inventory(spoil(zipped(tmp_path / "wordnet.zip", members)), tmp_path / "s", tmp_path / "y", COUNTS)


# --- prediction files of any system, by `polclip score`

TEN = "\t".join(IMAGES)
REFUSED_PREDICTIONS = {  # task, gold, predictions, message
    "an unknown instance": ("textual", GOLD, GOLD + "d9 bat%1:05:00::\n", "pred.txt:3: d9 is not an instance"),
    "an instance twice": ("textual", GOLD, GOLD + GOLD, "pred.txt:3: d000.s000.t000 stands in the file twice"),
    "an empty answer": ("textual", GOLD, "d000.s000.t000 \n", "pred.txt:1: d000.s000.t000 has no sense key"),
    "no answer at all": ("textual", GOLD, "\n", "pred.txt holds no instance"),
    "answers in UTF-16": ("textual", GOLD, GOLD.encode("utf-16"), "pred.txt:1: byte 1 of the line is not UTF-8"),
    "a gold in Latin-1": ("textual", (GOLD + "d9 \xe9").encode("latin-1"), GOLD, "gold.txt:3: byte 4 of the line"),
    "nine pictures": ("visual", IMAGES[0], "\t".join(IMAGES[:9]), "pred.txt:1: the ranking is of 9 names"),
    "eleven pictures": ("visual", IMAGES[0], TEN + "\timage.10.jpg", "pred.txt:1: the ranking is of 11 names"),
    "ten and one again": ("visual", IMAGES[0], f"{TEN}\t{IMAGES[9]}", "pred.txt:1: the ranking is of 11 names"),
    "a picture twice": ("visual", IMAGES[0], TEN.replace("image.9", "image.8"), "pred.txt:1: .*a picture twice"),
    "without the gold": ("visual", "image.77.jpg", TEN, "pred.txt:1: the ranking .*lacks the gold image.77.jpg"),
    "spaces for tabs": ("visual", IMAGES[0], TEN.replace("\t", " "), "pred.txt:1: the ranking is of 1 names"),
    "a blank ranking": ("visual", f"{IMAGES[0]}\n{IMAGES[0]}", f"\n{TEN}", "pred.txt:1: the ranking is of 1 names"),
    "a blank gold line": ("visual", f"\n{IMAGES[0]}", f"{TEN}\n{TEN}", "gold.txt:1: a blank line"),
    "a ranking too few": ("visual", f"{IMAGES[0]}\n{IMAGES[0]}", TEN, "pred.txt has 1 lines, .*gold.txt 2"),
    "both empty": ("visual", "", "", "pred.txt has 0 lines"),
    "rankings in UTF-16": ("visual", IMAGES[0], TEN.encode("utf-16"), "pred.txt:1: byte 1 of the line is not UTF-8"),
}  # fmt: skip


def scored(folder, task, gold, predictions):
    for name, text in (("gold.txt", gold), ("pred.txt", predictions)):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return CliRunner().invoke(app, ["score", task, str(folder / "gold.txt"), str(folder / "pred.txt"), "--json"])


@table(REFUSED_PREDICTIONS)
def test_predictions_are_refused_with_file_and_line(tmp_path, case):
    *given, message = case
    result = scored(tmp_path, *given)
    assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr
    assert re.match(f"polclip: .*{message}", result.stderr), result.stderr


ODD_PREDICTIONS = {  # task, gold, predictions, figures
    "a key of another lemma": ("textual", GOLD, GOLD.replace("bat%1:05:00::", "cave%1:17:00::"), {"f1": 50, "n": 2}),
    "a key of no one": ("textual", GOLD, GOLD.replace("bat%1:05:00::", "nonsense"), {"f1": 50, "answered": 2}),
    "marks and CRLF": ("textual", "\ufeff" + GOLD, "\ufeff" + GOLD.replace("\n", "\r\n\r\n"), {"f1": 100}),
    "a gold of no sense key": ("textual", "x nonsense\n", "x nonsense\n", {"f1": 100, "subsets": {}}),
    "spaces and CRLF": ("visual", IMAGES[0] + " \r\n", TEN.replace("\t", " \t") + "\r\n", {"hr@1": 100}),
}  # fmt: skip


@table(ODD_PREDICTIONS)
def test_odd_predictions_are_scored(tmp_path, case):
    *given, figures = case
    result = scored(tmp_path, *given)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert {name: found[name] for name in figures} == figures


INSTANCE = VisualInstance("q", "en", "bat", "winged bat", [f"p{n}" for n in range(10)], "p0")
GOOD_ROW = {"instance_id": "q", "candidates": ["p0", "p1"], "scores": [2.0, 1.0]}
REFUSED_ROWS = {
    "cut off": (json.dumps(GOOD_ROW)[:-5], ":1: not a JSON value"),
    "Latin-1": (b'{"instance_id": "\xe9"}', ":1: not a JSON value in UTF-8"),
    "no map": ("[1]", ":1: a line needs instance_id, candidates and scores"),
    "no scores": ('{"instance_id": "q", "candidates": []}', ":1: a line needs"),
    "null for the candidates": (json.dumps(GOOD_ROW | {"candidates": None}), ":1: a line needs"),
    "a text for a score": (json.dumps(GOOD_ROW | {"scores": ["high", 1]}), ":1: a line needs"),
    "a list for the id": (json.dumps(GOOD_ROW | {"instance_id": ["q"]}), ":1: a line needs"),
    "NaN": (json.dumps(GOOD_ROW | {"scores": [float("nan"), 1]}), ":1: .*scores that do not go down"),
    "an unknown picture": (json.dumps(GOOD_ROW | {"candidates": ["p0", "x"]}), ":1: .*that it does not have"),
    "an instance twice": (f"{json.dumps(GOOD_ROW)}\n{json.dumps(GOOD_ROW)}", ":2: instance 'q' comes twice"),
    "an unknown instance": (json.dumps(GOOD_ROW | {"instance_id": "x"}), ":1: instance 'x' is not in the benchmark"),
}  # fmt: skip


@table(REFUSED_ROWS)
def test_rows_of_predictions_are_refused_with_file_and_line(tmp_path, case):
    text, message = case
    (tmp_path / "pred.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"pred.jsonl{message}"):
        read_predictions(tmp_path / "pred.jsonl", [INSTANCE])


# --- records

TEXTUAL = {
    "instance_id": "x", "sentence_id": "s", "tokens": ["bat"], "target_start": 0, "target_end": 1,
    "lemma": "bat", "pos": "n", "candidates": ["bat%1:05:00::"], "gold": ["bat%1:05:00::"],
}  # fmt: skip
REFUSED_RECORDS = {
    "other records": (pa.table({"name": ["p"]}), "no TextualInstance records: instance_id, .* Found: name"),
    "a text for a list": (pa.Table.from_pylist([TEXTUAL | {"gold": "x"}]), "no TextualInstance records: gold is not"),
    "a text for a number": (pa.Table.from_pylist([TEXTUAL | {"target_start": "0"}]), "records: target_start is not"),
    "null for a list": (
        pa.Table.from_pylist([TEXTUAL, TEXTUAL | {"candidates": None}], SCHEMAS[TextualInstance]),
        "a TextualInstance record has no candidates",
    ),
    "no Parquet": (b"PAR1 and nothing more", "is no Parquet file, or broken"),
    "empty": (b"", "is no Parquet file, or broken"),
    "not there": (None, "There is no file .*records.parquet"),
}  # fmt: skip


@table(REFUSED_RECORDS)
def test_records_are_refused_with_their_file(tmp_path, case):
    given, message = case
    path = tmp_path / "records.parquet"
    if isinstance(given, bytes):
        path.write_bytes(given)
    elif given is not None:
        pq.write_table(given, path)
    with pytest.raises(UserError, match=message):
        list(read_records(path, TextualInstance))


def test_cut_records_are_refused_and_more_columns_are_left_out(tmp_path):
    path = tmp_path / "records.parquet"
    pq.write_table(pa.Table.from_pylist([TEXTUAL | {"more": 1}]), path)
    assert [vars(record) for record in read_records(path, TextualInstance)] == [TEXTUAL]
    with pytest.raises(UserError, match=r"records.parquet is no Parquet file, or broken"):
        list(read_records(cut(path), TextualInstance))
