"""A small run to report on: 3 experiments x 3 seeds and 2 baselines, two tasks, pictures drawn here."""

import json
import math
import os
import random
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw

from polclip.files import write_json, write_json_lines, write_table
from polclip.inventory import Inventory
from polclip.records import Picture, Sense, Synset, TextualInstance, VisualInstance, write_records
from polclip.reporting.corpus_statistics import corpus_statistics
from polclip.reporting.data_page import corpora_table
from polclip.reporting.inputs import ReportInputs
from polclip.reporting.tables import SIGNIFICANCE_COLUMNS, write_scores

SEEDS = (1, 2, 3)
SKILL = {"main": 0.8, "text_only": 0.65, "no_fusion": 0.78, "zero_shot": 0.45, "random": 0.2}
LOSSES = ("loss_sig", "loss_isg", "loss_w2s", "loss_w2i")
BENCHMARKS = {"wordnet_examples": "textual", "unseen_style": "visual", "hard": "visual"}
# word, sense key, gloss, phrase; the place in the list decides shape and colour of the pictures
SENSES = [
    ("bat", "bat%1:05:00::", "nocturnal mouselike mammal with membranous wings", "bat flying at dusk"),
    ("bat", "bat%1:06:00::", "a club used for hitting a ball in various games", "bat of a baseball player"),
    ("mouse", "mouse%1:05:00::", "any of numerous small rodents", "mouse eating grain"),
    ("mouse", "mouse%1:06:00::", "a device that controls a pointer", "mouse of a computer"),
    ("crane", "crane%1:05:00::", "large long-necked wading bird of marshes", "crane wading in a marsh"),
    ("crane", "crane%1:06:00::", "lifts and moves heavy objects", "crane on a building site"),
    ("bank", "bank%1:14:00::", "an institution that accepts deposits", "bank with a vault"),
    ("bank", "bank%1:17:01::", "sloping land beside a body of water", "bank of the river"),
    ("star", "star%1:17:01::", "a celestial body of hot gases", "star in the night sky"),
    ("star", "star%1:18:00::", "an actor who plays a principal role", "star on the red carpet"),
]
UNSEEN = ("star%1:17:01::", "bank%1:14:00::", "bank%1:17:01::")  # no sense of `bank`, one of `star`
STYLES = {"noto": "noto", "game-icons": "game-icons", "twemoji": "twemoji"}


