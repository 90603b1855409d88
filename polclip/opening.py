"""All that a model is used with, found or made: its encoders, its inventory, the index of its glosses."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from polclip.devices import choose_device
from polclip.downloads.fetching import fetch
from polclip.downloads.manifest import read_manifest
from polclip.encoders.described import (
    Archive,
    Encoders,
    open_image_encoder,
    open_text_encoder,
    read_encoders,
)
from polclip.encoders.interface import ImageEncoder, TextEncoder
from polclip.errors import UserError
from polclip.files import complete_or_absent, sha256
from polclip.gloss_index import GlossIndex, build_index, model_digest
from polclip.inventory import Inventory, build_inventory
from polclip.model.polclip import PolCLIP, read_model
from polclip.settings import PROJECT

ARCHIVES = Path("resources") / "archives"
MANIFEST = PROJECT / "rules" / "datasets.yaml"
MODEL_FILES = ("model.safetensors", "config.json", "encoders.json")
TRAIN_FIRST = "Train a model first (`make demo`), then give results/demo/models/main/seed-42."


@dataclass(frozen=True)
class Opened:
    """A model with its surroundings."""

    folder: Path
    model: PolCLIP
    encoders: Encoders
    inventory: Inventory
    index: GlossIndex | None
    cache: Path
    find: Callable[[Archive], Path]  # an archive on this disk
    device: str

    def text_encoder(self) -> TextEncoder:
        with written_to(self.cache):
            return open_text_encoder(
                self.encoders, self.model, self._found(self.encoders.text), self._unpacked, self.device
            )

    def image_encoder(self) -> ImageEncoder:
        with written_to(self.cache):
            return open_image_encoder(
                self.encoders, self.model, self._found(self.encoders.image), self._unpacked, self.device
            )

    def build_index(self, folder: str | Path | None = None) -> GlossIndex:
        """Compute the index of all glosses, into the cache unless a folder is given."""
        folder, digest = Path(folder or self.cache / "index"), model_digest(self.folder)
        with written_to(folder):
            build_index(folder, self.model, digest, self.text_encoder(), self.inventory)
        return GlossIndex.read(folder, digest)

    @property
    def _unpacked(self) -> Path:
        return self.cache / "encoders"

    def _found(self, archive: Archive | None) -> Path | None:
        return None if archive is None else self.find(archive)


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Turn what keeps a folder from being written into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): name another folder as cache (--cache FOLDER)."
        ) from error


def open_model(
    folder: str | Path,
    archives: str | Path | None = None,
    download: bool = True,
    mirror: str | None = None,
    cache: str | Path | None = None,
    inventory: str | Path | None = None,
    index: str | Path | None = None,
    device: str = "cpu",
) -> Opened:
    """Open a model folder; the arguments are those of `Disambiguator.from_pretrained`."""
    folder = model_folder(folder, download)
    encoders = read_encoders(folder)
    device = choose_device(device, torch.get_num_threads())
    model = read_model(folder).to(device)
    cache = Path(cache or folder / "cache")

    def find(archive: Archive) -> Path:
        return find_archive(archive, archives or archives_with(archive.file), mirror, download)

    return Opened(
        folder, model, encoders, _inventory(folder, inventory, encoders, cache, find),
        _index(folder, index, cache), cache, find, device,
    )  # fmt: skip


def model_folder(name: str | Path, download: bool = True) -> Path:
    """The folder of a model: `name` itself, or the local copy of the repository `user/name` of the model hub.

    Raises UserError: no such folder or repository, or a folder without a model, with the models below it.
    """
    folder = Path(name)
    if not folder.is_dir():
        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(name)):
            raise UserError(
                f"{name} does not exist. Give a model folder or the name of a repository on the model hub "
                f"(user/name). {TRAIN_FIRST}"
            )
        try:
            folder = Path(snapshot_download(str(name), local_files_only=not download, allow_patterns=[*MODEL_FILES]))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{name} is neither a folder here nor a repository on the model hub that can be read "
                f"({type(error).__name__}). Check the name; for a private repository log in with `hf auth login`. "
                f"{TRAIN_FIRST}"
            ) from error
    if not (folder / "model.safetensors").exists():
        raise UserError(f"{name} is not a model: it has no model.safetensors. {_models_below(folder)}")
    return folder


def _models_below(folder: Path) -> str:
    """What to type for a folder that has no model itself, such as the results of a run."""
    found = [path.parent for depth in range(1, 5) for path in sorted(folder.glob("*/" * depth + "model.safetensors"))]
    if not found:
        return TRAIN_FIRST
    names = ", ".join(map(str, found[:8])) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    return f"Models below it: {names}. For example: --model {found[0]}"


def archives_with(file: str) -> Path:
    """Of the folders that hold archives the one with this file: of the place where one stands, or of the project."""
    here, project = ARCHIVES, PROJECT / ARCHIVES
    return here if (here / file).exists() or (here.exists() and not (project / file).exists()) else project


def find_archive(
    archive: Archive,
    folder: str | Path,
    mirror: str | None = None,
    download: bool = True,
    manifest: str | Path = MANIFEST,
) -> Path:
    """The archive in `folder`, checked; fetched there by the manifest's downloader where it is missing.

    Raises UserError: another file by that name, none and `download` False, or what the downloader says.
    """
    path = Path(folder) / archive.file
    if not path.exists():
        if not download:
            raise UserError(f"{path} is missing, and nothing may be downloaded: put it there, or name its folder.")
        entry = read_manifest(manifest).get(archive.dataset) if Path(manifest).exists() else None
        if entry is None or entry.file != archive.file:
            raise UserError(
                f"{path} is missing, and {manifest} does not say where to get it: put it there, or name its folder."
            )
        # Told on stderr: stdout is for answers.
        fetch(entry, path, mirror, log=lambda said: print(said, file=sys.stderr))
    if not archive.sha256 and path.resolve().parent != Path(folder).resolve():
        raise UserError(
            f"{path} is a link to another folder, and the model names no checksum of that file. Put the file itself "
            "there."
        )
    if archive.sha256 and (found := sha256(path)) != archive.sha256:
        raise UserError(
            f"{path} is another file than the one the model was trained with (SHA-256 {found}, expected "
            f"{archive.sha256}). Remove it and run again."
        )
    return path


def run_of(folder: Path) -> tuple[Path, Path] | None:
    """The results of the run that a model folder lies in, results/demo of results/demo/models/main/seed-42, and the
    rest of its path behind models/; None for a folder elsewhere."""
    parts = folder.resolve().parts
    if len(parts) < 4 or parts[-3] != "models":
        return None
    return Path(*parts[:-3]), Path(*parts[-2:])


def _inventory(
    folder: Path, given: str | Path | None, encoders: Encoders, cache: Path, find: Callable[[Archive], Path]
) -> Inventory:
    run = run_of(folder)
    places = [Path(given)] if given else [*([run[0] / "inventory"] if run else []), cache / "inventory"]
    for place in places:
        tables = place / "senses.parquet", place / "synsets.parquet"
        if all(table.exists() for table in tables):
            return Inventory.read(*tables)
    if given:
        raise UserError(f"{given} holds no inventory: senses.parquet and synsets.parquet are expected.")
    archive = find(encoders.inventory)
    with written_to(cache), complete_or_absent(cache / "inventory") as temporary:
        temporary.mkdir()
        build_inventory(archive, temporary / "senses.parquet", temporary / "synsets.parquet", encoders.counts)
    return Inventory.read(cache / "inventory" / "senses.parquet", cache / "inventory" / "synsets.parquet")


def _index(folder: Path, given: str | Path | None, cache: Path) -> GlossIndex | None:
    """The index that is given, or one of this very model that lies where they are looked for."""
    if given:
        return GlossIndex.read(given, model_digest(folder))
    run = run_of(folder)
    for place in [*([run[0] / "index" / run[1]] if run else []), cache / "index"]:
        if (place / "index.json").exists():
            try:
                return GlossIndex.read(place, model_digest(folder))
            except UserError:  # of a model that was there before
                continue
    return None
