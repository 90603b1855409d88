"""Pictures of one's own, from a folder: to train on, and to ask about.

`pictures.tsv` names files of the folder and what they show; `phrases.tsv`, which may be left out, phrases that mean one
of these senses; `queries.tsv` what is asked: word, phrase, the picture that is meant, and the others.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from polclip.corpora.text_lines import text_lines
from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.inventory import Inventory
from polclip.records import Phrase, Picture, VisualInstance, read_records, write_records

log = logging.getLogger(__name__)


def build_pictures(
    source: str | Path, name: str, inventory: Inventory, folder: str | Path, pictures: str | Path, phrases: str | Path
) -> dict[str, int]:
    """Copy the pictures of `source/pictures.tsv` to `folder`, and write their records and the phrases (Parquet).

    Columns: `file`, `sense_key` (may be empty: then it is only asked about), and what one likes. Phrases are those of
    `phrases.tsv` (`word phrase sense_key`), else of each sense one with what it is a kind of, "bat animal". Raises
    UserError with the line for what is not there.
    """
    source, folder = Path(source), Path(folder)
    rows = [
        (where, row["file"], _synset(inventory, where, row["sense_key"]))
        for where, row in _table(source / "pictures.tsv", ("file", "sense_key"))
    ]
    keys = dict.fromkeys(row["sense_key"] for _, row in _table(source / "pictures.tsv", ("file", "sense_key")))
    told = source / "phrases.tsv"
    if told.exists():
        means = [
            Phrase(row["word"], row["phrase"], row["sense_key"], _synset(inventory, where, row["sense_key"]) or "")
            for where, row in _table(told, ("word", "phrase", "sense_key"))
        ]
    else:
        means = [_phrase(inventory, key) for key in keys if key]
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        found = []
        for number, (where, file, synset_id) in enumerate(rows):
            original = source / file
            if not original.is_file():
                raise UserError(f"{where}: there is no picture {original}.")
            kept = f"{number:06d}{original.suffix.lower()}"
            shutil.copyfile(original, temporary / kept)
            path, dataset = str(folder / kept), f"corpora.own.{name}"
            found.append(Picture(_id(name, file), path, name, name, file, synset_id, dataset))
        if len({picture.picture_id for picture in found}) < len(found):
            raise UserError(f"{source / 'pictures.tsv'} names a file twice. Keep one line a picture.")
        write_records(pictures, Picture, found)
    write_records(phrases, Phrase, means)
    log.info("%s: %d pictures, %d phrases", name, len(found), len(means))
    return {"pictures": len(found), "phrases": len(means)}


def build_queries(
    source: str | Path, name: str, inventory: Inventory, pictures: str | Path, instances: str | Path
) -> int:
    """Write `source/queries.tsv` as VisualInstance (Parquet) and return how many there are.

    A line is word, phrase, the file that is meant, then the others, as many as one likes; files are those of
    `pictures.tsv`. Rivals are those of the others that show another sense of the word. Raises UserError with the line.
    """
    path = Path(source) / "queries.tsv"
    shown = {picture.picture_id: picture.synset_id for picture in read_records(pictures, Picture)}
    queries = []
    for number, line in enumerate(_lines(path), start=1):
        fields = [field.strip() for field in line.split("\t")]
        candidates = [_id(name, file) for file in fields[2:]]
        if len(set(candidates)) < max(2, len(candidates)) or not all(fields):
            raise UserError(
                f"{path}:{number}: a line is word, phrase, the picture that is meant and at least one other, each "
                "once, separated by tabs."
            )
        if absent := [file for file in fields[2:] if _id(name, file) not in shown]:
            raise UserError(f"{path}:{number}: {', '.join(absent)} is not in pictures.tsv.")
        word, gold = fields[0], candidates[0]
        senses = {
            sense.synset_id: sense.sense_key for pos in ("n", "v", "a", "r") for sense in inventory.senses(word, pos)
        }
        rivals = [other for other in candidates[1:] if shown[other] in senses and shown[other] != shown[gold]]
        key = senses.get(shown[gold])
        # By their ids, so that the place of the gold tells nothing.
        queries.append(
            VisualInstance(f"{name}.{number}", "en", word, fields[1], sorted(candidates), gold, key, sorted(rivals))
        )
    write_records(instances, VisualInstance, queries)
    log.info("%s: %d queries", name, len(queries))
    return len(queries)


def _id(name: str, file: str) -> str:
    return f"{name}:{file}"


def _phrase(inventory: Inventory, sense_key: str) -> Phrase:
    sense = inventory.sense(sense_key)
    kinds = inventory.synset(sense.synset_id).hypernyms
    words = [sense.lemma, *(inventory.synset(kind).lemmas[0] for kind in kinds[:1])]
    return Phrase(sense.lemma, " ".join(words).replace("_", " "), sense_key, sense.synset_id)


def _synset(inventory: Inventory, where: str, sense_key: str) -> str | None:
    try:
        return inventory.sense(sense_key).synset_id if sense_key else None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _lines(path: Path) -> list[str]:
    try:
        lines = text_lines(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    if not lines:
        raise UserError(f"{path} is empty.")
    return lines


def _table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """The place (file:line) and the fields by column of each line behind the first, which names the columns."""
    head, *lines = _lines(path)
    names = head.split("\t")
    if absent := [column for column in columns if column not in names]:
        raise UserError(f"{path}:1: the columns {', '.join(absent)} are missing. Expected: {' '.join(columns)}.")
    for number, line in enumerate(lines, start=2):
        fields = [field.strip() for field in line.split("\t")]
        fields += [""] * (len(names) - len(fields))  # editors cut empty fields off
        yield f"{path}:{number}", dict(zip(names, fields, strict=False))
