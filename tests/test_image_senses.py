import json
import tracemalloc
import zipfile

import pytest
from tiny_wordnet import tiny_inventory

from polclip.corpora import image_senses
from polclip.corpora.image_metadata import read_metadata
from polclip.errors import UserError
from polclip.files import read_json
from polclip.records import Phrase, Picture, TextualInstance, read_records

ANIMAL = 'a winged animal of the night (some say "a mouse with wings")'
CLUB = "a club for hitting a ball"
HIT = "hit with a bat"
AS_IN_BABELNET = ANIMAL.replace('"', "\u201d").upper() + "."


def _row(**changes):
    row = {
        "word": "bats",
        "words": ["Bats", "sleep", "in", "the", "bats", "cave"],
        "sentence": "Bats sleep in the bats cave",
        "token_id": "d000.s000.t001",
        "gold_labels": ["bn:1n"],
        "gold_gloss": [AS_IN_BABELNET],
        "candidate_labels": ["bn:1n", "bn:2n", "bn:3v", "bn:9n"],
        "candidate_gloss": [AS_IN_BABELNET, CLUB, HIT, "a superhero of comics"],
        "candidate_image_path": {
            "bn:1n": ["D:\\all images\\bat_1.jpg", "D:\\all images\\bat_2.JPG"],
            "bn:2n": ["/data/club.png", "/data/not_packed.png"],
            "bn:3v": [],
            "bn:9n": ["D:\\all images\\batman.jpg", "D:\\all images\\bat_1.jpg"],
        },
    }
    return row | changes


def _zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


PICTURES = {
    "images/a/bat_1.jpg": b"one",
    "images/b/bat_1.jpg": b"another of the same name",
    "images/bat_2.JPG": b"two",
    "../../club.png": b"club",
    "images/batman.jpg": b"hero",
    "images/unasked.jpg": b"-",
}


def _build(folder, rows, corpus="image_semcor", pictures=PICTURES):
    metadata = folder / "metadata.json"
    metadata.write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
    outputs = {name: folder / "out" / f"{name}.parquet" for name in ("train", "phrases", "shown")}
    image_senses.build(tiny_inventory(folder), metadata, outputs, folder / "counts.json", corpus)
    archive = _zip(folder / "images.zip", pictures)
    outputs |= {"pictures": folder / "out" / "pictures.parquet", "folder": folder / "out" / "files"}
    of_pictures = (outputs["folder"], outputs["pictures"], folder / "skipped.json", corpus)
    image_senses.build_pictures(outputs["shown"], archive, *of_pictures)
    return outputs, read_json(folder / "counts.json") | read_json(folder / "skipped.json")


def test_labels_are_matched_by_gloss(tmp_path):
    outputs, counts = _build(tmp_path, [_row()])
    (instance,) = read_records(outputs["train"], TextualInstance)
    assert (instance.instance_id, instance.lemma, instance.pos) == ("image_semcor.0", "bat", "n")
    assert instance.gold == ["bat%1:05:00::"]
    assert instance.candidates == ["bat%1:05:00::", "bat%1:06:00::"]  # WordNet's, the verb is no rival of a noun
    assert instance.text[slice(*instance.target_span)] == "Bats"
    assert counts["labels"] == 4 and counts["labels_not_in_wordnet"] == 1
    assert list(read_records(outputs["phrases"], Phrase)) == []


def test_pictures_of_matched_senses_are_unpacked_flat(tmp_path):
    outputs, counts = _build(tmp_path, [_row()])
    pictures = {picture.picture_id: picture for picture in read_records(outputs["pictures"], Picture)}
    assert {name: picture.synset_id for name, picture in pictures.items()} == {
        "image_semcor:bat_1.jpg": "00000101-n",
        "image_semcor:bat_2.JPG": "00000101-n",
        "image_semcor:club.png": "00000102-n",
    }
    club = pictures["image_semcor:club.png"]
    assert club.path == str(outputs["folder"] / "club.png") and club.dataset == "image_semcor_images"
    assert {path.name: path.read_bytes() for path in outputs["folder"].iterdir()} == {
        "bat_1.jpg": b"one",
        "bat_2.JPG": b"two",
        "club.png": b"club",
    }
    assert not (tmp_path.parent / "club.png").exists()
    names = ("missing", "pictures_of_unmatched_labels", "pictures_of_several_labels")
    assert [counts[name] for name in names] == [1, 1, 1]


def test_a_label_unmatched_at_first_may_be_matched_later(tmp_path):
    unknown = _row(word="chiropteran", words=["a", "chiropteran"], gold_labels=["bn:1n"])
    outputs, counts = _build(tmp_path, [unknown, _row()])
    assert counts["skipped_gold_not_in_wordnet"] == 1 and counts["instances"] == 1
    assert {p.synset_id for p in read_records(outputs["pictures"], Picture)} == {"00000101-n", "00000102-n"}
    assert [i.instance_id for i in read_records(outputs["train"], TextualInstance)] == ["image_semcor.1"]


def test_sense_keys_are_taken_as_they_are(tmp_path):
    row = _row(
        word="bat",
        words=["bat", "club"],
        gold_labels=["bat%1:06:00::"],
        gold_gloss=["whatever"],
        candidate_labels=["bat%1:06:00::", "bat%9:99:99::"],
        candidate_gloss=["whatever", "what else"],
        candidate_image_path={"bat%1:06:00::": ["club.png"]},
    )
    outputs, counts = _build(tmp_path, [row])
    (instance,) = read_records(outputs["train"], TextualInstance)
    assert instance.gold == ["bat%1:06:00::"] and counts["labels_not_in_wordnet"] == 1
    assert [p.synset_id for p in read_records(outputs["pictures"], Picture)] == ["00000102-n"]


def test_phrases_of_vwsd_kb(tmp_path):
    row = _row(word="bat", words="winged bat", sentence=" winged  bat ", token_id="7")
    outputs, _ = _build(tmp_path, [row, row], "image_vwsd_kb")
    assert list(read_records(outputs["phrases"], Phrase)) == [
        Phrase("bat", "winged bat", "bat%1:05:00::", "00000101-n")
    ]
    first, second = read_records(outputs["train"], TextualInstance)
    assert first.tokens == ["winged", "bat"] and (first.target_start, first.target_end) == (1, 2)
    assert first.sentence_id == second.sentence_id and first.instance_id != second.instance_id


def test_targets(tmp_path):
    rows = [
        _row(token_id="4"),  # a position in the sentence
        _row(word="look_up", words=["Look", "up", "!"], gold_labels=["x"], gold_gloss=["seek in a book"]),
        _row(word="look up", words=["looking", "it", "up"], gold_labels=["x"], gold_gloss=["seek in a book"]),
        _row(words=["nothing", "here"]),
    ]
    outputs, counts = _build(tmp_path, rows)
    spans = [(i.target_start, i.target_end) for i in read_records(outputs["train"], TextualInstance)]
    assert spans == [(4, 5), (0, 2), (0, 1)]
    assert counts["skipped_target_not_found"] == 1


def test_rows_of_another_form_are_counted(tmp_path):
    bad = [_row(candidate_gloss=["one"]), _row(words=["bats", 3]), {"word": "bat"}, 5, _row(word=None)]
    _, counts = _build(tmp_path, [*bad, _row()])
    assert counts["skipped_malformed"] == 5 and counts["instances"] == 1
    with pytest.raises(UserError, match=r"no instance can be used \(skipped_malformed 5\)"):
        _build(tmp_path, bad)
    with pytest.raises(UserError, match="it is empty"):
        _build(tmp_path, [])


def test_lines_zips_and_marks_are_read_too(tmp_path):
    lines = "\ufeff" + "\n".join(json.dumps(_row()) for _ in range(2)) + "\n"
    (tmp_path / "lines.json").write_text(lines, encoding="utf-8")
    assert [found.word for found in read_metadata(tmp_path / "lines.json")] == ["bats", "bats"]
    packed = _zip(tmp_path / "packed.json", {"a/": "", "a/semcor.json": json.dumps([_row()])})
    assert [found.candidates[1].images for found in read_metadata(packed)] == [["club.png", "not_packed.png"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!DOCTYPE html>", "begins with b'<'"),
        ("", "begins with b''"),
        (json.dumps([_row()])[:-20], "broken or cut off"),
    ],
)
def test_broken_metadata_is_one_sentence(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        _build(tmp_path, text)
    assert not (tmp_path / "out" / "train.parquet").exists()


def test_absent_files_and_other_archives_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no file"):
        list(read_metadata(tmp_path / "none.json"))
    with pytest.raises(UserError, match="none of the 4 pictures of image_semcor is in it"):
        _build(tmp_path, [_row()], pictures={"elsewhere.jpg": b""})
    with pytest.raises(UserError, match="Allowed: image_semcor, image_vwsd_kb"):
        _build(tmp_path, [_row()], corpus="semcor")


def test_feature_files_stand_for_their_pictures(tmp_path):
    row = _row(candidate_image_path={"bn:1n": ["D:\\train\\image.7.pkl"]})
    pictures = {"image.7.pkl": b"never unpacked", "image.7.jpg": b"seven"}
    outputs, _ = _build(tmp_path, [row], pictures=pictures)
    (picture,) = read_records(outputs["pictures"], Picture)
    assert picture.path.endswith("image.7.jpg") and [p.name for p in outputs["folder"].iterdir()] == ["image.7.jpg"]


def test_the_metadata_is_streamed(tmp_path):
    path, row = tmp_path / "large.json", json.dumps(_row(sentence="x " * 2000))
    path.write_text("[" + ",".join([row] * 2000) + "]", encoding="utf-8")  # 9 MB
    tracemalloc.start()
    assert sum(1 for _ in read_metadata(path)) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
