"""Malformed metadata, archives and files of pictures: a table of what is wrong and what comes of it.

Rows and pictures that cannot be used are skipped and counted; what is broken as a whole ends in a UserError with its
name. What is merely odd is read as it was meant.
"""

import io
import json
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest
from malformed import cut, damaged, table, zipped
from PIL import Image, ImageFile
from tiny_wordnet import tiny_inventory

from polclip.corpora import image_senses, vwsd
from polclip.corpora.image_metadata import read_metadata
from polclip.corpora.picture_files import unpack_pictures
from polclip.errors import UserError
from polclip.files import read_json
from polclip.pictures import SCALED_DOWN, TRUNCATED, load_picture, read_picture
from polclip.records import TextualInstance, read_records

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
NOISE = Image.effect_noise((64, 64), 90).convert("RGB")


def written(name, picture, **how):
    file = io.BytesIO()
    picture.save(file, name, **how)
    return file.getvalue()


JPEG = io.BytesIO(written("JPEG", NOISE))
UNUSABLE_PICTURES = {
    "a JPEG cut before its first pixel": (content(JPEG.getvalue()[:400]), "cannot be decoded"),
    "a PNG cut behind its head": (content(written("PNG", NOISE)[:45]), "cannot be decoded"),
    "a WebP cut": (content(written("WEBP", NOISE)[:2000]), "cannot be decoded"),
    "no byte": (content(b""), "cannot be decoded"),
    "a text": (content(b"<html>Not found</html>"), "cannot be decoded"),
    "an SVG": (content(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'), "cannot be decoded"),
    "a program for printers": (
        content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"),
        "cannot be decoded",
    ),
    "a DDS": (content(DDS), "cannot be decoded"),  # Pillow takes two seconds per megapixel
    "a picture of an iPhone": (content(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "HEIC, save it as JPEG or PNG"),
    "signed grey": (saved("TIFF", GREY, tiffinfo={339: 2}), "signed pixels"),
    "floating point": (saved("TIFF", Image.new("F", (4, 4), 0.5)), "pixels of 32 bits"),
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


# --- damaged and large pictures: read as far as they can be, and refused where strangers send them

DAMAGED = {
    "a JPEG without its end": written("JPEG", NOISE)[:-2],
    "half a JPEG": written("JPEG", NOISE)[:2000],
    "half a progressive JPEG": written("JPEG", NOISE, progressive=True)[:2000],
    "half a PNG": written("PNG", NOISE)[:6000],
    "a PNG with a wrong checksum": written("PNG", NOISE)[:-20] + bytes(4) + written("PNG", NOISE)[-16:],
    "half a GIF": written("GIF", NOISE)[:2000],
    "half a BMP": written("BMP", NOISE)[:6000],
    "half a TIFF": written("TIFF", NOISE)[:6000],
    "half a PPM": written("PPM", NOISE)[:6000],
}


@table(DAMAGED)
@pytest.mark.parametrize("is_open", [False, True])
def test_of_a_damaged_picture_what_can_be_decoded_is_kept(tmp_path, case, is_open):
    (tmp_path / "p").write_bytes(case)
    read = load_picture(io.BytesIO(case) if is_open else tmp_path / "p")
    assert read.image.size == (64, 64) and read.notes == (TRUNCATED,)
    assert len(set(read.image.resize((8, 8), Image.Resampling.NEAREST).get_flattened_data())) > 8
    assert load_picture(tmp_path / "p", strict=True).reason == "cannot be decoded"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False and Image.MAX_IMAGE_PIXELS == 89_478_485


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_a_picture_of_very_many_pixels_is_scaled_down(tmp_path, monkeypatch, name, mode):
    mode = {"RGBA": "CMYK", "P": "RGB", "1": "L"}.get(mode, mode) if name == "JPEG" else mode
    halves = Image.new("L", (400, 300), 255)
    halves.paste(0, (0, 0, 200, 300))
    halves.convert(mode).save(tmp_path / "p", name)
    monkeypatch.setattr("polclip.pictures.LARGEST_PIXELS", 30_000)
    read = load_picture(tmp_path / "p")
    assert read.image.size == (200, 150) and read.notes == (SCALED_DOWN,)
    left, right = read.image.getpixel((50, 75)), read.image.getpixel((150, 75))
    assert max(left) < 8 and min(right) > 247
    assert load_picture(tmp_path / "p", strict=True).reason == "too large"
    monkeypatch.setattr("polclip.pictures.LARGEST_SCALED_PIXELS", 100_000)
    assert load_picture(tmp_path / "p").reason == "too large"


def test_a_picture_beyond_the_librarys_own_limit_is_scaled_down(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    (tmp_path / "p").write_bytes(written("PNG", NOISE)[:6000])
    assert load_picture(tmp_path / "p").notes == (TRUNCATED,)
    assert load_picture(tmp_path / "p", strict=True).reason == "too large"


def test_a_format_that_takes_seconds_is_refused_where_strangers_send_it(tmp_path, monkeypatch):
    (tmp_path / "p").write_bytes(b"P5 40 40 100\n" + bytes(range(100)) * 16)
    monkeypatch.setattr("polclip.pictures.LARGEST_SLOW_PIXELS", 1_000)
    assert load_picture(tmp_path / "p", strict=True).reason == "too large"
    assert load_picture(tmp_path / "p").image.size == (40, 40)


# --- drawings on transparency


def drawing(mode, colour):
    """A square of one colour on nothing."""
    alpha = Image.new("L", (40, 40), 0)
    alpha.paste(255, (10, 10, 30, 30))
    if mode == "P":
        picture = alpha.point(lambda value: value // 255).convert("P")
        picture.putpalette([9, 9, 9, *colour])
        return picture, {"transparency": b"\x00\xff"}
    if mode in ("L key", "RGB key"):
        key = 9 if mode == "L key" else (9, 9, 9)
        picture = Image.new(mode[:-4], (40, 40), key)
        picture.paste(colour[0] if mode == "L key" else colour, (10, 10, 30, 30))
        return picture, {"transparency": key}
    picture = Image.new(mode[:-1], (40, 40), colour[0] if mode == "LA" else colour)
    picture.putalpha(alpha)
    return picture, {}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L key", "RGB key"])
@pytest.mark.parametrize(("colour", "ground"), [((255,) * 3, 0), ((240,) * 3, 0), ((0,) * 3, 255), ((200,) * 3, 255)])
def test_a_drawing_on_transparency_is_seen(tmp_path, mode, colour, ground):
    picture, how = drawing(mode, colour)
    picture.save(tmp_path / "p.png", **how)
    read = read_picture(tmp_path / "p.png", strict=True)
    assert read.getpixel((2, 2)) == (ground,) * 3 and read.getpixel((20, 20)) == colour


def test_a_faint_shadow_stays_on_white(tmp_path):
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 20), (10, 10, 30, 30))
    picture.save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png").getpixel((2, 2)) == (255, 255, 255)


# --- grey of more than 8 bits

RAMP = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(8, 0)
DEEP = {
    "PGM": content(b"P5 64 8 65535\n", RAMP.astype(">u2").tobytes()),
    "PGM of 10 bits": content(b"P5 64 8 1023\n", (RAMP >> 6).astype(">u2").tobytes()),
    "PGM as text": content(b"P2 64 8 65535\n", " ".join(map(str, RAMP.ravel())).encode()),
    "PNG": saved("PNG", Image.fromarray(RAMP)),
    "TIFF": saved("TIFF", Image.fromarray(RAMP)),
    "TIFF with black and white exchanged": saved("TIFF", Image.fromarray(65535 - RAMP), tiffinfo={262: 0}),
    "JPEG 2000": saved("JPEG2000", Image.fromarray(RAMP)),
}


@table(DEEP)
def test_deep_grey_keeps_its_shades(tmp_path, case):
    case(tmp_path / "p")
    read = np.asarray(read_picture(tmp_path / "p"))[:, :, 0].astype(int)
    assert np.abs(read - (RAMP >> 8)).max() <= 1


def test_a_shade_of_deep_grey_may_stand_for_transparent(tmp_path):
    picture = np.full((8, 8), 65535, dtype=np.uint16)
    picture[2:6, 2:6] = 100
    Image.fromarray(picture).save(tmp_path / "p.png", transparency=100)
    read = read_picture(tmp_path / "p.png")
    assert (read.getpixel((0, 0)), read.getpixel((4, 4))) == ((255,) * 3, (0,) * 3)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read"),
        (RuntimeError("Failed to decode image: Missing or empty image item"), "cannot be decoded"),  # AVIF
        (MemoryError(), "cannot be decoded"),  # JPEG 2000 whose header claims very many tiles
    ],
)
def test_whatever_error_a_picture_ends_in_is_a_reason(tmp_path, monkeypatch, error, reason):
    def refuse(path, **_):
        raise error

    monkeypatch.setattr("PIL.Image.open", refuse)
    assert read_picture(tmp_path / "p.jpg") == reason
