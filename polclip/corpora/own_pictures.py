"""Pictures of one's own, from a folder: to train on, and to ask about.

`pictures.tsv` names files of the folder and what they show; `phrases.tsv`, which may be left out, phrases that mean one
of these senses; `queries.tsv` what is asked: word, phrase, the picture that is meant, and the others.
"""

import logging
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from polclip.corpora.key_files import without_marker
from polclip.corpora.text_lines import text_lines, tsv_fields
from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.inventory import Inventory
from polclip.pictures import is_heic
from polclip.records import Phrase, Picture, VisualInstance, read_records, write_records

log = logging.getLogger(__name__)


def build_pictures(
    source: str | Path, name: str, inventory: Inventory, folder: str | Path, pictures: str | Path, phrases: str | Path
) -> dict[str, int]:
    """Copy the pictures of `source/pictures.tsv` to `folder`, and write their records and the phrases (Parquet).

    Columns: `file`, `sense_key` (may be empty: then it is only asked about), and what one likes. Phrases are those of
    `phrases.tsv` (`word phrase sense_key`), else of each sense one with what it is a kind of, "bat animal". Raises
    UserError with the line for what is not there, for files outside the folder, and for a picture named twice.
    """
    source, folder = Path(source), Path(folder)
    rows = list(_table(source / "pictures.tsv", ("file", "sense_key")))
    originals = _originals(source, rows)
    synsets = [_synset(inventory, where, row["sense_key"]) for where, row in rows]
    if (source / "phrases.tsv").exists():
        means = list(_phrases(source / "phrases.tsv", inventory))
    else:
        means = [_phrase(inventory, key) for key in dict.fromkeys(row["sense_key"] for _, row in rows) if key]
    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        found = []
        for number, ((_, row), original, synset_id) in enumerate(zip(rows, originals, synsets, strict=True)):
            kept = f"{number:06d}{original.suffix.lower()}"
            shutil.copyfile(original, temporary / kept)
            path, dataset = str(folder / kept), f"corpora.own.{name}"
            found.append(Picture(_id(name, row["file"]), path, name, name, row["file"], synset_id, dataset))
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
        fields = [field.strip() for field in tsv_fields(line)]
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
            sense.synset_id: sense.sense_key
            for lemma in inventory.lookup.lemmas_of(word)
            for sense in inventory.senses(*lemma)
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


def _originals(source: Path, rows: list[tuple[str, dict[str, str]]]) -> list[Path]:
    """The picture of each row. Raises UserError with the line for one that is missing, elsewhere, or named before."""
    by_name = {_composed(path.relative_to(source).as_posix()): path for path in source.rglob("*")}
    found: list[Path] = []
    named: dict[tuple[int, int], str] = {}  # by device and inode, since one file may have several names
    for where, row in rows:
        file = row["file"]
        if not file:
            raise UserError(f"{where}: the field `file` is empty. Name a picture of {source}, or take the line out.")
        original = source / file if (source / file).is_file() else by_name.get(_composed(file), source / file)
        elsewhere = PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts
        if elsewhere or not original.resolve().is_relative_to(source.resolve()):
            raise UserError(f"{where}: {file} is not a file in {source}. Copy the picture there and give its name.")
        if not original.is_file():
            raise UserError(f"{where}: there is no picture {original}.")
        if is_heic(original):
            raise UserError(f"{where}: {file} is HEIC, which is not read. Save it as JPEG or PNG and name that file.")
        status = original.stat()
        before = named.setdefault((status.st_dev, status.st_ino), where)
        if before != where:
            raise UserError(f"{where}: {file} is the picture of {before} again. Keep one line per picture.")
        found.append(original)
    return found


def _phrases(path: Path, inventory: Inventory) -> Iterator[Phrase]:
    columns = ("word", "phrase", "sense_key")
    for where, row in _table(path, columns):
        if empty := [column for column in columns if not row[column]]:
            raise UserError(f"{where}: the field `{empty[0]}` is empty. A line has a word, a phrase and a sense key.")
        synset_id = _synset(inventory, where, row["sense_key"])
        yield Phrase(row["word"], row["phrase"], without_marker(row["sense_key"]), synset_id)


def _id(name: str, file: str) -> str:
    """The picture's id, the same however its accents are encoded."""
    return f"{name}:{_composed(file)}"


def _composed(file: str) -> str:
    """A file's name with composed accents (NFC): some systems write decomposed ones."""
    return unicodedata.normalize("NFC", PurePosixPath(file).as_posix())


def _phrase(inventory: Inventory, sense_key: str) -> Phrase:
    sense = inventory.sense(sense_key)
    kinds = inventory.synset(sense.synset_id).hypernyms
    words = [sense.lemma, *(inventory.synset(kind).lemmas[0] for kind in kinds[:1])]
    return Phrase(sense.lemma, " ".join(words).replace("_", " "), sense.sense_key, sense.synset_id)


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
    names = [name.strip() for name in tsv_fields(head)]
    if absent := [column for column in columns if column not in names]:
        raise UserError(f"{path}:1: the columns {', '.join(absent)} are missing. Expected: {' '.join(columns)}.")
    if twice := [column for column in columns if names.count(column) > 1]:
        raise UserError(f"{path}:1: the column {twice[0]} occurs twice. Keep one.")
    if not lines:
        raise UserError(f"{path} has no line below the names of its columns. Add one line per item.")
    for number, line in enumerate(lines, start=2):
        fields = [field.strip() for field in tsv_fields(line)]
        if any(fields[len(names) :]):
            raise UserError(f"{path}:{number}: {len(fields)} fields for {len(names)} columns, separated by tabs.")
        fields += [""] * (len(names) - len(fields))  # editors cut empty fields off
        yield f"{path}:{number}", dict(zip(names, fields, strict=False))
