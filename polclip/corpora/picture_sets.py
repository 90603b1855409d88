"""Pictures rendered from icon packages, tied to WordNet senses by the hand-checked tables beside this file.

`tables/picture_senses.tsv` says what a picture of a vocabulary shows (`vocabulary picture sense_key`).
A vocabulary is a set of names that several drawing styles may share: every emoji style draws the emoji U+1F987,
under a name of its own (`tables/emoji_icons.tsv`); the other vocabularies have one style and use its names.
"""

import io
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import resvg_py
from PIL import Image
from tqdm import tqdm

from polclip.downloads.unpacking import read_member
from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.inventory import Inventory
from polclip.records import Picture, write_records
from polclip.selection import order_by_digest

log = logging.getLogger(__name__)
TABLES = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Style:
    """One drawing style: the manifest entry of its archive, its family and its vocabulary."""

    name: str
    dataset: str
    family: str
    vocabulary: str


def read_picture_senses(inventory: Inventory, path: Path = TABLES / "picture_senses.tsv") -> pd.DataFrame:
    """The hand-checked table with the synset of each row: columns vocabulary, picture, sense_key, synset_id.

    Raises:
        UserError: a sense key is not in the inventory, or a picture stands twice; names the line.
    """
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    synsets, seen = [], set()
    for number, row in enumerate(table.itertuples(), start=2):
        try:
            synsets.append(inventory.synset_of(row.sense_key).synset_id)
        except (KeyError, UserError):
            raise UserError(
                f"{path.name}:{number}: unknown sense key {row.sense_key!r} for the picture {row.picture!r}. "
                "Use a WordNet 3.0 sense key, such as bat%1:05:00::."
            ) from None
        if (row.vocabulary, row.picture) in seen:
            raise UserError(f"{path.name}:{number}: the picture {row.vocabulary}:{row.picture} stands twice.")
        seen.add((row.vocabulary, row.picture))
    return table.assign(synset_id=synsets)


def icon_names(style: Style, senses: pd.DataFrame) -> dict[str, str]:
    """Names in the style's package of the vocabulary's pictures that it draws: picture -> icon name."""
    pictures = senses.loc[senses["vocabulary"] == style.vocabulary, "picture"]
    if style.vocabulary != "emoji":
        return {picture: picture for picture in pictures}
    icons = pd.read_csv(TABLES / "emoji_icons.tsv", sep="\t", dtype=str, keep_default_na=False)
    if style.name not in icons.columns:
        raise UserError(f"pictures.styles.{style.name}: emoji_icons.tsv has no column for this style.")
    names = dict(zip(icons["picture"], icons[style.name], strict=True))
    return {picture: names[picture] for picture in pictures if names.get(picture)}


def svg_of(icons: dict, name: str) -> str | None:
    """The SVG of one icon of an Iconify package; None where the package lacks it."""
    alias = icons.get("aliases", {}).get(name, {})
    icon = icons["icons"].get(alias.get("parent", name))
    if icon is None:
        return None
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" height="{height}" color="black">{icon["body"]}</svg>'
    )


def render(svg: str, size: int) -> Image.Image:
    """Draw an SVG on white, centred in a square of `size` pixels with a margin of 1/14 on each side."""
    inner = size - 2 * (size // 14)
    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=inner, height=inner, background="white")
    picture = Image.open(io.BytesIO(bytes(drawn))).convert("RGB")
    picture.thumbnail((inner, inner))
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return canvas


def chosen_pictures(style: Style, senses: pd.DataFrame, per_synset: int) -> list[tuple[str, str, str]]:
    """At most `per_synset` pictures of each synset, by the digest of their ids: (picture, icon name, synset id)."""
    names = icon_names(style, senses)
    by_synset: dict[str, list[str]] = defaultdict(list)
    for row in senses[senses["vocabulary"] == style.vocabulary].itertuples():
        if row.picture in names:
            by_synset[row.synset_id].append(row.picture)
    return [
        (picture, names[picture], synset_id)
        for synset_id, pictures in sorted(by_synset.items())
        for picture in order_by_digest(pictures, seed=0)[:per_synset]
    ]


def render_style(
    style: Style,
    archive: str | Path,
    inventory: Inventory,
    folder: str | Path,
    table: str | Path,
    size: int,
    per_synset: int,
) -> dict[str, int]:
    """Render the pictures of one style as PNG files into `folder`, and list them in `table` (Parquet of Picture).

    Returns:
        How many pictures were skipped, by reason.
    """
    icons = json.loads(read_member(archive, "package/icons.json"))
    chosen = chosen_pictures(style, read_picture_senses(inventory), per_synset)
    skipped: dict[str, int] = {}

    def pictures(temporary: Path) -> Iterator[Picture]:
        for picture, name, synset_id in tqdm(chosen, desc=f"render {style.name}", unit="picture", mininterval=5):
            svg = svg_of(icons, name)
            reason = "not in the package" if svg is None else None
            if svg is not None:
                try:
                    render(svg, size).save(temporary / f"{picture}.png")
                except (ValueError, OSError) as error:
                    if getattr(error, "errno", None) is not None:
                        raise
                    reason = "cannot be drawn"
            if reason:
                log.warning("%s:%s skipped: %s", style.name, picture, reason)
                skipped[reason] = skipped.get(reason, 0) + 1
                continue
            yield Picture(
                picture_id=f"{style.name}:{picture}",
                path=str(Path(folder) / f"{picture}.png"),
                style=style.name,
                family=style.family,
                name=name,
                synset_id=synset_id,
                dataset=style.dataset,
            )

    with complete_or_absent(folder) as temporary:
        temporary.mkdir()
        write_records(table, Picture, list(pictures(temporary)))
    return skipped
