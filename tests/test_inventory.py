import shutil
import tarfile
import zipfile

import pytest
from tiny_wordnet import COUNTS, FOLDER, tiny_inventory

from polclip.errors import UserError
from polclip.inventory import Inventory, build_inventory, split_gloss


@pytest.fixture
def inventory(tmp_path):
    return tiny_inventory(tmp_path)


def test_senses_come_first_sense_first_and_satellites_count_as_adjectives(inventory):
    assert [sense.sense_key for sense in inventory.senses("bat", "n")] == ["bat%1:05:00::", "bat%1:06:00::"]
    ample = inventory.senses("ample", "a")
    assert [(sense.sense_number, sense.ss_type, sense.pos) for sense in ample] == [
        (1, "a", "a"),
        (2, "s", "a"),
    ]
    assert ample[1].synset_id == "00000302-s"
    assert inventory.senses("ample", "s") == ample
    assert inventory.senses("Mighty Mouse", "n")[0].lemma == "mighty_mouse"
    assert inventory.senses("nonsense", "n") == []
    assert inventory.sense_keys("look_up", "v") == ["look_up%2:31:00::", "look_up%2:35:01::"]


def test_a_synset_has_its_gloss_without_examples_and_its_lemmas_without_markers(inventory):
    bat = inventory.synset_of("bat%1:05:00::")
    assert bat.gloss == 'a winged animal of the night (some say "a mouse with wings")'
    assert bat.examples == ["bats sleep in the cave", "A bat flew off."]
    assert (bat.lexname, bat.lemmas, bat.hypernyms) == (
        "noun.animal",
        ["bat", "flittermouse"],
        ["00000100-n"],
    )
    assert inventory.synset("00000302-s").lemmas == ["galore", "ample"]
    assert inventory.synset("00000106-n").hypernyms == ["00000104-n"]  # an instance hypernym


def test_a_lineage_goes_up_to_three_hypernyms_and_ends_with_the_lexicographer_file(inventory, monkeypatch):
    lineages = {synset_id: inventory.lineage(synset_id) for synset_id in inventory.synset_ids()}
    for synset_id, (own, *hypernyms, lexname) in lineages.items():
        synset = inventory.synset(synset_id)
        assert (own, lexname) == (synset_id, synset.lexname) and len(hypernyms) <= 3
        above = lineages[hypernyms[0]][:-1][:3] if hypernyms else []
        assert hypernyms == above and hypernyms[:1] == synset.hypernyms[:1]
    assert max(map(len, lineages.values())) == 4
    monkeypatch.setattr("polclip.inventory.LINEAGE", 1)
    assert max(len(inventory.lineage(synset_id)) for synset_id in lineages) == 3


@pytest.mark.parametrize(
    ("gloss", "parts"),
    [
        ("a hollow", ("a hollow", [])),
        ('a hollow; "a deep hollow"', ("a hollow", ["a deep hollow"])),
        (
            'to render verbally, "recite a poem"; "he said; go"',
            ("to render verbally", ["recite a poem", "he said; go"]),
        ),
        ('in a good way: "she sings well', ("in a good way", [])),
        (
            'progress (as in "make strides"); "she made strides"',
            ('progress (as in "make strides")', ["she made strides"]),
        ),
        ('"only an example"', ('"only an example"', ["only an example"])),
    ],
)
def test_glosses_are_split_from_their_examples(gloss, parts):
    assert split_gloss(gloss) == parts


def test_unknown_ids_are_refused_with_what_is_allowed(inventory):
    with pytest.raises(UserError, match=r"bat%1:05:09::.*bat%1:05:00::, bat%1:06:00::, bat%2:35:00::"):
        inventory.sense("bat%1:05:09::")
    with pytest.raises(UserError, match=r"spelt alike: .*bat"):
        inventory.synset_of("batt%1:05:00::")
    with pytest.raises(UserError, match="eight digits"):
        inventory.synset("bat.n.01")
    with pytest.raises(UserError, match=r"part of speech 'PRON'\. Allowed: n v a r, or a tag such as NOUN"):
        inventory.senses("bat", "PRON")
    assert inventory.has("bat%1:05:00::") and not inventory.has("bat%1:05:09::")


def _sdist(path):
    """An archive like that of the Python package: the noun file in two halves, other files around."""
    nouns = (FOLDER / "data.noun").read_text().splitlines(keepends=True)
    halves = path.parent / "dict"
    shutil.copytree(FOLDER, halves)
    (halves / "data.noun").unlink()
    (halves / "data.noun1").write_text("".join(nouns[:4]).rstrip("\n"))
    (halves / "data.noun2").write_text("".join(nouns[4:]))
    with tarfile.open(path, "w:gz") as archive:
        archive.add(halves, "package-1.0/text/wordnet/dict")


def _zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in FOLDER.iterdir():
            archive.write(file, f"wordnet/{file.name}")


EXCEPTIONS = {"noun": "flittermeese flittermouse\ncavorum cave bat\n", "verb": "batten bat\n"}


