"""README and docs/ followed word by word: a fresh shell for each page, in which what a reader sees is typed.

The shell has no environment but the one that the page says to activate. `sh` and `python` blocks are typed; a block
under "Save this as `FILE`:" is saved there. Behind its language, where no reader sees it, a block may only say why it
is not run: `dry-run:` (its snakemake commands are planned) or `no-run:`. All is typed as it stands but for STAND_INS.
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
PAGES = [Path("README.md"), *DOCS]
# What the tiny run has in place of the demo: its settings, its results, its senses and pictures.
STAND_INS = {
    "git clone REPOSITORY": "cp -a ../project",
    "presets/demo.yaml": "tiny.yaml",
    "results/demo": "results/tiny",
    "seed-42": "seed-1",
    "seeds: [42]": "seeds: [1]",
    "grid: 4": "grid: 2",
    "bat%1:06:00::": "bat%1:06:01::",
    "mouse%1:06:00::": "mouse%1:06:01::",
    "1F987.png": "1F000.png",
    "1F3CF.png": "1F001.png",
}
SAVE = re.compile(r"[Ss]ave this as\s+`([^`]+)`:$")


def blocks(path):
    """The fenced blocks of a page: line, language, why it is not run, the file that it is to be saved as, text."""
    page = path.read_text(encoding="utf-8")
    for block in re.finditer(r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", page, re.MULTILINE):
        before = page[: block.start()]
        saved = SAVE.search(before.rstrip())
        yield SimpleNamespace(
            line=before.count("\n") + 1,
            language=block[1],
            why=block[2],
            file=saved and saved[1],
            text=block[3],
        )


def typed(path):
    """What a reader of a page types, from its first block to its last, as one script."""
    script = ["set -euo pipefail"]
    for block in blocks(path):
        here = f"{path.name}:{block.line}"
        script.append(f"echo '>>> {here}' >&2")
        kind, _, reason = block.why.partition(":")
        assert not block.why or (kind in ("no-run", "dry-run") and reason.strip()), (
            f"{here}: no reader sees {block.why!r}"
        )
        if kind == "dry-run":
            script += map(planned, block.text.splitlines())
        elif block.file:
            script.append(f"cat > {shlex.quote(block.file)} <<'END'\n{block.text}END")
        elif block.language == "sh" and not block.why:
            script.append(block.text)
        elif block.language == "python" and not block.why:
            script.append(f"python - <<'END'\n{block.text}END")
        else:
            assert block.why or block.language in ("", "text", "yaml"), f"{here}: type it, or say what it is saved as"
    for ours, theirs in STAND_INS.items():
        script = [part.replace(ours, theirs) for part in script]
    return "\n".join(script) + "\n"


def planned(command):
    """A line of a block, its snakemake command with -n; Snakemake must say what it would do."""
    if not command.startswith("snakemake "):
        return command
    words = shlex.split(command, comments=True)
    dry = shlex.join([words[0], "-n", *words[1:]])
    return f"{dry} 2>&1 | tee /dev/stderr | grep -E '^(Job stats:|Nothing to be done)'"


@pytest.fixture(scope="module")
def project(tmp_path_factory, run, mirror):
    """A copy of the finished run as if `make` had installed it, with an environment that is a copy of this one.

    Whoever names no preset of the demo meets the tiny archives too.
    """
    if shutil.which("make") is None or not Path(sys.prefix, "bin", "activate").exists():
        pytest.skip("make is missing, or the tests do not run in a virtual environment")
    project = shutil.copytree(run.project, tmp_path_factory.mktemp("docs") / "project")
    config = yaml.safe_load((project / "config.yaml").read_text(encoding="utf-8"))
    config["inventory"] |= {"synsets": SYNSETS, "senses": SENSES}
    write_yaml(project / "config.yaml", config | {"archives_mirror": str(mirror)})
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for ours, theirs in STAND_INS.items():
        makefile = makefile.replace(ours, theirs)
    (project / "Makefile").write_text(makefile, encoding="utf-8")
    for name in ("pyproject.toml", "requirements.lock", "requirements-uv.lock"):
        shutil.copy(ROOT / name, project)
    (project / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != "installed":
            (project / ".venv" / part.name).symlink_to(part)
    # Newer than any lock, so that make never installs anything through these links.
    (project / ".venv" / "installed").touch()
    os.utime(project / ".venv" / "installed", (4e9, 4e9))
    return project


def follow(project, page):
    """Type what a page says in a fresh shell beside the project's folder; the folder that it worked in."""
    script = typed(ROOT / page)
    desk = project.parent / str(page).replace("/", "-")
    desk.mkdir()
    if "cp -a ../project polclip" not in script:
        subprocess.run(["cp", "-a", project, desk / "polclip"], check=True)
    ours = Path(sys.executable).parent
    kept = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != ours]
    environment = surroundings(desk / "polclip") | {"PATH": os.pathsep.join(kept)}
    environment.pop("VIRTUAL_ENV", None)
    assert shutil.which("polclip", path=environment["PATH"]) is None
    (desk / "typed.sh").write_text(script, encoding="utf-8")
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "typed.sh"], cwd=desk, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, f"{ended.stdout[-3000:]}{ended.stderr[-6000:]}"
    return desk / "polclip"


@pytest.fixture(scope="module")
def tutorial(project):
    return follow(project, "docs/tutorial.md")


@pytest.mark.parametrize("page", [page for page in PAGES if page != Path("docs/tutorial.md")], ids=str)
def test_what_a_page_says_to_type_works(project, page):
    if any(block.language in ("sh", "python") and not block.why for block in blocks(ROOT / page)):
        follow(project, page)


def test_the_tutorials_own_data_set_is_really_scored(tutorial):
    results = tutorial / "results/zoo"
    texts = read_json(results / "scores/main/seed-1/zoo.json")
    assert next(row["n"] for row in texts["rows"] if row["subset"] == "all") == 3
    queries = read_instances("visual", results / "corpora/zoo/queries.parquet")
    assert [(query.gold, query.rivals) for query in queries[:2]] == [
        ("zoo:bat.png", ["zoo:club.png"]),
        ("zoo:club.png", ["zoo:bat.png"]),
    ]
    assert "zoo_queries" in (results / "report/index.html").read_text(encoding="utf-8")


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
