"""Pictures taken out of an archive, into one folder, and their records."""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from polclip.corpora.image_metadata import file_name
from polclip.downloads.unpacking import open_members
from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.records import Picture

log = logging.getLogger(__name__)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
# Of a picture and of all; the largest set of the paper has 181,123 pictures in 195 GB.
_LIMITS = {"max_bytes": 10**9, "max_files": 10**6, "max_total_bytes": 10**12}


def unpack_pictures(
    archive: str | Path, folder: str | Path, name_of: Callable[[str], str | None], refusal: Callable[[], str]
) -> tuple[dict[str, str], int]:
    """Unpack pictures into `folder`, flat; give name -> file name there, and how many came under a name once more.

    name_of: under which name the file of a picture is asked for; None: it is not. The folders inside the archive do not
    matter; of two pictures of one name the first is taken. Nothing but files with a picture's suffix is taken.
    refusal: why an archive that has none of them is refused; "" where it may have none. Raises UserError for that, and
    when the archive is missing or broken; then there is no folder.
    """
    found: dict[str, str] = {}
    again = 0
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        for member, stream in open_members(archive, "*", **_LIMITS, missing_ok=True):
            file = file_name(member)
            name = name_of(file) if PurePosixPath(file).suffix.lower() in _SUFFIXES else None
            if name is None:
                continue
            if name in found:
                again += 1
                continue
            with open(temporary / file, "wb") as target:
                shutil.copyfileobj(stream, target)
            found[name] = name if file == name else file  # one string, not two
        if not found and (why := refusal()):
            raise UserError(why)
    log.info("%s: %d pictures found, %d of a name that was there before", archive, len(found), again)
    return found, again


def photographs(
    corpus: str, dataset: str, folder: str | Path, files: Mapping[str, str], shown: Iterable[tuple[str, str]]
) -> Iterator[Picture]:
    """The records of unpacked pictures. files: name -> file in `folder`; shown: names and what they show, in order."""
    for name, synset_id in shown:
        if name not in files:
            continue
        yield Picture(
            picture_id=f"{corpus}:{name}",
            path=str(Path(folder) / files[name]),
            style="photograph",
            family="photograph",
            name=name,
            synset_id=synset_id,
            dataset=dataset,
        )
