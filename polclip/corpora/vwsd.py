"""SemEval-2023 task 1, Visual Word Sense Disambiguation: its texts and gold as VisualInstance.

A line is `word<TAB>phrase<TAB>ten image names`; the gold file names one image a line in the same order
(README of the task). Image names start anew in train, trial and test, so a picture id carries the split:
`vwsd:test/image.1.jpg`.
"""

import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from glob import escape
from pathlib import Path, PurePosixPath

from polclip.corpora.text_lines import text_lines
from polclip.downloads.unpacking import file_names, open_members, read_member
from polclip.errors import UserError
from polclip.files import complete_or_absent, write_parquet
from polclip.records import SCHEMAS, Picture, VisualInstance, write_records

log = logging.getLogger(__name__)

SPLITS = ("train", "trial", "test")
LANGUAGES = ("en", "it", "fa")
POLICIES = ("keep", "drop")
_NAMED = 20  # instances that the log names
_DATASETS = {"train": "vwsd_train", "trial": "vwsd_train", "test": "vwsd_test_images"}  # of the manifest
# Of a picture and of all in one archive; the largest has 13,000 pictures in 17 GB.
_LIMITS = {"max_bytes": 10**9, "max_files": 10**5, "max_total_bytes": 10**11}
# Marks of writing direction and of byte order; joiners (U+200C, U+200D) are part of how a word is written.
_UNSEEN_MARKS = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"))


def build(
    archive: str | Path,
    split: str,
    language: str,
    instances_path: str | Path,
    pictures: Set[str] | None = None,
    missing_pictures: str = "keep",
) -> dict[str, object]:
    """Write one language of one split as VisualInstance (Parquet) and return what was counted.

    pictures: the picture ids that are at hand; None looks for the images in the archive itself.
    missing_pictures: what becomes of an instance of which some picture is not at hand. keep: it stays, with all its
    candidates, and a missing one is ranked last. drop: it is left out; the ids of the others stay as they are.
    Counts, of all instances of the archive: instances, images (distinct), images_missing,
    instances_missing_gold_image, instances_left_out (0 with keep), and by name `missing`: instance id -> names of its
    missing images. The first of them are named in the log.
    """
    if missing_pictures not in POLICIES:
        raise UserError(f"Unknown policy {missing_pictures!r} for missing pictures. Allowed: {' '.join(POLICIES)}.")
    instances = read_instances(archive, split, language)
    at_hand = picture_ids(archive, split) if pictures is None else pictures
    wanted = {picture for instance in instances for picture in instance.candidates}
    missing = {
        instance.instance_id: [_image_name(picture) for picture in instance.candidates if picture not in at_hand]
        for instance in instances
        if not at_hand.issuperset(instance.candidates)
    }
    left_out = missing if missing_pictures == "drop" else {}
    kept = [instance for instance in instances if instance.instance_id not in left_out]
    _tell(missing, f"{split} in {language}", missing_pictures)
    write_parquet(instances_path, map(vars, kept), SCHEMAS[VisualInstance])
    return {
        "instances": len(instances),
        "images": len(wanted),
        "images_missing": len(wanted - at_hand),
        "instances_missing_gold_image": sum(instance.gold not in at_hand for instance in instances),
        "instances_left_out": len(left_out),
        "missing": missing,
    }


def _tell(missing: Mapping[str, list[str]], what: str, policy: str) -> None:
    """Name the instances with missing pictures in the log, the first of them."""
    if not missing:
        return
    fate = "left out" if policy == "drop" else "kept: a missing picture is ranked last"
    log.warning("%s: %d instances lack pictures (%s)", what, len(missing), fate)
    for instance_id in list(missing)[:_NAMED]:
        log.warning("%s lacks %s", instance_id, ", ".join(missing[instance_id]))
    if len(missing) > _NAMED:
        log.warning("and %d more, all of them in counts.json", len(missing) - _NAMED)