def _package(path, exceptions=EXCEPTIONS):
    """A package that has Princeton's own archive in it, and the lists of irregular forms beside."""
    princetons = path.parent / "WNdb-3.0.tar.gz"
    with tarfile.open(princetons, "w:gz") as archive:
        archive.add(FOLDER, "dict")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(princetons, f"package/{princetons.name}")
        for pos, text in exceptions.items():
            archive.writestr(f"package/data/{pos}.exc", text)


@pytest.mark.parametrize(
    ("name", "make"),
    [("p.tar.gz", _sdist), ("wordnet.zip", _zip), ("package.zip", lambda path: _package(path, {}))],
    ids=["halves", "zip", "an archive inside"],
)
def test_every_kind_of_archive_gives_the_same_inventory(tmp_path, inventory, name, make):
    make(tmp_path / name)
    build_inventory(tmp_path / name, tmp_path / "s", tmp_path / "y", counts=COUNTS)
    assert Inventory.read(tmp_path / "s", tmp_path / "y") == inventory


def test_irregular_forms_are_those_of_wordnets_lists_where_the_archive_has_them(tmp_path, inventory):
    _package(tmp_path / "package.zip")
    folder = tmp_path / "dict"
    shutil.copytree(FOLDER, folder)
    for pos, text in EXCEPTIONS.items():
        (folder / f"{pos}.exc").write_text(text)
    for archive in (tmp_path / "package.zip", folder):
        build_inventory(archive, tmp_path / "s", tmp_path / "y", counts=COUNTS)
        found = Inventory.read(tmp_path / "s", tmp_path / "y")
        assert found.irregular_lemmas("cavorum", "n") == {"cave", "bat"}
        assert "flittermouse" in found.base_forms("Flittermeese", "n") and "bat" in found.base_forms("batten", "v")
        assert found.base_forms("batten", "n") == {"batten"} and "bat" in found.base_forms("bats", "n")
        assert found.lookup.lemmas_of("flittermeese") == (("flittermouse", "n"),)
    assert inventory.base_forms("flittermeese", "n") == {"flittermeese"}
    (folder / "verb.exc").write_text(
        "batten bat\n\udc80".encode("utf-8", "surrogateescape").decode("latin-1"), "latin-1"
    )
    with pytest.raises(UserError, match="cannot be read as an archive of WordNet"):
        build_inventory(folder, tmp_path / "s", tmp_path / "y", counts=COUNTS)


def test_keys_with_a_syntactic_marker_and_parts_of_speech_of_other_tag_sets_are_taken(inventory):
    galore = inventory.sense("galore%5:00:00:many:00")
    for key in ("galore(ip)%5:00:00:many:00", "galore%5:00:00:many(ip):00"):
        assert inventory.has(key) and inventory.sense(key) == galore
    for tag in ("n", "N", "NOUN", "noun", "PROPN", "NN", "NNS", "nnp"):
        assert len(inventory.senses("bat", tag)) == 2, tag
    for tag in ("V", "VERB", "AUX", "VBD", "VBG", "MD"):
        assert inventory.sense_keys("bat", tag) == ["bat%2:35:00::"], tag
    for tag in ("A", "S", "ADJ", "JJ", "JJR", "adjective"):
        assert len(inventory.senses("ample", tag)) == 2, tag
    for tag in ("R", "ADV", "RB", "RBS", "adverb"):
        assert len(inventory.senses("well", tag)) == 2, tag


def test_wrong_archives_are_refused_and_nothing_is_written(tmp_path):
    senses, synsets = tmp_path / "out" / "senses", tmp_path / "out" / "synsets"
    with pytest.raises(UserError, match=r"14 synsets and 17 senses; WordNet 3.0 has 117,659 and 206,941"):
        build_inventory(FOLDER, senses, synsets)
    with pytest.raises(UserError, match="is not there"):
        build_inventory(tmp_path / "none.zip", senses, synsets)
    _sdist(tmp_path / "whole.tar.gz")
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes((tmp_path / "whole.tar.gz").read_bytes()[:900])
    with pytest.raises(UserError, match="cannot be read"):
        build_inventory(cut, senses, synsets)
    (tmp_path / "dict" / "data.adv").unlink()
    with pytest.raises(UserError, match=r"lacks WordNet's data\.adv"):
        build_inventory(tmp_path / "dict", senses, synsets)
    (tmp_path / "dict" / "data.adv").write_text("00 adv.all 4\n")
    with pytest.raises(UserError, match="not in Princeton's format"):
        build_inventory(tmp_path / "dict", senses, synsets)
    shutil.copytree(FOLDER, tmp_path / "astray")
    index = tmp_path / "astray" / "index.sense"
    index.write_text(index.read_text().replace("00000103", "00000999"))
    with pytest.raises(UserError, match="cave%1:17:00:: has no synset 00000999-n"):
        build_inventory(tmp_path / "astray", senses, synsets, counts=COUNTS)
    assert not (tmp_path / "out").exists()
