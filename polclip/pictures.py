"""Picture files as everything that looks at them sees them: the encoders, the report, and the page."""

import math
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

# The formats that are read. Pillow knows more: EPS, which Ghostscript would run, and DDS, which takes Pillow two
# seconds per megapixel.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA")
LARGEST_PIXELS = 50_000_000  # a larger picture is scaled down while it is read
LARGEST_SCALED_PIXELS = 300_000_000  # as PNG about 1.2 GB of memory
# Some variants of PPM and BMP are decoded by Python code, which takes about a second per megapixel.
LARGEST_SLOW_PIXELS = 4_000_000
LONGEST_FOR_WIDTH = 200  # scaled until its short side fits, a picture of one row of pixels would be of gigabytes
LEAST_CONTRAST = 32  # of 255; a drawing with less on its ground looks like an empty picture

TRUNCATED = "damaged, what could be decoded is kept"
SCALED_DOWN = "scaled down, since it has more than 50 megapixels"

PictureFile = str | Path | BinaryIO | Image.Image

HEIC_ENDINGS = (".heic", ".heif", ".hif")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_PIXELS_OF_DAMAGE = (0, 127, 128)  # decoders leave what they cannot decode at 0 or at the middle
_SAMPLE_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_settings_of_pillow = Lock()

# What Pillow raises for a file that it cannot decode; RuntimeError and MemoryError come from AVIF and JPEG 2000.
_UNDECODABLE = (OSError, ValueError, SyntaxError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class PictureRead:
    """A picture as RGB, or the reason why it cannot be used."""

    image: Image.Image | None
    reason: str = ""  # why there is no image
    notes: tuple[str, ...] = ()  # TRUNCATED, SCALED_DOWN


def read_picture(path: PictureFile, strict: bool = False) -> Image.Image | str:
    """The image of `load_picture`, or the reason why it cannot be used."""
    read = load_picture(path, strict)
    return read.reason if read.image is None else read.image


def load_picture(path: PictureFile, strict: bool = False) -> PictureRead:
    """Read a picture as RGB, turned as its camera noted. Of an animated picture, read the first frame.

    What is transparent becomes white, or black where a white drawing would leave an empty picture. Of a damaged file,
    what can be decoded is kept. A picture of more than LARGEST_PIXELS is scaled down to at most as many. The notes of
    the result say so.

    Args:
        path: a file, an open file, or an image of Pillow.
        strict: for pictures that strangers send. Refuse damaged files, pictures of more than LARGEST_PIXELS, and slow
            formats with more than LARGEST_SLOW_PIXELS.

    Reasons: missing, cannot be read, cannot be decoded, too large (more than LARGEST_SCALED_PIXELS, or LARGEST_PIXELS
    of a slow format), too thin (a side more than LONGEST_FOR_WIDTH times the other), HEIC, signed pixels, and pixels of
    32 bits.
    """
    try:
        if strict:
            return _decode(path, LARGEST_PIXELS, LARGEST_SLOW_PIXELS)
        return _decode_leniently(path)
    except FileNotFoundError:
        return PictureRead(None, "missing")
    except Image.DecompressionBombError:
        return PictureRead(None, "too large")
    except _UNDECODABLE as error:
        if getattr(error, "errno", None):  # the system's errors have a number, the decoders' have none
            return PictureRead(None, "cannot be read")
        return PictureRead(None, "HEIC, save it as JPEG or PNG" if is_heic(path) else "cannot be decoded")


def _decode_leniently(path: PictureFile) -> PictureRead:
    limits = LARGEST_SCALED_PIXELS, LARGEST_PIXELS
    try:
        with _lenient_pillow(truncated=False):
            return _decode(path, *limits)
    except _UNDECODABLE as error:
        if getattr(error, "errno", None):
            raise
    with _lenient_pillow(truncated=True):
        read = _decode(path, *limits, damaged=True)
    return read if read.image is None else replace(read, notes=(TRUNCATED, *read.notes))


@contextmanager
def _lenient_pillow(truncated: bool) -> Iterator[None]:
    """Raise Pillow's own limits while one picture is read; only settings of the whole module can do that."""
    with _settings_of_pillow:
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = LARGEST_SCALED_PIXELS, truncated
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _decode(path: PictureFile, largest: int, largest_slow: int, damaged: bool = False) -> PictureRead:
    with _opened(path) as opened:
        slow = any(tile[0] in Image.DECODERS for tile in getattr(opened, "tile", ()))
        if opened.width * opened.height > (largest_slow if slow else largest):
            return PictureRead(None, "too large")
        if max(opened.size) > LONGEST_FOR_WIDTH * min(opened.size):
            return PictureRead(None, "too thin")
        if reason := _unknown_brightness(opened):
            return PictureRead(None, reason)
        factor = _factor(opened.size)
        if factor > 1:  # a JPEG can be decoded at a half, a quarter or an eighth of its sides
            opened.draft(None, (opened.width // factor, opened.height // factor))
        opened.load()
        if damaged and _is_blank(opened):
            return PictureRead(None, "cannot be decoded")
        _turn(opened)
        picture = _eight_bits(opened) if opened.mode.startswith("I") else opened
        if picture.mode != "RGB":
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        if (left := _factor(picture.size)) > 1:
            picture = picture.reduce(left)
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        if picture is opened or picture.mode != mode:  # a copy of 50 megapixels takes 150 MB
            picture = picture.convert(mode)
    if picture.mode == "RGBA":
        picture = _on_ground(picture)
    return PictureRead(picture, notes=(SCALED_DOWN,) if factor > 1 else ())


def _opened(path: PictureFile) -> AbstractContextManager[Image.Image]:
    """A picture to decode; an image that the caller holds is copied, and stays as it is."""
    return path.copy() if isinstance(path, Image.Image) else Image.open(path, formats=FORMATS)


def _factor(size: tuple[int, int]) -> int:
    """By how much the sides have to be divided so that LARGEST_PIXELS are left at most."""
    return math.ceil(math.sqrt(size[0] * size[1] / LARGEST_PIXELS))


def _unknown_brightness(picture: Image.Image) -> str:
    """Why it is unknown which values of a picture's pixels are black and white; "" where it is known."""
    if picture.mode == "I" and picture.format != "PPM":  # Pillow scales grey PPM to 16 bits
        bits = picture.tag_v2[_SAMPLE_BITS][0] if picture.format == "TIFF" else 32
        return "signed pixels" if bits == 16 else "pixels of 32 bits"
    return "pixels of 32 bits" if picture.mode == "F" else ""


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 9 to 16 bits as grey of 8 bits, with an alpha where a value stands for transparent."""
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    values = np.asarray(picture)
    grey = (values >> (tags.get(_SAMPLE_BITS, (16,))[0] - 8)).astype(np.uint8)
    small = Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey)
    key = picture.info.get("transparency")
    if isinstance(key, int):
        small.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return small


def _is_blank(picture: Image.Image) -> bool:
    """Whether a damaged picture shows nothing: no pixel of it was decoded."""
    extrema = picture.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high and low in _PIXELS_OF_DAMAGE for low, high in bands)


def _on_ground(picture: Image.Image) -> Image.Image:
    """A picture with an alpha on white; on black where white hides it and black does not."""
    on_white = _composite(picture, "white")
    if _contrast(on_white) >= LEAST_CONTRAST:
        return on_white
    on_black = _composite(picture, "black")
    return on_black if _contrast(on_black) > _contrast(on_white) else on_white


def _composite(picture: Image.Image, colour: str) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, colour), picture).convert("RGB")


def _contrast(picture: Image.Image) -> int:
    """The largest difference between two pixels of one channel, 0 to 255."""
    return max(high - low for low, high in picture.getextrema())


def _turn(picture: Image.Image) -> None:
    """Turn a picture in place as the camera that took it noted (EXIF); a note that cannot be read is none."""
    with suppress(OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):
        ImageOps.exif_transpose(picture, in_place=True)


def is_heic(path: PictureFile) -> bool:
    """Whether a file is a picture as iPhones store them, told by its first bytes."""
    if isinstance(path, Image.Image):
        return False
    head = b""
    with suppress(OSError):
        if isinstance(path, str | Path):
            with open(path, "rb") as file:
                head = file.read(12)
        else:
            path.seek(0)
            head = path.read(12)
    return head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS
