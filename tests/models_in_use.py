"""Model folders of all three kinds as a user has them, with the archives that they name; and what the workflow says.

The archives are those of the tiny project: a random BERT, a random EfficientNet-Lite0, a WordNet of 44 senses.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_clip import random_clip_model
from tiny_features import MODEL
from tiny_project import CONCEPTS, SENSES, SYNSETS, make_mirror, read_manifest
from tiny_project import ROOT as PROJECT

from polclip.corpora.texts import collect
from polclip.encoders.described import open_image_encoder, open_text_encoder, read_encoders
from polclip.encoders.embed import embed_pictures, embed_texts
from polclip.encoders.feature_store import FeatureStore
from polclip.files import write_json
from polclip.inventory import Inventory, build_inventory
from polclip.model.pair_polclip import PairPolCLIP, TowerSettings
from polclip.model.polclip import PolCLIP, read_model
from polclip.records import Picture, TextualInstance, VisualInstance, write_records

KINDS = ("frozen", "trained", "clip")
TOWERS = TowerSettings(16, 1280, 16, 1000, hidden=16, channel_dropout=0.1, dropout=0.1, members=2)
FORMS = ["photo", "listed", "reversed"]
PREPROCESS = {"size": [32, 32], "mean": [0.5, 0.4, 0.5], "std": [0.2, 0.3, 0.2], "interpolation": "bicubic"}


@dataclass(frozen=True)
class InUse:
    """A model folder, its archives, and the workflow's own features of what a test asks."""

    folder: Path
    archives: Path
    model: PolCLIP
    inventory: Inventory
    texts: FeatureStore
    pictures: FeatureStore
    instances: Path  # Parquet of TextualInstance
    queries: Path  # Parquet of VisualInstance; picture ids are the paths of the files
    files: list[Path]


def make_archives(folder: Path) -> Path:
    return make_mirror(folder / "archives")


def write_model(folder: Path, kind: str, archives: Path, **changes) -> Path:
    """A model of random weights with its encoders.json; `changes` are of a pair's settings."""
    model = _clip() if kind == "clip" else _pair(archives, kind == "trained", changes)
    with torch.no_grad():
        torch.manual_seed(5)
        for name, parameter in model.named_parameters():
            if name != "log_scale" and not name.startswith(("momentum.", "clip.")):
                parameter.add_(0.2 * torch.randn(parameter.shape))
    model.encoders = encoders_of(kind, archives)
    model.write(folder)
    return folder


def encoders_of(kind: str, archives: Path) -> dict:
    def archive(dataset: str) -> dict:
        file = read_manifest(PROJECT)[dataset]["file"]
        return {"dataset": dataset, "file": file, "sha256": hashlib.sha256((archives / file).read_bytes()).hexdigest()}

    pair = kind != "clip"
    return {
        "kind": "pair" if pair else "clip",
        "clip_architecture": "" if pair else "local-dir:/nowhere",
        "clip_weights": "",
        "trainable_image_blocks": 0,
        "grid": 2 if pair else None,
        "text_layers": 1,
        "text_precision": "bf16" if kind == "trained" else "no",
        "context_words": 9 if kind == "trained" else 0,
        "query_forms": FORMS if pair else FORMS[:1],
        "text": archive("minilm") if pair else None,
        "image": archive("efficientnet_lite0") if pair else None,
        "inventory": archive("wordnet") | {"synsets": SYNSETS, "senses": SENSES},
        "preprocess": None if pair else PREPROCESS,
    }


def _clip() -> PolCLIP:
    return random_clip_model(seed=3)


def _pair(archives: Path, trained: bool, changes: dict) -> PolCLIP:
    torch.manual_seed(2)
    own = {"trainable_text_blocks": 1, "word_states": "target", "sense_dropout": 0.5} if trained else {}
    settings = dataclasses.replace(MODEL, **own, **changes)
    from transformers import BertConfig

    vocabulary = len({word for c in CONCEPTS for word in f"{c.word} {c.kind} {c.gloss} {c.cue}".split()}) + 5
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=vocabulary, **sizes).to_dict() if trained else None
    golds = [f"{c.offset}-n" for c in CONCEPTS[::2]] if trained else []
    groups = ["noun.animal", *golds[:1]] if trained else []
    model = PairPolCLIP(TOWERS, settings, config, senses=golds, groups=groups)
    if trained:
        for offsets in (model.sense_vectors.offsets, model.sense_vectors.group_offsets):
            torch.nn.init.normal_(offsets, std=0.3)
    for buffer in model.heads.buffers():
        buffer.copy_(torch.randn(buffer.shape))
    return model


def in_use(folder: Path, kind: str, archives: Path) -> InUse:
    """A model folder, with instances, queries and pictures through the workflow's own steps."""
    model_folder = write_model(folder / "model", kind, archives)
    file = read_manifest(PROJECT)["wordnet"]["file"]
    build_inventory(archives / file, folder / "senses.parquet", folder / "synsets.parquet", (SYNSETS, SENSES))
    inventory = Inventory.read(folder / "senses.parquet", folder / "synsets.parquet")
    files = draw(folder / "pictures")
    write_records(folder / "instances.parquet", TextualInstance, list(_instances(inventory)))
    write_records(folder / "queries.parquet", VisualInstance, list(_queries(files)))
    drawn = [Picture(str(path), str(path), "tiny", "tiny", "tiny", None, "none") for path in files]
    write_records(folder / "drawn.parquet", Picture, drawn)

    encoders, model = read_encoders(model_folder), read_model(model_folder)

    def archive(one) -> Path | None:
        return None if one is None else archives / one.file

    texts = open_text_encoder(encoders, model, archive(encoders.text), folder / "unpacked", "cpu")
    pictures = open_image_encoder(encoders, model, archive(encoders.image), folder / "unpacked", "cpu")
    asked = [folder / "instances.parquet"], [folder / "queries.parquet"]
    collect(folder / "texts.parquet", inventory, *asked, [], {}, encoders.query_forms)
    embed_texts(folder / "texts.parquet", texts, folder / "texts", 0, 1, 16)
    embed_pictures(folder / "drawn.parquet", pictures, folder / "embedded", folder / "skipped.json", 8)
    return InUse(
        model_folder, archives, model, inventory, FeatureStore([folder / "texts"]), FeatureStore([folder / "embedded"]),
        folder / "instances.parquet", folder / "queries.parquet", files,
    )  # fmt: skip


def draw(folder: Path, count: int = 12) -> list[Path]:
    """PNGs of one colour each, with noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        pixels = (rng.integers(0, 255, 3) + rng.normal(0, 20, (48, 40, 3))).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{number:02d}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def _instances(inventory: Inventory):
    for at, c in enumerate(CONCEPTS):
        tokens = [*f"we saw the {c.cue} and".split(), c.word, *CONCEPTS[(at * 7 + 3) % len(CONCEPTS)].gloss.split()]
        keys = inventory.sense_keys(c.word, "n")
        yield TextualInstance(f"i{at}", f"s{at}", tokens, 5, 6, c.word, "n", keys, [c.sense_key])


def _queries(files: list[Path]):
    for at, c in enumerate(CONCEPTS[:6]):
        shown = [str(files[(at + k) % len(files)]) for k in range(10)]
        yield VisualInstance(f"q{at}", "en", c.word, f"{c.word} {c.cue}", shown, shown[0], c.sense_key)


def write_encoders(folder: Path, **changes) -> None:
    """Change what encoders.json says."""
    from polclip.files import read_json

    write_json(folder / "encoders.json", read_json(folder / "encoders.json") | changes)
