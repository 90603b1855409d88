"""`encoders.json` beside a model: what it reads with, so that it can be used without the settings of its run.

A pair stands on two frozen towers, which are archives of the manifest; a CLIP carries its towers and needs their
preprocessing alone. Both need the inventory of senses.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from polclip.encoders.embed import EncoderSettings, image_encoder, text_encoder
from polclip.encoders.interface import ImageEncoder, TextEncoder
from polclip.errors import UserError
from polclip.model.checked_config import in_a_sentence, read_config, settings_from

LARGEST_GRID = 64  # image tokens a side
QUERY_FORMS = ("photo", "listed", "reversed")  # see `query_texts`


@dataclass(frozen=True)
class Archive:
    """An entry of the manifest as it was when the model was trained; ValueError for a file that is a path."""

    dataset: str
    file: str
    sha256: str | None

    def __post_init__(self) -> None:
        if self.file in ("", ".", "..") or any(sign in self.file for sign in "/\\\0"):
            raise ValueError(f"file: {self.file!r}; allowed: the name of a file, without folders")


@dataclass(frozen=True)
class Encoders:
    """What `encoders.json` says."""

    kind: Literal["pair", "clip"]
    inventory: Archive
    counts: tuple[int, int]  # synsets and senses of the inventory
    text: Archive | None  # of a pair, as `image`
    image: Archive | None
    text_layers: int
    text_precision: Literal["no", "bf16"]
    grid: int | None
    trainable_image_blocks: int
    clip_architecture: str
    context_words: int  # of the windows that words were read in; 0: their sentence alone
    query_forms: tuple[str, ...]
    preprocess: dict | None  # of a CLIP's pictures

    def __post_init__(self) -> None:
        if self.text_layers < 1:
            raise ValueError("text_layers: at least 1")
        if self.grid is not None and not 1 <= self.grid <= LARGEST_GRID:
            raise ValueError(f"grid: null, or 1 to {LARGEST_GRID}")
        if self.kind == "pair" and (self.text is None or self.image is None):
            raise ValueError("text and image: a pair needs the archives of both")
        if not self.query_forms or not all(form in QUERY_FORMS for form in self.query_forms):
            raise ValueError(f"query_forms: a list of {', '.join(QUERY_FORMS)}")
        if not all(type(count) is int and count > 0 for count in self.counts):
            raise ValueError("inventory: synsets and senses are whole numbers above 0")

    @property
    def settings(self) -> EncoderSettings:
        return EncoderSettings(
            kind=self.kind,
            grid=self.grid,
            clip_architecture=self.clip_architecture,
            trainable_image_blocks=self.trainable_image_blocks,
            text_layers=self.text_layers,
            text_precision=self.text_precision,
        )


def read_encoders(folder: str | Path) -> Encoders:
    """The encoders of a model folder; UserError where they are not described there."""
    path = Path(folder) / "encoders.json"
    same = ("kind", "text_layers", "text_precision", "grid", "trainable_image_blocks", "clip_architecture")
    same += ("context_words", "preprocess")
    try:
        told = read_config(path)
        archives = {name: _archive(told[name]) for name in ("inventory", "text", "image")}
        counts = told["inventory"]["synsets"], told["inventory"]["senses"]
        forms = told["query_forms"]
        others = {"counts": counts, "query_forms": tuple(forms) if isinstance(forms, list) else ()}
        return settings_from(Encoders, {name: told[name] for name in same} | archives | others)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: it names the encoders and the inventory that the model is used with. Training writes "
            "it beside the model; a model from before can be given one by an experiment with `checkpoint: FOLDER`."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not describe the encoders of a model ({in_a_sentence(error)}). Copy it again."
        ) from error


def _archive(told: dict | None) -> Archive | None:
    keys = ("dataset", "file", "sha256")
    return None if told is None else settings_from(Archive, {key: told[key] for key in keys})


def open_text_encoder(
    encoders: Encoders, model: nn.Module, archive: Path | None, cache: Path, device: str
) -> TextEncoder:
    """The text tower; `archive` is a pair's, unpacked once into `cache`; of a CLIP it is the model's own."""
    if encoders.kind == "clip":
        from polclip.encoders.clip import ClipTextEncoder

        return ClipTextEncoder(model.clip, encoders.clip_architecture, device, model.clip_config)
    return text_encoder(encoders.settings, archive, cache / archive.stem, device)


def open_image_encoder(
    encoders: Encoders, model: nn.Module, archive: Path | None, cache: Path, device: str
) -> ImageEncoder:
    """The image tower, as `open_text_encoder`."""
    if encoders.kind == "clip":
        from polclip.encoders.clip import ClipImageEncoder, preprocessing

        if encoders.trainable_image_blocks != model.settings.trainable_image_blocks:
            raise UserError(
                f"encoders.json: trainable_image_blocks: {encoders.trainable_image_blocks}, and the model has "
                f"{model.settings.trainable_image_blocks}. Copy encoders.json again."
            )
        prepare = preprocessing(encoders.preprocess, model.clip.visual.image_size)
        return ClipImageEncoder(model.clip, prepare, device, encoders.trainable_image_blocks, encoders.grid)
    return image_encoder(encoders.settings, archive, cache / archive.stem, device)
