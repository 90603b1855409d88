"""`encoders.json` beside a model: what it reads with, so that it can be used without the settings of its run.

A pair stands on two frozen towers, which are archives of the manifest; a CLIP carries its towers and needs their
preprocessing alone. Both need the inventory of senses.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from polclip.encoders.embed import EncoderSettings, image_encoder, text_encoder
from polclip.encoders.interface import ImageEncoder, TextEncoder
from polclip.errors import UserError


@dataclass(frozen=True)
class Archive:
    """An entry of the manifest as it was when the model was trained."""

    dataset: str
    file: str
    sha256: str | None


@dataclass(frozen=True)
class Encoders:
    """What `encoders.json` says."""

    kind: str  # pair | clip
    inventory: Archive
    counts: tuple[int, int]  # synsets and senses of the inventory
    text: Archive | None  # of a pair, as `image`
    image: Archive | None
    text_layers: int
    text_precision: str
    grid: int | None
    trainable_image_blocks: int
    clip_architecture: str
    context_words: int  # of the windows that words were read in; 0: their sentence alone
    query_forms: tuple[str, ...]
    preprocess: dict | None  # of a CLIP's pictures

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
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        inventory = told["inventory"]
        return Encoders(
            told["kind"],
            _archive(inventory),
            (int(inventory["synsets"]), int(inventory["senses"])),
            _archive(told["text"]),
            _archive(told["image"]),
            told["text_layers"],
            told["text_precision"],
            told["grid"],
            told["trainable_image_blocks"],
            told["clip_architecture"],
            told["context_words"],
            tuple(told["query_forms"]),
            told["preprocess"],
        )
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: it names the encoders and the inventory that the model is used with. Training writes "
            "it beside the model; a model from before can be given one by an experiment with `checkpoint: FOLDER`."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not describe the encoders of a model ({error!r}). Copy it anew.") from error


def _archive(told: Mapping | None) -> Archive | None:
    return None if told is None else Archive(told["dataset"], told["file"], told["sha256"])


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

        if encoders.preprocess is None:
            raise UserError("encoders.json says nothing of `preprocess`: how pictures are brought to the tower's size.")
        prepare = preprocessing(encoders.preprocess)
        return ClipImageEncoder(model.clip, prepare, device, encoders.trainable_image_blocks, encoders.grid)
    return image_encoder(encoders.settings, archive, cache / archive.stem, device)
