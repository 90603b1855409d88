"""The finished run of the tiny project in use: its model with an index of its glosses, and `polclip serve` upon it."""

import dataclasses
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import psutil
import uvicorn
from starlette.applications import Starlette
from tiny_project import ROOT, snakemake
from tiny_run import succeed

from polclip import Disambiguator
from polclip.records import VisualInstance, read_records
from polclip.serve.connections import server_config
from polclip.serve.shown import ShownPictures, shown_pictures


@dataclass(frozen=True)
class Run:
    results: Path
    model: Path
    archives: Path
    pictures: list[Path]  # of one drawing style, none of which is broken
    broken: dict[str, str]  # style to the id of its broken picture
    queries: list[VisualInstance]  # of the benchmark `hard`
    opened: Disambiguator
    shown: ShownPictures  # what `polclip serve` shows of it
    said: str  # by Snakemake when it made the index


@dataclass(frozen=True)
class Server:
    url: str
    process: psutil.Process


def in_use(finished: SimpleNamespace) -> Run:
    """The run of `tiny_run.finished_run`, its glosses indexed by the workflow."""
    said = succeed(snakemake(finished.project, "index"))
    results, archives = finished.results, finished.project / "resources" / "archives"
    model = results / "models" / "main" / "seed-1"
    queries = list(read_records(results / "corpora" / "hard" / "test.parquet", VisualInstance))
    opened = Disambiguator.from_pretrained(model, archives=archives, download=False)
    pictures = sorted((results / "pictures" / "emojione").glob("*.png"))
    shown = shown_pictures(opened, model, None)
    return Run(results, model, archives, pictures, finished.broken, queries, opened, shown, said)


def copy_of(run: Run, folder: Path) -> Run:
    """The run in a folder of its own, for a test that damages it."""
    results = shutil.copytree(run.results, folder / "results" / "tiny")
    return dataclasses.replace(run, results=results, model=results / run.model.relative_to(run.results))


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
    server = uvicorn.Server(server_config(app))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def memory_mb(process: psutil.Process) -> float:
    return process.memory_info().rss / 1e6
