"""Senses of sentences by the thousand: how fast `polclip senses` answers, and whether it answers as the workflow does.

    snakemake results/cpu/predictions/main/seed-42/ALL.jsonl --cores 2 --configfile presets/cpu.yaml
    python benchmarks/senses.py results/cpu

Sentences of SemCor's held-out documents go through the command line, all their content words asked for, with the
model's folder as it would be handed on: first without an index of the glosses, then with one. Loading is what one
short sentence takes, from the start of the process to its end. Instances of ALL go the same way, in the windows that
the workflow reads them in and with lemma and part of speech, and are compared with the predictions of the run.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from polclip.corpora.texts import in_windows
from polclip.encoders.described import read_encoders
from polclip.files import read_json_lines
from polclip.records import TextualInstance, read_records

FILES = ("model.safetensors", "config.json", "encoders.json")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of a run of presets/cpu.yaml, results/cpu")
    parser.add_argument("--experiment", default="main")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--archives", type=Path, default=Path("resources/archives"))
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--instances", type=int, default=1000, help="of ALL, compared with the run's predictions")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--index", type=Path, help="an index of this model; made, which takes minutes, unless given")
    return parser.parse_args()


def polclip(*arguments: str | Path, threads: int, answers: Path) -> dict:
    """One call of the command line: its seconds, processor seconds and peak memory; what it prints goes to a file."""
    command = [sys.executable, "-m", "polclip.cli", *map(str, arguments)]
    start = time.perf_counter()
    with answers.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "s": time.perf_counter() - start,
        "processor_s": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss * 1024 / 1e6,
    }


def timed(ask: tuple, threads: int, folder: Path) -> dict:
    """Figures of a short sentence and of all sentences."""
    loading = polclip(*ask, "--file", folder / "short.txt", threads=threads, answers=folder / "short.jsonl")
    whole = polclip(*ask, "--file", folder / "sentences.txt", threads=threads, answers=folder / "senses.jsonl")
    words = sum(len(answer["words"]) for answer in read_json_lines(folder / "senses.jsonl"))
    return {
        "loading_s": loading["s"],
        "loading_processor_s": loading["processor_s"],
        "words": words,
        "words_per_s": words / (whole["s"] - loading["s"]),
        "words_per_processor_s": words / (whole["processor_s"] - loading["processor_s"]),
        "peak_mb": whole["peak_mb"],
    }


def compared(answers: Path, predictions: Path) -> dict:
    """How the answers differ from the predictions of the same instances."""
    predicted = {row["instance_id"]: row for row in read_json_lines(predictions)}
    count = same = 0
    furthest = 0.0
    for answer in read_json_lines(answers):
        row = predicted[answer["id"]]
        scores = {sense["sense_key"]: sense["score"] for sense in answer["words"][0]["senses"]}
        if scores.keys() != set(row["candidates"]):
            sys.exit(f"{answer['id']}: other candidates than in {predictions}")
        count += 1
        same += max(scores, key=scores.get) == row["candidates"][0]
        furthest = max(
            furthest, *(abs(scores[k] - score) for k, score in zip(row["candidates"], row["scores"], strict=True))
        )
    return {"compared_instances": count, "same_best_sense": same, "largest_difference_of_scores": furthest}


def write_questions(args: argparse.Namespace, folder: Path, context_words: int) -> None:
    sentences: dict[str, str] = {}
    for instance in read_records(args.results / "corpora/semcor/dev.parquet", TextualInstance):
        sentences.setdefault(instance.sentence_id, instance.text)
        if len(sentences) > args.sentences:
            sentences.popitem()
            break
    (folder / "sentences.txt").write_text("".join(f"{text}\n" for text in sentences.values()), encoding="utf-8")
    (folder / "short.txt").write_text("The bat flew off.\n", encoding="utf-8")
    instances = read_records(args.results / "corpora/unified_wsd/ALL.parquet", TextualInstance)
    with (folder / "instances.jsonl").open("w", encoding="utf-8") as file:
        for one, text, span in islice(in_windows(instances, context_words), args.instances):
            asked = {"id": one.instance_id, "text": text, "target": span, "pos": one.pos, "lemma": one.lemma}
            file.write(json.dumps(asked) + "\n")


def measure(args: argparse.Namespace, folder: Path) -> dict:
    run = Path(args.experiment, f"seed-{args.seed}")
    model = folder / "model"
    model.mkdir()
    for name in FILES:
        (model / name).symlink_to((args.results / "models" / run / name).resolve())
    write_questions(args, folder, read_encoders(model).context_words)
    opened = ("--model", model, "--archives", args.archives, "--offline")
    ask = ("senses", "--json", *opened)
    # Unpacks the tower and makes the inventory, once a model's folder.
    first = polclip(*ask, "The bat flew off.", threads=args.threads, answers=folder / "short.jsonl")
    found = {"first_call_s": first["s"]} | timed(ask, args.threads, folder)
    if args.index:
        (model / "cache/index").symlink_to(args.index.resolve())
    else:
        found["indexing_s"] = polclip("index", *opened, threads=args.threads, answers=folder / "index.txt")["s"]
    found |= {f"indexed_{name}": value for name, value in timed(ask, args.threads, folder).items() if name != "words"}
    found["ratio_indexed_vs_not"] = found["indexed_words_per_s"] / found["words_per_s"]
    polclip(*ask, "--file", folder / "instances.jsonl", threads=args.threads, answers=folder / "answers.jsonl")
    return found | compared(folder / "answers.jsonl", args.results / "predictions" / run / "ALL.jsonl")


if __name__ == "__main__":
    args = options()
    found = {"benchmark": "senses", "experiment": args.experiment, "sentences": args.sentences, "threads": args.threads}
    with TemporaryDirectory() as folder:
        found |= measure(args, Path(folder))
    for name, value in found.items():
        print(f"{name:32}{value if isinstance(value, str | int) else format(value, '12.4g')}")
    print(json.dumps(found))
