"""Pictures of a run by the features that the workflow stored, so that no encoder runs again."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

from polclip import run_layout
from polclip.disambiguator import Disambiguator
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.model.representations import joined
from polclip.reading import PictureSet, files_of
from polclip.records import Picture, read_records
from polclip.training.corpora import tokens_of

AT_ONCE = 64


@torch.inference_mode()
def pictures_of(disambiguator: Disambiguator, folder: Path) -> PictureSet:
    """The pictures of a folder: of a run's own pictures (results/NAME/pictures, or a style in it) by their stored
    features where the model's encoders made them; all others through the image encoder now."""
    files = files_of(folder)
    stored = _stored(disambiguator, folder.resolve())
    parts = []
    if stored:
        store, ids = stored
        known = [file for file in files if ids.get(file.resolve()) in store]
        files = [file for file in files if ids.get(file.resolve()) not in store]
        for some in in_batches(known):
            vectors = disambiguator.model.image(
                tokens_of(store, [ids[file.resolve()] for file in some], disambiguator.model.device)
            )
            parts.append(PictureSet(tuple(map(str, some)), vectors, ()))
    return joined_sets([*parts, disambiguator.read_pictures(files)])


def _stored(disambiguator: Disambiguator, folder: Path) -> tuple[FeatureStore, dict[Path, str]] | None:
    """Stored features that fit a model, and the ids of files; None where a folder is not one of a run's pictures."""
    results = folder.parent if folder.name == "pictures" else folder.parent.parent
    if folder not in (results / "pictures", results / "pictures" / folder.name):
        return None
    features = run_layout.picture_features(results)
    styles = [style for style in features if folder.name in ("pictures", style)]
    if not styles:
        return None
    store = FeatureStore([shard for style in styles for shard in features[style]])
    try:
        check_encoders(disambiguator, store, results)
    except UserError:
        return None
    return store, {
        results.joinpath(*Path(picture.path).parts[2:]): picture.picture_id
        for style in styles
        for picture in read_records(run_layout.picture_table(results, style), Picture)
    }


def check_encoders(disambiguator: Disambiguator, store: FeatureStore, run: Path) -> None:
    """Raise UserError where the features of a run were made by other encoders than the model's."""
    settings = disambiguator.encoders.settings
    decisive = ("kind", "grid") if settings.kind == "pair" else ("kind", "clip_architecture", "trainable_image_blocks")
    for described in store.described:
        for name in decisive:
            if name in described and described[name] != getattr(settings, name):
                raise UserError(
                    f"The pictures of {run} were embedded by other encoders than the model's ({name}: "
                    f"{described[name]!r}, the model's {getattr(settings, name)!r}). Name a folder of pictures: "
                    "--pictures FOLDER"
                )


def in_batches(items: list) -> Iterable[list]:
    """Lists of AT_ONCE items; long work shows its progress on stderr."""
    with tqdm(total=len(items), desc="pictures", unit="picture", delay=2, leave=False) as progress:
        for start in range(0, len(items), AT_ONCE):
            yield items[start : start + AT_ONCE]
            progress.update(len(items[start : start + AT_ONCE]))


def joined_sets(parts: Iterable[PictureSet]) -> PictureSet:
    """Several sets as one."""
    parts = list(parts)
    vectors = [part.vectors for part in parts if part.vectors is not None]
    return PictureSet(
        tuple(image for part in parts for image in part.images),
        joined(vectors) if vectors else None,
        tuple(one for part in parts for one in part.skipped),
    )
