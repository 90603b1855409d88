"""Pictures taken out of an archive by their names, into one folder."""

import logging
import shutil
from collections.abc import Set
from pathlib import Path, PurePosixPath

from polclip.corpora.image_metadata import file_name
from polclip.downloads.unpacking import open_members
from polclip.files import complete_or_absent

log = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
# Of a picture and of all; the largest set of the paper has 181,123 pictures in 195 GB.
_LIMITS = {"max_bytes": 10**9, "max_files": 10**6, "max_total_bytes": 10**12}


def unpack_named(archive: str | Path, names: Set[str], folder: str | Path) -> dict[str, str]:
    """Unpack the pictures of these names into `folder`, flat; give name -> file name there of those found.

    The folders inside the archive do not matter; of two pictures of one name the first is taken. Nothing but files
    with a picture's suffix is taken. A name that ends in .pkl stands for the picture of the same stem: the public
    lists name the feature files of pictures in places. Raises UserError when the archive is missing or broken.
    """
    stems = {PurePosixPath(name).stem: name for name in names if name.endswith(".pkl")}
    found: dict[str, str] = {}
    twice = 0
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        for member, stream in open_members(archive, "*", **_LIMITS, missing_ok=True):
            file = file_name(member)
            path = PurePosixPath(file)
            name = file if file in names else stems.get(path.stem)
            if name is None or path.suffix.lower() not in SUFFIXES:
                continue
            if name in found:
                twice += 1
                continue
            with open(temporary / file, "wb") as target:
                shutil.copyfileobj(stream, target)
            found[name] = file
    log.info("%s: %d of %d pictures found, %d of a name that was there before", archive, len(found), len(names), twice)
    return found
