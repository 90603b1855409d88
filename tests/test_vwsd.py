import zipfile
from pathlib import Path

import pytest

from polclip.corpora import vwsd
from polclip.errors import UserError
from polclip.records import Picture, VisualInstance, read_records

ARCHIVES = Path(__file__).parents[2] / "shared" / "data" / "archives"
NAMES = [f"image.{number}.{'JPG' if number % 2 else 'png'}" for number in range(20)]
LINES = [
    "\t".join(["bat\u200e", "winged bat", *NAMES[:10]]),
    "\t".join(["goal", "football goal", *NAMES[9:19]]),
]
GOLD = ["image.3.JPG", "image.10.png"]


def _archive(folder, data=LINES, gold=GOLD, images=NAMES):
    path = folder / "vwsd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vwsd/trial_v1/trial.data.v1.txt", "\r\n".join(data) + "\r\n")
        archive.writestr("vwsd/trial_v1/trial.gold.v1.txt", "\r\n".join(gold))
        archive.writestr("vwsd/fa.test.data.txt", "\n".join(data) + "\n")
        archive.writestr("vwsd/fa.test.gold.txt", "\n".join(gold) + "\n")
        for image in images:
            archive.writestr(f"vwsd/trial_v1/trial_images_v1/{image}", b"")
    return path


def test_lines_become_instances(tmp_path):
    counts = vwsd.build(_archive(tmp_path), "trial", "en", tmp_path / "out.parquet")
    assert counts == {
        "instances": 2,
        "images": 19,
        "images_missing": 0,
        "instances_missing_gold_image": 0,
        "instances_left_out": 0,
        "missing": {},
    }
    bat, goal = read_records(tmp_path / "out.parquet", VisualInstance)
    assert (bat.instance_id, bat.language, bat.word, bat.phrase) == (
        "vwsd.trial.en.0",
        "en",
        "bat",
        "winged bat",
    )
    assert bat.candidates == [f"vwsd:trial/{name}" for name in NAMES[:10]]
    assert goal.gold == "vwsd:trial/image.10.png" and goal.sense_key is None and goal.rivals == []
    assert [i.language for i in vwsd.read_instances(tmp_path / "vwsd.zip", "test", "fa")] == ["fa", "fa"]


def test_missing_pictures_are_counted(tmp_path):
    path = _archive(tmp_path, images=[name for name in NAMES if name not in ("image.9.JPG", "image.3.JPG")])
    counts = vwsd.build(path, "trial", "en", tmp_path / "out.parquet")
    assert (counts["images_missing"], counts["instances_missing_gold_image"]) == (2, 1)
    at_hand = {f"vwsd:trial/{name}" for name in NAMES[:10]}
    assert vwsd.build(path, "trial", "en", tmp_path / "out.parquet", at_hand)["images_missing"] == 9


def test_instances_with_missing_pictures_are_named_and_kept_or_left_out(tmp_path, caplog):
    path = _archive(tmp_path, images=[name for name in NAMES if name not in ("image.12.png", "image.10.png")])
    kept = vwsd.build(path, "trial", "en", tmp_path / "kept.parquet")
    assert kept["missing"] == {"vwsd.trial.en.1": ["image.10.png", "image.12.png"]}
    assert kept["instances_left_out"] == 0 and kept["instances_missing_gold_image"] == 1
    assert "vwsd.trial.en.1 lacks image.10.png, image.12.png" in caplog.text and "(kept" in caplog.text
    bat, goal = read_records(tmp_path / "kept.parquet", VisualInstance)
    assert len(goal.candidates) == 10 and goal.gold == "vwsd:trial/image.10.png"

    left = vwsd.build(path, "trial", "en", tmp_path / "left.parquet", missing_pictures="drop")
    assert left == kept | {"instances_left_out": 1}
    assert list(read_records(tmp_path / "left.parquet", VisualInstance)) == [bat]
    assert "(left out)" in caplog.text
    with pytest.raises(UserError, match="Allowed: keep drop"):
        vwsd.build(path, "trial", "en", tmp_path / "out.parquet", missing_pictures="hide")


def test_the_log_names_the_first_twenty_and_the_counts_all(tmp_path, caplog):
    lines = [LINES[0]] * 23
    path = _archive(tmp_path, data=lines, gold=[GOLD[0]] * 23, images=NAMES[1:])
    counts = vwsd.build(path, "trial", "en", tmp_path / "out.parquet", missing_pictures="drop")
    assert len(counts["missing"]) == counts["instances_left_out"] == 23
    assert caplog.text.count(" lacks image.0.png") == 20 and "and 3 more, all of them in counts.json" in caplog.text
    assert list(read_records(tmp_path / "out.parquet", VisualInstance)) == []


@pytest.mark.parametrize(
    ("data", "gold", "message"),
    [
        ([LINES[0], LINES[1] + "\textra.jpg"], GOLD, r"trial.data.v1.txt:2: 11 distinct images"),
        ([LINES[0], LINES[1].replace("image.12.png", "image.11.JPG")], GOLD, r"data.v1.txt:2: 9 distinct"),
        (LINES, ["image.3.JPG", "image.0.png"], r"trial.gold.v1.txt:2: 'image.0.png' is not one"),
        (LINES, GOLD[:1], "2 lines and .* 1"),
    ],
)
def test_lines_of_another_form_are_refused(tmp_path, data, gold, message):
    with pytest.raises(UserError, match=message):
        vwsd.build(_archive(tmp_path, data, gold), "trial", "en", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_absent_texts_are_refused(tmp_path):
    path = _archive(tmp_path)
    with pytest.raises(UserError, match="no data of split test in it"):
        vwsd.read_instances(path, "test", "it")
    with pytest.raises(UserError, match="no data of split trial in fa"):
        vwsd.read_instances(path, "trial", "fa")
    with pytest.raises(UserError, match="Allowed: train trial test"):
        vwsd.read_instances(path, "dev", "en")
    with pytest.raises(UserError, match="There is no archive"):
        vwsd.read_instances(tmp_path / "none.zip", "test", "en")


@pytest.mark.skipif(not ARCHIVES.is_dir(), reason="the public archives are not at ../shared")
def test_public_texts_have_their_published_sizes(tmp_path):
    test = [vwsd.read_instances(ARCHIVES / "test.data.v1.1.gold.zip", "test", language) for language in vwsd.LANGUAGES]
    assert [len(instances) for instances in test] == [463, 305, 200]
    assert not any("\u200e" in instance.word for instances in test for instance in instances)
    train = ARCHIVES / "semeval-2023-task-1-V-WSD-train-v1.zip"
    assert len(vwsd.read_instances(train, "train", "en")) == 12_869
    counts = vwsd.build(train, "trial", "en", tmp_path / "out.parquet")
    assert (counts["instances"], counts["images"], counts["images_missing"]) == (16, 160, 14)


def _pictures(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_pictures_are_unpacked_by_split(tmp_path):
    train = _pictures(
        tmp_path / "train.zip",
        {
            "v1/train_v1/train_images_v1/image.1.jpg": b"train",
            "v1/trial_v1/trial_images_v1/": b"",
            "v1/trial_v1/trial_images_v1/image.1.jpg": b"trial",
            "v1/trial_v1/trial.data.v1.txt": b"text",
            "__MACOSX/v1/trial_images_v1/._image.1.jpg": b"a Mac's notes",
        },
    )
    test = _pictures(
        tmp_path / "test.zip",
        {"test_images_resized/image.1.JPG": b"test", "test_images_resized/../test_images_x/image.2.jpg": b"2"},
    )
    archives = {"train": train, "trial": train, "test": test}
    counts = vwsd.unpack_pictures(archives, tmp_path / "vwsd", tmp_path / "pictures.parquet")
    assert counts == {"train": 1, "trial": 1, "test": 2}
    pictures = list(read_records(tmp_path / "pictures.parquet", Picture))
    assert [picture.picture_id for picture in pictures] == [
        "vwsd:train/image.1.jpg",
        "vwsd:trial/image.1.jpg",
        "vwsd:test/image.1.JPG",
        "vwsd:test/image.2.jpg",
    ]
    assert [Path(picture.path).read_bytes() for picture in pictures] == [b"train", b"trial", b"test", b"2"]
    assert [picture.dataset for picture in pictures] == ["vwsd_train", "vwsd_train"] + ["vwsd_test_images"] * 2
    assert {(p.style, p.family, p.synset_id) for p in pictures} == {("photograph", "photograph", None)}


def test_archives_without_pictures_leave_nothing(tmp_path):
    path = _pictures(tmp_path / "a.zip", {"other/image.1.jpg": b""})
    twice = _pictures(tmp_path / "b.zip", {"x/test_images/1.jpg": b"", "y/test_images/1.jpg": b""})
    for archive, message in ((path, "No pictures in .*a.zip"), (twice, "two pictures 1.jpg"), ("c.zip", "c.zip")):
        with pytest.raises(UserError, match=message):
            vwsd.unpack_pictures({"test": archive}, tmp_path / "vwsd", tmp_path / "pictures.parquet")
        assert not (tmp_path / "vwsd").exists() and not (tmp_path / "pictures.parquet").exists()


@pytest.mark.skipif(not ARCHIVES.is_dir(), reason="the public archives are not at ../shared")
def test_public_trial_pictures_are_those_of_the_instances(tmp_path):
    train = ARCHIVES / "semeval-2023-task-1-V-WSD-train-v1.zip"
    archives = {"train": train, "trial": train}
    assert vwsd.unpack_pictures(archives, tmp_path / "vwsd", tmp_path / "pictures.parquet") == {
        "train": 0,
        "trial": 146,
    }
    at_hand = {picture.picture_id for picture in read_records(tmp_path / "pictures.parquet", Picture)}
    counts = vwsd.build(train, "trial", "en", tmp_path / "out.parquet", at_hand)
    assert (counts["images"], counts["images_missing"]) == (160, 14)
    assert sum(map(len, counts["missing"].values())) == 14
    left = vwsd.build(train, "trial", "en", tmp_path / "left.parquet", at_hand, "drop")
    kept = {instance.instance_id for instance in read_records(tmp_path / "left.parquet", VisualInstance)}
    assert left["instances_left_out"] == len(counts["missing"]) == 16 - len(kept)
    assert not kept & counts["missing"].keys()
