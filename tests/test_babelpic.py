"""BabelPic: pictures named by BabelNet ids, tied to WordNet's synsets by the user's table."""

import io
import tarfile

import pytest
from tiny_wordnet import COUNTS, FOLDER

from polclip.corpora import babelpic
from polclip.errors import UserError
from polclip.files import read_json
from polclip.inventory import Inventory, build_inventory
from polclip.records import Phrase, Picture, read_records
from polclip.training.corpora import SenseCorpus

MEMBERS = {
    "babelpic-gold/images/bn:00000101n_0.jpg": b"a bat",
    "babelpic-gold/images/bn:00000101n_1.PNG": b"another",
    "babelpic-gold/images/bn_00000202v_0.jpeg": b"looking up",
    "babelpic-gold/images/bn:00000555n_0.jpg": b"not in the table",
    "babelpic-gold/more/bn:00000101n_0.jpg": b"of one name",
    "babelpic-gold/images/._bn:00000101n_0.jpg": b"a Mac's notes",
    "babelpic-gold/images/bn:00000101n_0.txt": b"no picture",
    "babelpic-gold/README": b"bn:00000101n",
}
MAPPING = "bn:00000101n\twn:00000101n\nbn:00000202v\tlook_up%2:31:00::\n"


def packed(folder, members):
    path = folder / "babelpic-gold.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def build(folder, members=MEMBERS, mapping=MAPPING):
    table = None
    if mapping:
        table = folder / "mapping.tsv"
        table.write_text(mapping)
    tables = folder / "senses.parquet", folder / "synsets.parquet"
    build_inventory(FOLDER, *tables, counts=COUNTS, mapping=table)
    outputs = {"folder": folder / "pictures"} | {name: folder / f"{name}.parquet" for name in ("pictures", "phrases")}
    babelpic.build(Inventory.read(*tables), packed(folder, members), outputs, folder / "counts.json")
    return outputs, read_json(folder / "counts.json")


def test_pictures_are_unpacked_and_tied_to_synsets(tmp_path):
    outputs, counts = build(tmp_path)
    pictures = {picture.picture_id: picture for picture in read_records(outputs["pictures"], Picture)}
    assert {name: picture.synset_id for name, picture in pictures.items()} == {
        "babelpic:bn:00000101n_0.jpg": "00000101-n",
        "babelpic:bn:00000101n_1.PNG": "00000101-n",
        "babelpic:bn_00000202v_0.jpeg": "00000202-v",
    }
    assert all(picture.path == str(outputs["folder"] / picture.name) for picture in pictures.values())
    assert {path.name: path.read_bytes() for path in outputs["folder"].iterdir()} == {
        "bn:00000101n_0.jpg": b"a bat",
        "bn:00000101n_1.PNG": b"another",
        "bn_00000202v_0.jpeg": b"looking up",
    }
    assert counts == {
        "pictures": 3,
        "synsets": 2,
        "pictures_of_unmapped_ids": 1,
        "pictures_of_one_name": 1,
        "pictures_without_id": 1,
    }
    assert {picture.dataset for picture in pictures.values()} == {"babelpic"}


def test_they_are_pictures_of_senses_for_training_without_phrases(tmp_path):
    outputs, _ = build(tmp_path)
    stored = {"babelpic:bn:00000101n_0.jpg", "babelpic:bn_00000202v_0.jpeg"}
    senses = SenseCorpus.read([outputs["phrases"]], [outputs["pictures"]], stored)
    assert senses.pictures == {
        "00000101-n": ["babelpic:bn:00000101n_0.jpg"],
        "00000202-v": ["babelpic:bn_00000202v_0.jpeg"],
    }
    assert senses.synsets == [] and list(read_records(outputs["phrases"], Phrase)) == []


@pytest.mark.parametrize(
    ("members", "mapping", "message"),
    [
        (MEMBERS, "", "bn:00000101n is a sense of BabelNet.*corpora.xl_wsd.sense_mapping"),
        (MEMBERS, "bn:00099999n\t00000101-n\n", "None of the 5 pictures of .* shows a sense of the mapping"),
        ({"images/bat.jpg": b""}, MAPPING, "holds no picture with a BabelNet id in its name"),
    ],
)
def test_what_leaves_no_picture_is_refused_and_nothing_is_left(tmp_path, members, mapping, message):
    with pytest.raises(UserError, match=message):
        build(tmp_path, members, mapping)
    assert not (tmp_path / "pictures").exists() and not (tmp_path / "pictures.parquet").exists()


def test_a_broken_archive_is_refused(tmp_path):
    build(tmp_path)
    path = tmp_path / "babelpic-gold.tar.gz"
    path.write_bytes(path.read_bytes()[:120])
    outputs = {"folder": tmp_path / "a", "pictures": tmp_path / "a.parquet", "phrases": tmp_path / "b.parquet"}
    inventory = Inventory.read(tmp_path / "senses.parquet", tmp_path / "synsets.parquet")
    with pytest.raises(UserError, match=r"babelpic-gold.tar.gz is broken"):
        babelpic.build(inventory, path, outputs, tmp_path / "c.json")
    assert not outputs["folder"].exists()
