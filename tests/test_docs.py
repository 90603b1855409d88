"""Every command and every piece of Python in docs/ is run, block by block, in a copy of the finished tiny run.

A block says what becomes of it behind its language: nothing (it is run), a file's name (it is written there),
`dry-run:` and why (its snakemake commands are planned), `no-run:` and why. All run as they stand but for STAND_INS.
"""

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml
from tiny_project import ROOT, SENSES, SYNSETS, surroundings, write_yaml

from polclip.cli import app
from polclip.evaluation.prediction_files import read_instances
from polclip.files import read_json

DOCS = sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))
# What the tiny run has in place of the demo: its settings, its results, its senses.
STAND_INS = {
    "presets/demo.yaml": "tiny.yaml",
    "results/demo": "results/tiny",
    "seed-42": "seed-1",
    "seeds: [42]": "seeds: [1]",
    "grid: 4": "grid: 2",
    "bat%1:06:00::": "bat%1:06:01::",
    "mouse%1:06:00::": "mouse%1:06:01::",
    "folder/of/pictures": "results/tiny/pictures/noto",
    "python docs/": f"python {ROOT}/docs/",
}


def blocks(path):
    """The fenced blocks of a page: line, language, what is behind it, text."""
    found = re.finditer(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", path.read_text(encoding="utf-8"), re.MULTILINE)
    for block in found:
        line = path.read_text(encoding="utf-8")[: block.start()].count("\n") + 1
        yield SimpleNamespace(line=line, language=block[1], told=block[2], text=block[3])


def stood_in(text):
    for ours, theirs in STAND_INS.items():
        text = text.replace(ours, theirs)
    return text


@pytest.fixture(scope="module")
def project(tmp_path_factory, run, mirror):
    """A copy of the finished run; whoever names no preset of the demo meets the tiny archives too."""
    project = shutil.copytree(run.project, tmp_path_factory.mktemp("docs") / "project")
    config = yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8"))
    config["inventory"] |= {"synsets": SYNSETS, "senses": SENSES}
    write_yaml(project / "config.yaml", config | {"archives_mirror": str(mirror)})
    return project


def done(project, arguments):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = surroundings(project) | {"PATH": path}
    ended = subprocess.run(arguments, cwd=project, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, f"{arguments[-1]}\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
    return ended.stdout + ended.stderr


def follow(project, path):
    """What a reader of a page does, from its first block to its last."""
    for block in blocks(path):
        text = stood_in(block.text)
        kind, _, why = block.told.partition(":")
        if kind in ("no-run", "dry-run"):
            assert why.strip(), f"{path}:{block.line}: say why it is not run"
            if kind == "dry-run":
                commands = [line for line in text.splitlines() if line.startswith("snakemake ")]
                assert commands, f"{path}:{block.line}: only snakemake can be run dry"
                for command in commands:
                    assert "Job stats:" in done(project, [*shlex.split(command, comments=True), "-n"])
        elif block.told:
            (project / block.told).parent.mkdir(parents=True, exist_ok=True)
            (project / block.told).write_text(text, encoding="utf-8")
        elif block.language == "sh":
            done(project, ["bash", "-euo", "pipefail", "-c", text])
        elif block.language == "python":
            done(project, [sys.executable, "-c", text])
        else:
            assert block.language in ("", "yaml"), f"{path}:{block.line}: run it, or say why not"


@pytest.mark.parametrize("page", DOCS, ids=str)
def test_what_a_page_says_to_type_works(project, page):
    follow(project, ROOT / page)


def test_the_tutorials_own_data_set_is_really_scored(project):
    if not (project / "results/zoo").exists():
        follow(project, ROOT / "docs/tutorial.md")
    results = project / "results/zoo"
    texts = read_json(results / "scores/main/seed-1/zoo.json")
    assert next(row["n"] for row in texts["rows"] if row["subset"] == "all") == 3
    queries = read_instances("visual", results / "corpora/zoo/queries.parquet")
    assert [(query.gold, query.rivals) for query in queries[:2]] == [
        ("zoo:bat.png", ["zoo:club.png"]),
        ("zoo:club.png", ["zoo:bat.png"]),
    ]
    assert "zoo_queries" in (results / "report/index.html").read_text(encoding="utf-8")


def test_the_readmes_python_works(project):
    ours = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    done(project, [sys.executable, "-c", stood_in(ours.text)])


@pytest.mark.parametrize("page", ["README.md", *map(str, DOCS)])
def test_links_and_pictures_are_there(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, place = target.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        assert there.exists(), f"{page}: {target}"
        if place:
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads], target


@pytest.mark.parametrize("page", ["README.md", *map(str, DOCS)])
def test_options_of_our_commands_exist(page):
    command = typer.main.get_command(app)
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^polclip ([^\n#]*)", text, re.MULTILINE):
        words = line.split()
        here = command
        while hasattr(here, "commands") and words and words[0] in here.commands:
            here = here.commands[words.pop(0)]
        known = {option for parameter in here.params for option in parameter.opts} | {"--help"}
        assert here is not command, f"{page}: no command {line!r}"
        assert {word.strip("[];") for word in words if re.match(r"\[?--\w", word)} <= known, f"{page}: {line}"


def test_the_reference_is_what_the_code_says():
    sys.path.insert(0, str(ROOT / "docs" / "reference"))
    try:
        import write
    finally:
        sys.path.pop(0)
    for name, page in write.PAGES.items():
        written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert written == page(), f"docs/reference/{name} is old: python {inspect.getfile(write)}"
