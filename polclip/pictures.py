"""Picture files as everything that looks at them sees them: the encoders, and the report."""

import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

# What pictures come as. Pillow knows more, EPS among them, which it would have Ghostscript run.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA", "DDS")
LARGEST_PIXELS = 50_000_000
LONGEST_FOR_WIDTH = 200  # scaled until its short side fits, a picture of one row of pixels would be of gigabytes


def read_picture(path: str | Path | BinaryIO) -> Image.Image | str:
    """A picture as RGB on white, turned as its camera noted, or the reason why it cannot be used.

    path: a file, or an open one.

    Of an animated picture it is the first frame. Reasons: missing, cannot be read, cannot be decoded, too large (more
    than LARGEST_PIXELS), too thin (a side more than LONGEST_FOR_WIDTH times the other), and pixels of 32 bits.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > LARGEST_PIXELS:
                return "too large"
            if max(opened.size) > LONGEST_FOR_WIDTH * min(opened.size):
                return "too thin"
            if opened.mode in ("I", "F"):  # convert() would cut off all above 255
                return "pixels of 32 bits"
            opened.load()
            _turn(opened)
            if opened.mode.startswith("I;16"):  # the same
                picture = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8)).convert("RGB")
            else:
                picture = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    except FileNotFoundError:
        return "missing"
    except Image.DecompressionBombError:
        return "too large"
    except OSError as error:  # the system's have a number, the decoders' none
        return "cannot be read" if error.errno else "cannot be decoded"
    except (ValueError, SyntaxError, RuntimeError, MemoryError):  # the last two: damaged AVIF, DDS and JPEG 2000
        return "cannot be decoded"
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    return picture


def _turn(picture: Image.Image) -> None:
    """Turn a picture in place as the camera that took it noted (EXIF); a note that cannot be read is none."""
    with suppress(OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):
        ImageOps.exif_transpose(picture, in_place=True)
