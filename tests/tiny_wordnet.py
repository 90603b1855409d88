"""The tiny lexicon of tests/fixtures/wordnet, read as an inventory."""

from pathlib import Path

from polclip.inventory import Inventory, build_inventory

FOLDER = Path(__file__).parent / "fixtures" / "wordnet"
COUNTS = (14, 17)  # synsets, senses


def tiny_inventory(folder: Path) -> Inventory:
    senses, synsets = folder / "senses.parquet", folder / "synsets.parquet"
    build_inventory(FOLDER, senses, synsets, counts=COUNTS)
    return Inventory.read(senses, synsets)
