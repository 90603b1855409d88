"""A small world with known answers: features made from one random vector a synset, on disk as the workflow has them.

Glosses and phrases carry the vector itself, sentences and pictures a rotated one: so nothing is solved without
training, and everything can be solved by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tiny_wordnet import tiny_inventory

from polclip.corpora.texts import captions_of, gloss_text, photo_text, text_id
from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.files import read_json_lines
from polclip.inventory import Inventory
from polclip.model.pair_polclip import PairModelSettings, PairPolCLIP, TowerSettings
from polclip.model.representations import Tokens
from polclip.records import Phrase, Picture, TextualInstance, VisualInstance, write_records
from polclip.training.alignment import align
from polclip.training.settings import AlignmentSettings, TrainingSettings

TEXT, IMAGE, CLASSES = 16, 24, 5
VOCABULARY = 100
TOWERS = TowerSettings(TEXT, IMAGE, TEXT, CLASSES, hidden=32, channel_dropout=0.1, dropout=0.1, members=2)
MODEL = PairModelSettings(width=16, heads=2, shared_blocks=1, own_blocks=1, fusion_blocks=1, dropout=0.1)


FORMS = ("photo", "listed")
ALIGNMENT = AlignmentSettings(
    epochs=6,
    batch=22,
    learning_rate=0.005,
    text_learning_rate=0.001,
    weight_decay=0.01,
    temperature=0.07,
    hidden=32,
    channel_dropout=0.1,
    dropout=0.1,
    members=2,
    sense_weight=0.5,
    word_epochs=1,
    word_batch=16,
    word_learning_rate=0.0003,
)
TRAINING = TrainingSettings(
    tasks=("textual", "visual"),
    epochs=2,
    max_steps=12,
    words=16,
    glosses=24,
    pictures=30,
    pictures_per_sense=2,
    phrases=8,
    own_candidates=False,
    sense_table=False,
    pictures_every=1,
    learning_rate=0.005,
    context_learning_rate=0.001,
    pretrained_learning_rate=0.005,
    rise=0.1,
    weight_decay=0.01,
    clip_norm=1.0,
    average=None,
    accumulate=1,
    precision="no",
    dev_every=4,
    dev_instances=50,
    patience=None,
    start_from=None,
    save_minutes=60.0,
    tensorboard=False,
)


@dataclass(frozen=True)
class World:
    """What a run has on disk; features also as folders, for steps that open them themselves."""

    inventory: Inventory
    texts: FeatureStore
    pictures: FeatureStore
    texts_folder: Path
    pictures_folder: Path
    textual_train: Path
    textual_dev: Path
    pictures_train: Path
    phrases: Path
    dev_style: Path
    dev_words: Path
    classes: list[str]  # synset ids of the image classes


def random_model(towers: TowerSettings = TOWERS, settings: PairModelSettings = MODEL, seed: int = 0) -> PairPolCLIP:
    """A model far from its start, so that every part shows in what comes out; in evaluation mode."""
    torch.manual_seed(seed)
    model = PairPolCLIP(towers, settings)
    with torch.no_grad():
        for parameter in [*model.parameters(), *model.heads.buffers()]:
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    model.restart_momentum()
    return model.eval()


def random_tokens(lengths: Iterable[int], width: int, classes: int = 0, seed: int = 0) -> Tokens:
    """Features of items with so many tokens each; the padding holds large numbers, to be noticed where it is read."""
    rng = torch.Generator().manual_seed(seed)
    lengths = list(lengths)
    real = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    states = torch.randn(len(lengths), max(lengths), width, generator=rng)
    states = torch.where(real.unsqueeze(-1), states, 100.0)
    pooled = torch.randn(len(lengths), width, generator=rng)
    scores = torch.randn(len(lengths), classes, generator=rng).softmax(-1) if classes else None
    return Tokens(pooled, states, real, scores)


class _Texts:
    """Texts to be stored, each once."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.seen, self.items = rng, set(), []

    def add(self, text: str, vector: np.ndarray) -> None:
        if text in self.seen:
            return
        self.seen.add(text)
        words = text.split(" ")
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
        spans = [(0, 0), *((s, s + len(word)) for s, word in zip(starts, words, strict=True)), (0, 0)]
        states = vector + 0.3 * self.rng.normal(size=(len(spans), TEXT))
        pooled = vector + 0.05 * self.rng.normal(size=TEXT)
        tokens = [VOCABULARY - 2, *(sum(word.encode()) % (VOCABULARY - 2) for word in words), VOCABULARY - 1]
        self.items.append((text_id(text), states, pooled, np.array(spans), np.array(tokens)))

    def write(self, folder: Path) -> None:
        with shard_writer(folder) as writer:
            for item, states, pooled, spans, tokens in self.items:
                writer.add([item], [states], pooled[None], spans=[spans], tokens=[tokens])


