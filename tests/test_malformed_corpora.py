"""Malformed corpora and WordNet files, reader by reader: a table of what is wrong and what comes of it.

What is refused ends in a UserError that names the file and, where there is one, the line, member or instance; nothing
is written then. What can be done without is skipped and counted. What is merely odd is read as it was meant.
"""

import gzip
import io
import os
import re
import shutil
import tarfile

import pytest
from malformed import cut, damaged, table, zipped
from tiny_wordnet import COUNTS, FOLDER, tiny_inventory

from polclip.corpora import semcor_tags, unified_wsd, vwsd
from polclip.corpora.key_files import read_keys
from polclip.corpora.text_lines import text_lines
from polclip.errors import UserError
from polclip.inventory import build_inventory
from polclip.records import TextualInstance, read_records


@pytest.fixture
def inventory(tmp_path):
    return tiny_inventory(tmp_path)


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
    "an unknown part of speech": (XML.replace("VERB", "PRON"), ":6: .*'PRON'. Allowed: n v a r, or a tag such as NOUN"),
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
        read_keys(text_lines(content, "f.txt"), "f.txt")


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
        semcor_tags.build(
            tags_archive(tmp_path, content), inventory, tmp_path / "out.parquet", tmp_path / "dev.parquet"
        )
    assert not (tmp_path / "out.parquet").exists()


def test_letters_that_end_a_line_elsewhere_end_none_in_a_tag_file(tmp_path, inventory):
    odd = TAGS.replace(">The<", ">Th\x85\x1ee<").replace("\n", "\r\n")
    semcor_tags.build(tags_archive(tmp_path, odd), inventory, tmp_path / "out.parquet", tmp_path / "dev.parquet")
    (instance,) = read_records(tmp_path / "out.parquet", TextualInstance)
    assert instance.tokens[-2:] == ["bat", "."] and instance.target_end == len(instance.tokens) - 1


def test_broken_archives_of_tag_files_are_refused(tmp_path, inventory):
    out = tmp_path / "out.parquet"
    with pytest.raises(UserError, match=r"semcor3.0.tar.gz: the tag file br-x01 is there twice"):
        semcor_tags.build(tags_archive(tmp_path, TAGS, TAGS), inventory, out, tmp_path / "dev.parquet")
    path = tags_archive(tmp_path, TAGS + os.urandom(20_000).decode("latin-1").replace("<", ""))
    with pytest.raises(UserError, match=r"semcor3.0.tar.gz is broken or no zip or tar archive"):
        semcor_tags.build(cut(path), inventory, out, tmp_path / "dev.parquet")
    path.write_bytes(gzip.compress(b"no tar archive"))
    with pytest.raises(UserError, match=r"semcor3.0.tar.gz is broken or no zip or tar archive"):
        semcor_tags.build(path, inventory, out, tmp_path / "dev.parquet")
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


# --- WordNet's files

REFUSED_WORDNET = {  # file, what is replaced by what, message
    "a line of two words": ("index.sense", "cave%1:17:00:: 00000103", "cave", "index.sense:7: not in Princeton's"),
    "a key without %": ("index.sense", "cave%1:17:00::", "cave", "index.sense:7: not in Princeton's"),
    "an unknown part of speech": ("index.sense", "cave%1:17", "cave%8:17", "index.sense:7: not in Princeton's .*'8'"),
    "a key twice": ("index.sense", "cave%1:17:00:: 00000103", "mouse%1:05:00:: 00000104", "stands there twice"),
    "a sense of no synset": ("index.sense", "00000103", "00000999", "cave%1:17:00:: has no synset 00000999-n"),
    "a synset cut off": ("data.noun", "17 n 01 cave 0 000 | a hollow under a hill", "", "data.noun:5: not in"),
    "a synset of an unknown file": ("data.noun", "00000103 17", "00000103 99", "data.noun:5: not in .*'99'"),
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