def draw(path: Path, place: int, style: str) -> None:
    """A shape on a clear ground, the same for a concept in every style but for its colours."""
    rng = random.Random(place)
    fill = "#222222" if style == "game-icons" else f"hsl({rng.randrange(360)}, 65%, 55%)"
    image = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    if place % 2:
        pen.polygon([(80, 15), (145, 140), (15, 140)], fill=fill, outline="#333333", width=4)
    else:
        pen.ellipse((20, 20, 140, 140), fill=fill, outline="#333333", width=4)
    pen.ellipse((50 + rng.randrange(20), 60, 75 + rng.randrange(20), 90), fill="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def pictures(root: Path) -> dict[str, list[Picture]]:
    found = {}
    for style, family in STYLES.items():
        for place, (word, key, *_) in enumerate(SENSES):
            path = root / "pictures" / style / f"{place}.png"
            draw(path, place, style)
            picture = Picture(
                f"{style}:{place}",
                str(path.relative_to(root)),
                style,
                family,
                f"{word} {place}",
                synset(key),
                style,
            )
            found.setdefault(style, []).append(picture)
    return found


def synset(key: str) -> str:
    return f"{10_000_000 + [sense[1] for sense in SENSES].index(key):08d}-n"


def textual(count: int) -> list[TextualInstance]:
    instances = []
    for number in range(count):
        word, key, _, phrase = SENSES[number % len(SENSES)]
        tokens = ["The", *phrase.split(), "was", "what", "everyone", "remembered", f"({number})", "."]
        instances.append(
            TextualInstance(
                instance_id=f"we.{number:03d}",
                sentence_id=f"s{number}",
                tokens=tokens,
                target_start=1,
                target_end=2,
                lemma=word,
                pos="nv"[number % 7 == 3],
                candidates=[sense[1] for sense in SENSES if sense[0] == word],
                gold=[key],
            )
        )
    return instances


def visual(count: int, style: str, hard: bool, seed: int) -> list[VisualInstance]:
    rng = random.Random(seed)
    instances = []
    for number in range(count):
        place = number % len(SENSES)
        word, key, _, phrase = SENSES[place]
        ids = [f"{style}:{other}" for other in range(len(SENSES))]
        rng.shuffle(ids)
        rival = f"{style}:{place + 1 if place % 2 == 0 else place - 1}"
        name = "hard" if hard else style
        instance_id = f"{name}.{number:03d}"
        instances.append(
            VisualInstance(instance_id, "en", word, phrase, ids, f"{style}:{place}", key, [rival] if hard else [])
        )
    return instances


def predict(instances: list, skill: float, seed: int) -> list[dict]:
    rng = random.Random(seed)
    lines = []
    for instance in instances:
        gold = instance.gold[0] if isinstance(instance, TextualInstance) else instance.gold
        others = [candidate for candidate in instance.candidates if candidate != gold]
        rng.shuffle(others)
        place = 0 if rng.random() < skill else 1
        order = [*others[:place], gold, *others[place:]]
        sure = rng.uniform(0.3, 3) if place == 0 else rng.uniform(0.1, 1.5)
        weights = [math.exp(-sure * rank) for rank in range(len(order))]
        scores = [round(math.log(weight / sum(weights)), 4) for weight in weights]
        lines.append({"instance_id": instance.instance_id, "candidates": order, "scores": scores})
    return lines


def score(instances: list, lines: list[dict]) -> dict[str, float]:
    ranks = []
    for instance, line in zip(instances, lines, strict=True):
        gold = instance.gold[0] if isinstance(instance, TextualInstance) else instance.gold
        ranks.append(line["candidates"].index(gold) + 1)
    first = 100 * sum(rank == 1 for rank in ranks) / len(ranks)
    return {"first": first, "mrr": 100 * sum(1 / rank for rank in ranks) / len(ranks)}


def build(root: Path, count: int = 40, textual_only: bool = False) -> ReportInputs:
    """Write every file of the run under `root` and name them; picture paths start from `root`."""
    by_style = {} if textual_only else pictures(root)
    tables = {style: root / "pictures" / f"{style}.parquet" for style in by_style}
    for style, found in by_style.items():
        write_records(tables[style], Picture, found)
    senses = [
        Sense(key, word, "n", "n", 1 + number % 2, 0, synset(key)) for number, (word, key, *_) in enumerate(SENSES)
    ]
    write_records(root / "senses.parquet", Sense, senses)
    synsets = [Synset(synset(key), "noun.x", gloss, [], [word], []) for word, key, gloss, _ in SENSES]
    write_records(root / "synsets.parquet", Synset, synsets)

    instances = {"wordnet_examples": textual(count)}
    if not textual_only:
        instances |= {
            "unseen_style": visual(count, "noto", False, 5),
            "hard": visual(count, "twemoji", True, 6),
        }
    paths, predictions, score_files, metrics = {}, [], [], []
    for benchmark, found in instances.items():
        paths[benchmark] = root / "corpora" / benchmark / "test.parquet"
        write_records(paths[benchmark], type(found[0]), found)
    for experiment, skill in SKILL.items():
        seeds = SEEDS if experiment in ("main", "text_only", "no_fusion") else (0,)
        for seed in seeds:
            run = f"{experiment}/seed-{seed}"
            for benchmark, found in instances.items():
                lines = predict(found, skill, 17 * seed + len(benchmark))
                predictions.append(root / "predictions" / run / f"{benchmark}.jsonl")
                write_json_lines(predictions[-1], lines)
                values = score(found, lines)
                task = BENCHMARKS[benchmark]
                named = (
                    {"f1": values["first"]} if task == "textual" else {"hr@1": values["first"], "mrr": values["mrr"]}
                )
                rows = []
                for metric, value in named.items():
                    half = 98 / len(found) ** 0.5
                    interval = {"ci_low": max(0, value - half), "ci_high": min(100, value + half)}
                    rows.append({"subset": "all", "metric": metric, "value": value, **interval, "n": len(found)})
                    part = rows[-1] | {"subset": "n", "n": len(found) - 5}
                    rows += [part] if task == "textual" else []
                score_files.append(root / "scores" / run / f"{benchmark}.json")
                shared = {"experiment": experiment, "seed": seed, "task": task, "benchmark": benchmark}
                write_json(score_files[-1], shared | {"rows": rows})
            if len(seeds) > 1:
                metrics.append(root / "models" / run / "metrics.jsonl")
                write_json_lines(metrics[-1], training_log(experiment, seed))
    write_scores(score_files, root / "scores.tsv")
    train = root / "corpora" / "wordnet_examples" / "train.parquet"
    write_records(train, TextualInstance, [x for x in textual(25) if x.gold[0] not in UNSEEN])
    learned = [train]
    if by_style:
        learned.append(root / "corpora" / "pictures" / "train.parquet")
        seen = [p for p in by_style["game-icons"] if p.synset_id not in map(synset, UNSEEN)]
        write_records(learned[-1], Picture, seen)
    by_task = {task: [paths[name] for name in paths if BENCHMARKS[name] == task] for task in ("textual", "visual")}
    statistics = corpus_statistics(
        {"train": [train], "test": by_task["textual"]},
        {"train": learned[1:], "dev": [], "test": by_task["visual"]},
        [],
        Inventory.read(root / "senses.parquet", root / "synsets.parquet"),
    )
    write_table(root / "corpora.tsv", corpora_table(statistics))
    definition_costs, defined = definitions(root, instances)
    significance(root / "significance.tsv", list(instances))
    write_json(root / "costs.json", COSTS)
    write_json(root / "provenance.json", PROVENANCE)
    return ReportInputs(
        scores=root / "scores.tsv",
        significance=root / "significance.tsv",
        corpora=root / "corpora.tsv",
        costs=root / "costs.json",
        provenance=root / "provenance.json",
        metrics=metrics,
        predictions=predictions,
        instances=paths,
        pictures=list(tables.values()),
        senses=root / "senses.parquet",
        synsets=root / "synsets.parquet",
        definition_costs=definition_costs,
        definitions={paths[benchmark]: path for benchmark, path in defined.items()},
        sentences_trained_on=[train],
        pictures_trained_on=learned[1:],
    )


def definitions(root: Path, instances: dict[str, list]) -> tuple[list[Path], dict[str, Path]]:
    """A language model's answers about every instance, each fifth of which cannot be used: their costs and files."""
    costs, files = [], {}
    glosses = {key: gloss for _, key, gloss, _ in SENSES}
    unusable = [("refused", "I'm sorry, but I cannot define that."), ("overlong", "a word that means " * 30)]
    for benchmark, found in instances.items():
        lines, flags = [], Counter()
        for number, x in enumerate(found):
            flag, text = unusable[number // 5 % 2] if number % 5 == 4 else (None, None)
            text = text or glosses[x.gold[0] if isinstance(x, TextualInstance) else x.sense_key]
            flags.update([flag] if flag else [])
            told = {"definition": None if flag else text, "source": "openai", "model": "gpt-3.5-turbo-1106"}
            lines.append({"instance_id": x.instance_id, **told, "flag": flag, "text": text, "usd": 0.0001})
        cost = {"corpus": benchmark, "split": "test", "source": "openai", "model": "gpt-3.5-turbo-1106"}
        cost |= {"instances": len(found), "defined": len(found) - flags.total(), "flags": flags}
        cost |= {
            "requests": len(found),
            "tokens_in": 61 * len(found),
            "tokens_out": 1500,
            "usd": 0.0054,
            "seconds": 9.0,
        }
        files[benchmark] = root / "definitions" / f"{benchmark}.test.jsonl"
        write_json_lines(files[benchmark], lines)
        costs.append(root / "definitions" / f"{benchmark}.test.cost.json")
        write_json(costs[-1], cost)
    return costs, files


def training_log(experiment: str, seed: int, steps: int = 400) -> list[dict]:
    rng = random.Random(f"{experiment}{seed}")
    lines = []
    losses = ("loss_w2s",) if experiment == "text_only" else LOSSES
    for step in range(steps):
        parts = {key: 0.6 + 3 * 0.992**step + rng.gauss(0, 0.12) for key in losses}
        line = {"step": step, "seconds": step * 0.2, "loss": sum(parts.values()), **parts}
        line |= {
            "temperature": 0.07 * 0.999**step,
            "learning_rate": 1e-3 * min(1, step / 40) * (1 - step / 420),
        }
        if step % 40 == 39:
            line["dev_textual"] = 55 - 20 * 0.99**step + rng.gauss(0, 0.7)
            if experiment != "text_only":
                line["dev_visual"] = 85 - 60 * 0.99**step + rng.gauss(0, 1)
        lines.append(line)
    return lines


def significance(path: Path, benchmarks: list[str]) -> None:
    results = {"text_only": (7.5, 1.2, 13.9, 0.012, 0.03), "no_fusion": (-0.8, -4.2, 2.9, 0.61, 0.77)}
    rows = [SIGNIFICANCE_COLUMNS]
    for benchmark in benchmarks:
        metric = "accuracy" if BENCHMARKS[benchmark] == "textual" else "hr@1"
        for other, numbers in (results | {"zero_shot": (31.0, 20.1, 41.2, 0.0005, 0.00001)}).items():
            rows.append([benchmark, metric, "main", other, *numbers, 40])
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


COSTS = [
    {"rule": "train", "jobs": 9, "seconds": 412.4, "peak_mb": 2210.5, "usd": 0.0},
    {"rule": "embed_pictures", "jobs": 3, "seconds": 95.0, "peak_mb": 1400.0, "usd": 0.0},
    {"rule": "definitions", "jobs": 1, "seconds": 12.0, "peak_mb": 300.0, "usd": 0.42},
]
PROVENANCE = {
    "versions": {"torch": "2.14.1", "transformers": "5.0.0", "snakemake": "9.27.0"},
    "archives": [
        {
            "name": style,
            "file": f"{style}.tgz",
            "version": "1.2.3",
            "licence": licence,
            "sha256": "ab" * 32,
            "size": 4_200_000,
            "description": f"icons in the style {style}",
        }
        for style, licence in (("noto", "Apache-2.0"), ("game-icons", "CC-BY-3.0"), ("twemoji", "CC-BY-4.0"))
    ],
    "config": {
        "name": "fixture",
        "corpora": {
            "textual": {"train": ["wordnet_examples/train"], "dev": [], "test": []},
            "visual": {"train": ["pictures/train"], "dev": ["hard/test"], "test": []},
        },
        "training": {"steps": 400, "learning_rate": 0.001},
        "experiments": {"main": {}},
    },
    "config_digest": "0123456789abcdef" * 4,
    "skipped": [{"step": "pictures", "reason": "the file is no picture", "count": 2}],
}


def set_times(inputs: ReportInputs, seconds: int) -> None:
    """Give every input one time, so that pages can be compared byte by byte."""
    for path in inputs.files():
        os.utime(path, (seconds, seconds))


def read_scores(inputs: ReportInputs) -> list[dict]:
    return [json.loads(path.read_text()) for path in Path(inputs.scores).parent.glob("scores/*/*/*.json")]
