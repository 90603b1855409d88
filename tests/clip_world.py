"""Complete calls of `train` over the tiny world, on a tiny pair of towers and on a tiny CLIP.

A call is plain values, as `polclip.training.launch` takes them: a child process can be given it too.
"""

import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import tiny_clip
import tiny_features
import torch
from PIL import Image
from tiny_features import World, aligned, tiny_world

from polclip.corpora.texts import collect
from polclip.encoders.embed import EncoderSettings, embed_pictures, embed_texts, image_encoder, text_encoder
from polclip.model.clip_polclip import ClipModelSettings
from polclip.records import Picture, VisualInstance, read_records, write_records
from polclip.training.launch import run

SETTINGS = dataclasses.replace(
    tiny_features.TRAINING,
    epochs=1,
    words=8,
    glosses=16,
    pictures=24,
    phrases=6,
    learning_rate=0.002,
    pretrained_learning_rate=0.002,
    dev_instances=100,
    save_minutes=0,
)


def _call(folder: Path, world: World, **given) -> dict:
    return {
        "senses": str(folder / "senses.parquet"),
        "synsets": str(folder / "synsets.parquet"),
        "textual_train": [str(world.textual_train)],
        "textual_dev": [str(world.textual_dev)],
        "pictures_train": [str(world.pictures_train)],
        "phrases": [str(world.phrases)],
        "visual_dev": [str(world.dev_style), str(world.dev_words)],
        "definitions": {},
        "forms": ["photo"],
        "context_words": 0,
        "text_weights": None,
        "training": dataclasses.asdict(SETTINGS),
        "seed": 7,
        "device": "cpu",
        **given,
    }


def pair_call(folder: Path) -> dict:
    """A call over a pair of towers, barely aligned, so that something is left to learn."""
    world = tiny_world(folder)
    aligned(world, folder / "towers", epochs=1, learning_rate=1e-4, text_learning_rate=1e-5)
    return _call(
        folder,
        world,
        text_features=[str(world.texts_folder)],
        picture_features=[str(world.pictures_folder)],
        model=dataclasses.asdict(tiny_features.MODEL),
        encoder={"kind": "pair", "text_layers": 1},
        towers=str(folder / "towers"),
    )


def clip_call(folder: Path, **encoder) -> dict:
    """A call over a tiny CLIP, of whose two image blocks one is trained; every synset is a colour in the pictures."""
    world = tiny_world(folder)
    encoder = {
        "kind": "clip",
        "clip_architecture": tiny_clip.write_clip(folder / "clip"),
        "clip_weights": "",
        "trainable_image_blocks": 1,
        "grid": None,
        **encoder,
    }
    queries = [world.dev_style, world.dev_words]
    training = [world.textual_train]
    collect(
        folder / "texts.parquet",
        world.inventory,
        [*training, world.textual_dev],
        queries,
        [world.phrases],
        {},
        captions=training,
    )
    draw_pictures(folder, world)
    texts, pictures = embedded(folder, folder / "clip_features", encoder)
    return _call(
        folder,
        world,
        text_features=[texts],
        picture_features=[pictures],
        model=dataclasses.asdict(tiny_clip.SETTINGS),
        encoder=encoder,
        towers=None,
    )


def embedded(folder: Path, output: Path, encoder: dict) -> tuple[str, str]:
    """Features of the world's texts and drawn pictures by a CLIP: the two folders."""
    settings = EncoderSettings(**encoder)
    of_texts, of_pictures = text_encoder(settings, None, folder, "cpu"), image_encoder(settings, None, folder, "cpu")
    embed_texts(folder / "texts.parquet", of_texts, output / "texts", 0, 1, 64, settings.of_texts())
    drawn = folder / "drawn.parquet"
    embed_pictures(
        drawn, of_pictures, output / "pictures", output / "skipped.json", 16, described=settings.of_pictures()
    )
    return str(output / "texts"), str(output / "pictures")


def draw_pictures(folder: Path, world: World) -> None:
    """PNGs of all pictures of the world: the colour of their synset, with noise."""
    rng = np.random.default_rng(0)
    asked = [q for path in (world.dev_style, world.dev_words) for q in read_records(path, VisualInstance)]
    ids = [picture.picture_id for picture in read_records(world.pictures_train, Picture)]
    ids = list(dict.fromkeys([*ids, *(c for query in asked for c in query.candidates)]))
    synsets = sorted({_synset(picture_id) for picture_id in ids})
    colours = dict(zip(synsets, rng.permutation(3 * len(synsets))[: 3 * len(synsets)].reshape(-1, 3), strict=True))
    drawn = []
    for number, picture_id in enumerate(ids):
        synset_id = _synset(picture_id)
        colour = colours[synset_id] * 255 / (3 * len(synsets))
        pixels = (colour + rng.normal(0, 12, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        drawn.append(Picture(picture_id, str(path), "tiny", "tiny", "tiny", synset_id, "none"))
    write_records(folder / "drawn.parquet", Picture, drawn)


def _synset(picture_id: str) -> str:
    return picture_id.split(":")[1].split(".")[0]


def into(call: dict, folder: Path, model: dict | None = None, **training) -> dict:
    """A call that writes into `folder`, with some settings of the model and of the training changed."""
    return {
        **call,
        "folder": str(folder / "model"),
        "resume": str(folder / "resume"),
        "model": {**call["model"], **(model or {})},
        "training": {**call["training"], **training},
    }


def clip_settings(**changed) -> ClipModelSettings:
    return dataclasses.replace(tiny_clip.SETTINGS, **changed)


def lines_of(folder: Path) -> list[dict]:
    """The lines of a `metrics.jsonl`, without the time, which is never the same."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


# --- trainings in processes of their own, forked from one that has torch: a start takes no seconds

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["polclip.training.launch", "polclip.model.clip_polclip", "torch.utils.data"])


def started(call: dict, said: Path, prepare: Callable | None = None, given: tuple = (), **environment: str):
    """A process that runs the call; what it says is added to the file `said`.

    prepare: called in it with `given` before the training, a function of a module.
    """
    from multiprocessing.forkserver import ensure_running

    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS="1"):
        ensure_running()
    process = _PROCESSES.Process(target=_run, args=(call, said, prepare, given, environment))
    process.start()
    return process


def _run(call: dict, said: Path, prepare: Callable | None, given: tuple, environment: dict[str, str]) -> None:
    with open(said, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)  # more threads add in another order
    if prepare:
        prepare(*given)
    run(call)


def finished(call: dict, said: Path, prepare: Callable | None = None, given: tuple = ()) -> None:
    """Run the call in a process of its own to its end."""
    process = started(call, said, prepare, given)
    process.join(120)
    assert process.exitcode == 0, said.read_text()
