"""BabelPic (Calabrese, Bevilacqua and Navigli 2020): pictures of non-concrete concepts, as training pictures.

The gold archive (.tar.gz) holds its pictures in `babelpic-gold/images/`, named by the BabelNet ids of what they show:
`bn:00012345n_3.jpg` (the data set's page, and public code that reads it). No word comes with a picture, so there are
no phrases: like those of image-enhanced SemCor, the pictures go with the senses that words in sentences may have.
"""

import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from polclip.corpora.picture_files import photographs, unpack_pictures
from polclip.files import write_json
from polclip.inventory import Inventory
from polclip.records import Phrase, Picture, write_records

log = logging.getLogger(__name__)

COUNTS = ("pictures", "synsets", "pictures_of_unmapped_ids", "pictures_of_one_name", "pictures_without_id")
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
    number = Counter(dict.fromkeys(COUNTS, 0))
    synset_of: dict[str, str] = {}  # by the name of a picture

    def name_of(file: str) -> str | None:
        babelnet_id = babelnet_id_in(file)
        if babelnet_id is None:
            number["pictures_without_id"] += 1
        elif not inventory.with_synset([babelnet_id]):
            number["pictures_of_unmapped_ids"] += 1
        else:
            synset_of[file] = inventory.sense(babelnet_id).synset_id
            return file
        return None

    def refusal() -> str:
        if unmapped := number["pictures_of_unmapped_ids"]:
            return (
                f"None of the {unmapped:,} pictures of {archive} shows a sense of the mapping: see whether "
                "corpora.xl_wsd.sense_mapping names the right table."
            )
        return (
            f"{archive} holds no picture with a BabelNet id in its name, such as images/bn:00012345n_3.jpg. "
            "Is it the gold archive of BabelPic?"
        )

    folder = outputs["folder"]
    files, number["pictures_of_one_name"] = unpack_pictures(archive, folder, name_of, refusal)
    number["pictures"], number["synsets"] = len(files), len(set(synset_of.values()))
    shown = sorted(synset_of.items())
    write_records(outputs["pictures"], Picture, photographs("babelpic", "babelpic", folder, files, shown))
    write_records(outputs["phrases"], Phrase, ())
    write_json(counts, dict(number))
    log.info("babelpic: %s", ", ".join(f"{reason} {count:,}" for reason, count in number.items()))
    return dict(number)


def babelnet_id_in(file: str) -> str | None:
    """The BabelNet id in the name of a picture, `bn:00012345n` of `bn_00012345n_3.jpg`; or None."""
    found = _ID_IN_NAME.match(file)
    return f"bn:{found[1]}" if found else None