def read_instances(archive: str | Path, split: str, language: str) -> list[VisualInstance]:
    """The instances of one language (en it fa; train and trial are English) in the order of the file.

    Raises UserError when the archive has no such texts, and with file and line for a line of another form.
    """
    data_name, data = _lines(archive, split, language, "data")
    gold_name, gold = _lines(archive, split, language, "gold")
    if not data:
        raise UserError(f"{data_name} is empty. A line is word, phrase and ten image names, separated by tabs.")
    if len(data) != len(gold):
        raise UserError(f"{data_name} has {len(data)} lines and {gold_name} {len(gold)}; they must be as many.")
    instances = []
    for number, (line, gold_image) in enumerate(zip(data, gold, strict=True), start=1):
        fields = [field.translate(_UNSEEN_MARKS).strip() for field in line.split("\t")]
        word, phrase, images = fields[0], "".join(fields[1:2]), fields[2:]
        if len(set(images)) != 10 or len(images) != 10 or not all(fields):
            raise UserError(
                f"{data_name}:{number}: {len(set(images))} distinct images in {len(images)} where ten must be"
                f"{'' if all(fields) else ', or an empty field'}. "
                "A line is word, phrase and ten image names, separated by tabs."
            )
        if gold_image.strip() not in images:
            raise UserError(f"{gold_name}:{number}: {gold_image.strip()!r} is not one of the line's ten images.")
        instances.append(
            VisualInstance(
                instance_id=f"vwsd.{split}.{language}.{number - 1}",
                language=language,
                word=word,
                phrase=phrase,
                candidates=[picture_id(split, image) for image in images],
                gold=picture_id(split, gold_image.strip()),
            )
        )
    return instances


def picture_id(split: str, image_name: str) -> str:
    return f"vwsd:{split}/{image_name}"


def _image_name(picture: str) -> str:
    return picture.rpartition("/")[2]


def picture_ids(archive: str | Path, split: str) -> set[str]:
    """The ids of the images that lie in a VWSD archive in a folder `{split}_images...`."""
    images = (_image_of(split, name) for name in file_names(archive))
    return {picture_id(split, image) for image in images if image}


def _image_of(split: str, member: str) -> str | None:
    """The name of the image that a member of an archive is, or None; `._` files are a Mac's notes on images."""
    path = PurePosixPath(member)
    inside = path.parent.name.startswith(f"{split}_images")
    return path.name if inside and not path.name.startswith(("._", "..")) else None


def unpack_pictures(archives: Mapping[str, str | Path], folder: str | Path, table: str | Path) -> dict[str, int]:
    """Unpack the pictures of each split into `folder/{split}/` and list them as Picture (Parquet).

    archives: split to the archive that holds its pictures, in a folder `{split}_images...`; one archive may serve
    several splits. Returns the number of pictures by split; none of a split is no error, since the texts can be
    had without, but none of any is. Pictures are copied as they are: broken ones are found where they are read.
    Raises UserError for a missing or broken archive, and for two members of one name.
    """
    folder, counts = Path(folder), Counter(dict.fromkeys(archives, 0))

    def unpacked(temporary: Path) -> Iterator[Picture]:
        for split, archive in archives.items():
            (temporary / split).mkdir(parents=True)
            for member, stream in open_members(archive, f"*{split}_images*/*", **_LIMITS, missing_ok=True):
                image = _image_of(split, member)
                if image is None:
                    continue
                try:
                    with open(temporary / split / image, "xb") as file:
                        shutil.copyfileobj(stream, file)
                except FileExistsError:
                    raise UserError(f"{archive} holds two pictures {image} of split {split}.") from None
                counts[split] += 1
                yield Picture(
                    picture_id=picture_id(split, image),
                    path=str(folder / split / image),
                    style="photograph",
                    family="photograph",
                    name=image,
                    synset_id=None,
                    dataset=_DATASETS[split],
                )
        if not counts.total():
            raise UserError(
                f"No pictures in {', '.join(map(str, dict.fromkeys(archives.values())))}: expected images in a "
                f"folder named {' or '.join(f'{split}_images...' for split in archives)}."
            )

    with complete_or_absent(folder) as temporary:
        write_records(table, Picture, unpacked(temporary))
    log.info("pictures: %s", ", ".join(f"{split} {count:,}" for split, count in counts.items()))
    return dict(counts)


def _lines(archive: str | Path, split: str, language: str, kind: str) -> tuple[str, list[str]]:
    """The name and the lines of the file of one language, split and kind (data, gold)."""
    if split not in SPLITS or language not in LANGUAGES:
        raise UserError(
            f"No VWSD texts for split {split!r} in {language!r}. Allowed: {' '.join(SPLITS)}; "
            f"{' '.join(LANGUAGES)} (train and trial in en alone)."
        )
    named = re.compile(rf"{language}\.{split}\.{kind}\b.*\.txt" if split == "test" else rf"{split}\.{kind}\b.*\.txt")
    members = [name for name in file_names(archive) if named.fullmatch(PurePosixPath(name).name)]
    if not members or (split != "test" and language != "en"):
        raise UserError(f"{archive} holds no {kind} of split {split} in {language}.")
    if len(members) > 1:
        raise UserError(f"{archive} holds the {kind} of split {split} in {language} twice: {', '.join(members)}.")
    name = f"{archive}:{members[0]}"
    return name, text_lines(read_member(archive, escape(members[0])), name)
