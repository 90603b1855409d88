"""A run with a model, pictures and their features as the workflow leaves them, and `polclip serve` upon it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import psutil
import uvicorn
from models_in_use import draw, make_archives, write_model
from starlette.applications import Starlette
from tiny_project import CONCEPTS, ROOT

from polclip import Disambiguator
from polclip.encoders.embed import EncoderSettings, embed_pictures
from polclip.records import Picture, VisualInstance, write_records


@dataclass(frozen=True)
class Run:
    results: Path
    model: Path
    archives: Path
    pictures: list[Path]  # of the run
    opened: Disambiguator


@dataclass(frozen=True)
class Server:
    url: str
    process: psutil.Process


def make_run(folder: Path) -> Run:
    """A model in a run, with an index of its glosses, twelve pictures and a test of them."""
    archives = make_archives(folder)
    results = folder / "results" / "tiny"
    model = write_model(results / "models" / "main" / "seed-1", "frozen", archives)
    opened = Disambiguator.from_pretrained(model, archives=archives, download=False)
    opened.build_index(results / "index" / "main" / "seed-1")
    files = draw(results / "pictures" / "noto")
    told = [(f"noto:{file.stem}", CONCEPTS[at]) for at, file in enumerate(files)]
    for table, paths in (
        (folder / "absolute.parquet", map(str, files)),
        (results / "pictures" / "noto.parquet", (f"results/tiny/pictures/noto/{file.name}" for file in files)),
    ):
        rows = [
            Picture(item, path, "noto", "noto", f"{c.word}-{c.kind}", f"{c.offset}-n", "iconify_noto")
            for (item, c), path in zip(told, paths, strict=True)
        ]
        write_records(table, Picture, rows)
    out = results / "embeddings" / "pictures" / "noto"
    described = EncoderSettings("pair", 2, "of no account").of_pictures()
    encoder = opened.reader.image_encoder
    embed_pictures(folder / "absolute.parquet", encoder, out, folder / "skipped.json", 8, 0, described)
    query = VisualInstance("q0", "en", "bat", "bat cave", [item for item, _ in told[:10]], told[0][0])
    write_records(results / "corpora" / "hard" / "test.parquet", VisualInstance, [query])
    return Run(results, model, archives, files, opened)


@contextmanager
def served(run: Run, *options: str) -> Iterator[Server]:
    """The page of a run's model, in a process of its own."""
    command = [sys.executable, "-m", "polclip.cli", "serve", "--model", run.model, "--archives", run.archives]
    process = subprocess.Popen(
        [*map(str, command), "--offline", "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        said = process.stdout.readline()
        assert said.startswith("http://127.0.0.1:"), process.communicate(timeout=20)
        yield Server(said.split()[0].rstrip("/"), psutil.Process(process.pid))
        assert process.poll() is None, process.communicate()
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextmanager
def served_here(app: Starlette) -> Iterator[str]:
    """The address of an app that a thread of this process serves."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=1))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def memory_mb(process: psutil.Process) -> float:
    return process.memory_info().rss / 1e6
