"""One run of the tiny project, for real, that is put to trouble on its way.

Two pictures break between rendering and embedding, and everything is killed in the middle of training.
"""

import os
import re
import signal
import subprocess
import time
from types import SimpleNamespace

from tiny_project import command, make_project, snakemake, surroundings, write_yaml

from polclip.records import VisualInstance, read_records

# A preset over tiny.yaml: fewer jobs, and no dropout, with which two processes would train other than one.
LESS = {
    "corpora": {"visual": {"test": ["hard/test"]}},
    "experiments": {"zero_shot": None},
    "training": {"save_minutes": 60},
    "alignment": {"dropout": 0, "channel_dropout": 0},
    "model": {"dropout": 0},
}
LESS_PRESETS = ("tiny.yaml", "less.yaml")
SCORES = "results/tiny/tables/scores.tsv"


def make_less(folder, mirror):
    """A tiny project with less.yaml."""
    project = make_project(folder, mirror)
    write_yaml(project / "less.yaml", LESS)
    return project


def finished_run(project):
    """A finished run of a tiny project: its folders, the ids of the broken pictures, and what was seen on the way."""
    results = project / "results" / "tiny"
    succeed(snakemake(project, "corpora"))
    broken = break_pictures(results)
    left = kill_in_training(project, results)
    said = succeed(snakemake(project, "--rerun-incomplete"))
    return SimpleNamespace(project=project, results=results, broken=broken, left=left, said=said)


def succeed(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules_of(said):
    """The rule of each job that Snakemake started, in its order."""
    return re.findall(r"^(?:local)?rule (\w+):$", said, re.MULTILINE)


def break_pictures(results):
    """Cut off the files of a wrong candidate of a dev query and of a test query, each in its style."""
    broken = {}
    for corpus, style in (("dev_words/dev", "noto"), ("hard/test", "twemoji")):
        query = next(read_records(results / f"corpora/{corpus}.parquet", VisualInstance))
        picture = next(p for p in query.candidates if p.startswith(f"{style}:") and p != query.gold)
        path = results / "pictures" / style / f"{picture.partition(':')[2]}.png"
        path.write_bytes(path.read_bytes()[:60])
        broken[style] = picture
    return broken


def kill_in_training(project, results):
    """Start a training that takes for ever, kill everything once it writes, and give the files that it left."""
    write_yaml(project / "for_ever.yaml", {"training": {"epochs": 10_000_000, "max_steps": None}})
    folder = results / "models" / "main" / "seed-1"
    with open(project / "killed.log", "w") as log:
        process = subprocess.Popen(
            command("models", presets=("tiny.yaml", "for_ever.yaml")),
            cwd=project,
            env=surroundings(project),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        until = time.monotonic() + 240
        try:
            while not any(path.stat().st_size for path in (project / "resources").glob("resume/*/metrics.jsonl")):
                assert process.poll() is None and time.monotonic() < until, (project / "killed.log").read_text()
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    succeed(snakemake(project, "--unlock"))
    return [path.name for path in folder.iterdir() if path.is_file()]
