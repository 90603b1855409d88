"""The pictures that a page shows beside senses: those of a run with its stored features, or a folder of one's own."""

import io
import sys
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from polclip import run_layout
from polclip.disambiguator import Disambiguator
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.model.representations import joined
from polclip.opening import run_of
from polclip.pictures import read_picture
from polclip.reading import PictureSet, files_of
from polclip.records import Picture, VisualInstance, read_records
from polclip.selection import order_by_digest
from polclip.stored_pictures import check_encoders, in_batches, joined_sets
from polclip.training.corpora import tokens_of

MOST = 20_000  # pictures; of more a sample
NO_TESTS = ("train", "dev", "pictures", "phrases")  # splits of corpora that hold no test queries
SHOWN_SIDE = 320  # pixels


@dataclass(frozen=True)
class Query:
    """A visual query to try: a word, a phrase, and the pictures by their places among those shown."""

    word: str
    phrase: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class ShownPictures:
    """Pictures with their vectors, files and names, all in one order."""

    read: PictureSet  # its `images` are ids, without folders of this machine
    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()  # what is to be seen, as far as a file's name tells
    queries: tuple[Query, ...] = ()


NOTHING = ShownPictures(PictureSet((), None, ()))


def shown_pictures(disambiguator: Disambiguator, model: Path, given: Path | None) -> ShownPictures:
    """The pictures of a folder, or unless one is given those of the run that the model lies in, if it has some.

    given: a folder of pictures, or the results of a run, whose stored features are used.

    Raises UserError: no such folder; none of its pictures can be read; features of other encoders than the model's; a
    run whose pictures have no stored features, or none that fit its files.
    """
    if given is not None and not given.is_dir():
        raise UserError(f"{given} is not a folder. Give --pictures a folder of pictures, or the results of a run.")
    run = run_of(model)
    results = given or (run[0] if run else None)
    if results is not None and (features := run_layout.picture_features(results)):
        return _of_run(disambiguator, results.resolve(), features)
    if given is not None:
        return _of_folder(disambiguator, given)
    if results is not None and run_layout.has_pictures(results):
        raise UserError(
            f"The run {results} has pictures, but no stored features of them (no folder "
            f"{results / run_layout.PICTURE_FEATURES.format(style='*', shard='*')}). Run `snakemake embeddings` with "
            "the settings of the run, or give --pictures FOLDER with pictures to encode now."
        )
    print(
        "No pictures are shown beside senses: the model is in no run that has some. Give --pictures FOLDER to show "
        "some.",
        file=sys.stderr,
    )
    return NOTHING


def as_png_or_jpeg(file: Path) -> tuple[bytes, str] | None:
    """A picture as browsers show it, at most SHOWN_SIDE pixels a side, and its type; None where it is not there."""
    picture = read_picture(file)
    if isinstance(picture, str):
        return None
    kind = "PNG" if max(picture.size) <= SHOWN_SIDE else "JPEG"
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, kind)
    return written.getvalue(), f"image/{kind.lower()}"


def _of_folder(disambiguator: Disambiguator, folder: Path) -> ShownPictures:
    """Pictures of a folder, which are run through the image tower now."""
    files = {str(file): file for file in files_of(folder)}
    files = {name: files[name] for name in _sample(files)}
    read = joined_sets(disambiguator.read_pictures(some) for some in in_batches(list(files.values())))
    if read.vectors is None:
        raise UserError(f"{folder} holds no picture that can be read. Give --pictures a folder that does.")
    found = tuple(files[name] for name in read.images)
    ids = tuple(file.relative_to(folder).as_posix() for file in found)
    if read.skipped:
        print(f"{len(read.skipped)} of {len(files)} pictures of {folder} cannot be used.", file=sys.stderr)
    return ShownPictures(replace(read, images=ids, skipped=()), found, tuple(_spaced(file.stem) for file in found))


@torch.inference_mode()
def _of_run(disambiguator: Disambiguator, run: Path, features: dict[str, list[Path]]) -> ShownPictures:
    """Pictures of a run, whose features are at hand: those of which both the features and the file exist."""
    store = FeatureStore([folder for folders in features.values() for folder in folders])
    check_encoders(disambiguator, store, run)
    pictures: dict[str, tuple[Picture, Path]] = {}
    for style in features:
        for picture in read_records(run_layout.picture_table(run, style), Picture):
            # As the run wrote it: results/NAME/pictures/..., whatever the folder is called now.
            file = run.joinpath(*Path(picture.path).parts[2:])
            if picture.picture_id in store and file.is_relative_to(run / "pictures") and file.is_file():
                pictures[picture.picture_id] = picture, file
    if not pictures:
        raise UserError(
            f"The run {run} has stored features of {len(store.place):,} pictures, but none of these files is in "
            f"{run / 'pictures'}. Run `snakemake embeddings` with the settings of the run, or give --pictures FOLDER."
        )
    queries = _queries(run, pictures)
    ids = _sample(pictures, {picture for query in queries for picture in query.candidates})
    device, model = disambiguator.model.device, disambiguator.model
    parts = [model.image(tokens_of(store, some, device)) for some in in_batches(ids)]
    places = {picture: place for place, picture in enumerate(ids)}
    return ShownPictures(
        PictureSet(tuple(ids), joined(parts), ()),
        tuple(pictures[picture][1] for picture in ids),
        tuple(_spaced(pictures[picture][0].name) for picture in ids),
        tuple(Query(query.word, query.phrase, tuple(map(places.get, query.candidates))) for query in queries),
    )


def _queries(run: Path, shown: Container[str], most: int = 4) -> list[VisualInstance]:
    """Some visual queries of the run's tests whose pictures can all be shown, hard ones first, each of another word."""
    tables = [path for path in run.glob("corpora/*/*.parquet") if path.stem not in NO_TESTS]
    found: dict[str, VisualInstance] = {}
    for table in sorted(tables, key=lambda path: (path.parent.name != "hard", path)):
        try:
            of_table = {query.instance_id: query for query in read_records(table, VisualInstance)}
        except UserError:  # of textual instances
            continue
        for query in map(of_table.get, order_by_digest(of_table, seed=1)):
            if query.word not in found and all(picture in shown for picture in query.candidates):
                found[query.word] = query
            if len(found) == most:
                return list(found.values())
    return list(found.values())


def _sample(names: Iterable[str], kept: Container[str] = ()) -> list[str]:
    """All names in their order, or of more than MOST a sample by their digest, in which `kept` is."""
    names = list(names)
    if len(names) <= MOST:
        return names
    print(f"{MOST:,} of {len(names):,} pictures are shown.", file=sys.stderr)
    chosen = set(sorted(order_by_digest(names, seed=0), key=lambda name: name not in kept)[:MOST])
    return [name for name in names if name in chosen]


def _spaced(name: str) -> str:
    """flying-fox as words."""
    return name.replace("-", " ").replace("_", " ")
