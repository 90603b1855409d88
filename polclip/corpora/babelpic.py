"""BabelPic (Calabrese, Bevilacqua and Navigli 2020): pictures of non-concrete concepts, as training pictures.

The gold archive (.tar.gz) holds its pictures in `babelpic-gold/images/`, named by the BabelNet ids of what they show:
`bn:00012345n_3.jpg` (the data set's page, and public code that reads it). No word comes with a picture, so there are
no phrases: like those of image-enhanced SemCor, the pictures go with the senses that words in sentences may have.
"""

import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from polclip.corpora.image_metadata import file_name
from polclip.corpora.picture_files import SUFFIXES
from polclip.downloads.unpacking import open_members
from polclip.errors import UserError
from polclip.files import complete_or_absent, write_json
from polclip.inventory import Inventory
from polclip.records import Phrase, Picture, write_records

log = logging.getLogger(__name__)

COUNTS = ("pictures", "synsets", "pictures_of_unmapped_ids", "pictures_of_one_name", "files_without_id")
_LARGEST_BYTES = 10**9
# Systems that cannot have a colon in a file name put something else in its place.
_ID_IN_NAME = re.compile(r"bn[^0-9A-Za-z]?(\d{8}[nvar])(?![0-9A-Za-z])")


def build(
    inventory: Inventory, archive: str | Path, outputs: Mapping[str, str | Path], counts: str | Path
) -> dict[str, int]:
    """Write the pictures whose id the inventory's sense mapping has, and what was counted (JSON).

    outputs: `folder` (where they are unpacked to), `pictures` (Parquet of Picture), `phrases` (of Phrase, none).
    Of two files of one name the first is taken. Raises UserError for a missing or broken archive, where it has no
    picture with an id, where the inventory was built without a mapping, and where the mapping has none of the ids.
    """
    folder, number = Path(outputs["folder"]), Counter(dict.fromkeys(COUNTS, 0))
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        write_records(outputs["pictures"], Picture, _unpacked(inventory, archive, temporary, folder, number))
    write_records(outputs["phrases"], Phrase, ())
    write_json(counts, dict(number))
    log.info("babelpic: %s", ", ".join(f"{reason} {count:,}" for reason, count in number.items()))
    return dict(number)


def babelnet_id_in(member: str) -> str | None:
    """The BabelNet id in the name of a picture of the archive, `bn:00012345n` of `images/bn_00012345n_3.jpg`; or None.

    `._` files are a Mac's notes on pictures.
    """
    name = file_name(member)
    found = _ID_IN_NAME.match(name)
    return f"bn:{found[1]}" if found and PurePosixPath(name).suffix.lower() in SUFFIXES else None


def _unpacked(
    inventory: Inventory, archive: str | Path, temporary: Path, folder: Path, number: Counter[str]
) -> Iterator[Picture]:
    """Copy the pictures into `temporary` and give their records, with the paths they will have in `folder`."""
    synsets: set[str] = set()
    for member, stream in open_members(archive, "*", max_bytes=_LARGEST_BYTES):
        babelnet_id, name = babelnet_id_in(member), file_name(member)
        if babelnet_id is None:
            number["files_without_id"] += 1
            continue
        if not inventory.with_synset([babelnet_id]):
            number["pictures_of_unmapped_ids"] += 1
            continue
        try:
            with open(temporary / name, "xb") as file:
                shutil.copyfileobj(stream, file)
        except FileExistsError:
            number["pictures_of_one_name"] += 1
            continue
        synset_id = inventory.sense(babelnet_id).synset_id
        synsets.add(synset_id)
        number["pictures"] += 1
        yield Picture(
            picture_id=f"babelpic:{name}",
            path=str(folder / name),
            style="photograph",
            family="photograph",
            name=name,
            synset_id=synset_id,
            dataset="babelpic",
        )
    number["synsets"] = len(synsets)
    if number["pictures_of_unmapped_ids"] and not number["pictures"]:
        raise UserError(
            f"None of the {number['pictures_of_unmapped_ids']:,} pictures of {archive} shows a sense of the mapping: "
            "see whether corpora.xl_wsd.sense_mapping names the right table."
        )
    if not number["pictures"]:
        raise UserError(
            f"{archive} holds no picture with a BabelNet id in its name, such as images/bn:00012345n_3.jpg. "
            "Is it the gold archive of BabelPic?"
        )