def tiny_world(folder: Path, seed: int = 0, instances: int = 24, drawings: int = 8) -> World:
    """Five lemmas of two senses with sentences for each, and eleven synsets with pictures in two styles."""
    rng = np.random.default_rng(seed)
    inventory = tiny_inventory(folder)
    synsets = inventory.synset_ids()
    vectors = {s: v / np.linalg.norm(v) for s, v in zip(synsets, rng.normal(size=(len(synsets), TEXT)), strict=True)}
    turn = np.linalg.qr(rng.normal(size=(TEXT, TEXT)))[0]
    see = np.linalg.qr(rng.normal(size=(IMAGE, IMAGE)))[0][:TEXT]
    texts = _Texts(rng)
    for synset_id in synsets:
        texts.add(gloss_text(inventory.synset(synset_id)), vectors[synset_id])

    sides: dict[str, list[TextualInstance]] = {"train": [], "dev": []}
    for lemma, pos in (("bat", "n"), ("mouse", "n"), ("look_up", "v"), ("ample", "a"), ("well", "r")):
        candidates = inventory.sense_keys(lemma, pos)
        for key in candidates:
            for number in range(instances):
                tokens = ["number", str(number), "of", key, *lemma.split("_")]
                instance = TextualInstance(
                    f"{key}.{number}", f"{key}.{number}", tokens, 4, len(tokens), lemma, pos, candidates, [key]
                )
                texts.add(instance.text, vectors[inventory.sense(key).synset_id] @ turn)
                sides["dev" if number % 4 == 0 else "train"].append(instance)

    drawn, phrases = [], []
    classes = synsets[:CLASSES]
    features = []
    for synset_id in synsets[:11]:
        synset = inventory.synset(synset_id)
        word = synset.lemmas[0].replace("_", " ")
        key = next(s.sense_key for s in inventory.senses(word, synset_id[-1]) if s.synset_id == synset_id)
        phrases.append(Phrase(word, f"{word} of {synset_id}", key, synset_id))
        for text in [*captions_of(synset, inventory, [phrases[-1].phrase]), photo_text(phrases[-1].phrase)]:
            texts.add(text, vectors[synset_id])
        for style in ("train", "dev"):
            for number in range(drawings):
                picture_id = f"{style}:{synset_id}.{number}"
                drawn.append(Picture(picture_id, "none.png", style, style, word, synset_id, "none"))
                states = vectors[synset_id] @ see + 0.1 * rng.normal(size=(4, IMAGE))
                likely = np.exp(3 * np.stack([vectors[c] for c in classes]) @ vectors[synset_id])
                features.append((picture_id, states, (likely / likely.sum())[None]))
    queries = [
        VisualInstance(
            f"{phrase.sense_key}.{number}",
            "en",
            phrase.word,
            phrase.phrase,
            [f"dev:{other.synset_id}.{number}" for other in phrases if other != phrases[(at + 1) % 11]],
            f"dev:{phrase.synset_id}.{number}",
            phrase.sense_key,
        )
        for number in range(drawings)
        for at, phrase in enumerate(phrases)
    ]

    for phrase in phrases:  # the queries in another form
        texts.add(f"{phrase.word}, of {phrase.synset_id}", 0.8 * vectors[phrase.synset_id])
    texts.write(folder / "texts")
    with shard_writer(folder / "drawings") as writer:
        for picture_id, states, likely in features:
            writer.add([picture_id], [states], states.mean(0)[None], class_probabilities=likely)
    corpora = {
        "textual_train": (TextualInstance, sides["train"]),
        "textual_dev": (TextualInstance, sides["dev"]),
        "pictures_train": (Picture, [picture for picture in drawn if picture.style == "train"]),
        "phrases": (Phrase, phrases),
        "dev_style": (VisualInstance, queries[::2]),
        "dev_words": (VisualInstance, queries[1::2]),
    }
    paths = {name: folder / f"{name}.parquet" for name in corpora}
    for name, (kind, records) in corpora.items():
        write_records(paths[name], kind, records)
    return World(
        inventory,
        FeatureStore([folder / "texts"]),
        FeatureStore([folder / "drawings"]),
        folder / "texts",
        folder / "drawings",
        **paths,
        classes=classes,
    )


def aligned(world, folder, seed=1, **changes):
    paths = ([world.phrases], [world.pictures_train], [world.dev_style, world.dev_words])
    settings = replace(ALIGNMENT, **changes)
    align(
        folder,
        world.inventory,
        world.texts,
        world.pictures,
        world.classes,
        *paths,
        FORMS,
        [world.textual_train],
        0,
        settings,
        seed,
    )
    return list(read_json_lines(folder / "metrics.jsonl"))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
