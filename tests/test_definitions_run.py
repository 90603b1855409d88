"""The workflow with definitions from a server of OpenAI's protocol, here and on clusters; and the key nowhere."""

import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pandas as pd
import pytest
import yaml
from openai_server import Reply, openai_server
from tiny_project import ROOT, command, make_mirror, make_project, surroundings, write_yaml
from tiny_run import rules_of

from polclip.files import read_json, read_json_lines

CANARY = "canary-not-a-key-456"
DEFINED = "a definition of the word"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    return make_mirror(tmp_path_factory.mktemp("archives") / "mirror")


@pytest.fixture
def server():
    with openai_server() as running:
        # A server repeats keys in its complaints.
        busy = Reply(status=429, headers={"Retry-After": "0.01"}, error={"message": CANARY, "code": "rate_limit"})
        running.reply = lambda number, body: busy if number % 3 == 1 else Reply(text=DEFINED)
        yield running


def project_of(folder, mirror, server, name):
    """A tiny project whose definitions come as those of the preset do, from the server of the test."""
    project = make_project(folder / "project", mirror)
    overlay = yaml.safe_load((ROOT / "presets" / "demo_definitions.yaml").read_text(encoding="utf-8"))
    overlay["name"], overlay["definitions"]["base_url"] = name, server.url
    write_yaml(project / "definitions.yaml", overlay)
    return project


def run(project, *arguments, key=CANARY):
    """Run the workflow with a key in the environment, and give what it said; no process may show the key meanwhile."""
    environment = surroundings(project) | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    environment |= {"OPENAI_API_KEY": key} if key else {}
    with watched() as shown:
        done = subprocess.run(
            command(*arguments, presets=("tiny.yaml", "definitions.yaml")),
            cwd=project, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert shown == []
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def watched():
    """The command lines of this machine's processes that show the key, looked at again and again."""
    shown, ended = [], Event()

    def look():
        while not ended.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if CANARY.encode() in line:
                    shown.append(line)

    thread = Thread(target=look)
    thread.start()
    try:
        yield shown
    finally:
        ended.set()
        thread.join()


def files_with_the_key(*folders):
    files = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
    assert len(files) > 50
    return [path for path in files if CANARY.encode() in path.read_bytes()]


def test_the_whole_workflow_with_definitions_of_a_server(tmp_path, mirror, server):
    project = project_of(tmp_path, mirror, server, "defined")
    planned = run(project, "definitions_plan", key=None)
    assert "plan_definitions" in rules_of(planned) and "questions for wordnet-glosses" in planned
    results = project / "results" / "defined"
    plan, *by_model = (results / "definitions" / "plan.txt").read_text(encoding="utf-8").splitlines()
    assert f"All of this run: {plan}" in run(project, "definitions", "-n", key=None)
    assert "USD" in plan and any(line.startswith("gpt-6-luna ") for line in by_model)
    assert not server.requests
    said = run(project, "all")
    definitions = list(read_json_lines(results / "definitions" / "hard.test.jsonl"))
    assert definitions and {line["definition"] for line in definitions} == {DEFINED}
    assert {line["flag"] for line in definitions} == {None} and definitions[0]["served_by"] == "wordnet-glosses"
    texts = pd.read_parquet(results / "texts" / "texts.parquet")["text"]
    assert texts.str.contains(DEFINED).any()
    asked = len(server.requests)
    assert asked and set(server.keys) == {f"Bearer {CANARY}"} and set(server.paid_by_question.values()) == {1}
    assert read_json(results / "costs.json") and CANARY not in said + planned
    assert files_with_the_key(project) == []
    # Another run of the same queries asks for nothing, and needs no key.
    run(project, "definitions", "--forcerun", "write_definitions", key=None)
    assert len(server.requests) == asked


def test_a_cluster_sees_no_key(tmp_path, mirror, server):
    project = project_of(tmp_path, mirror, server, "cluster")
    submit = project / "submit"
    # Keeps what it is given, as a cluster does, and runs it with the environment that it was called with.
    submit.write_text(
        f'#!/bin/sh\nmkdir -p {project}/jobs\ncp "$1" {project}/jobs/$$.sh\nenv | sort > {project}/jobs/$$.said\n'
        f"grep -v OPENAI_API_KEY {project}/jobs/$$.said > {project}/jobs/$$.env; rm {project}/jobs/$$.said\n"
        f'sh "$1" > {project}/jobs/$$.out 2>&1 &\necho $!\n'
    )
    submit.chmod(submit.stat().st_mode | stat.S_IXUSR)
    cluster = ("--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit), "--jobs", "2")
    said = run(project, "results/cluster/definitions/hard.test.jsonl", *cluster)
    submitted = "".join(path.read_text() for path in (project / "jobs").glob("*.sh"))
    assert "plan_definitions" in submitted and "write_definitions" not in submitted
    assert set(server.keys) == {f"Bearer {CANARY}"} and CANARY not in said
    assert files_with_the_key(project) == []
