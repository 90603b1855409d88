"""Words in sentences by the hundred: how fast a model learns from them, and how fast it scores ALL.

    snakemake results/cpu/predictions/main/seed-42/ALL.jsonl --cores 2 --configfile presets/cpu.yaml
    python benchmarks/textual.py results/cpu

It reads a finished run's corpora, stored texts and model. Training: whole steps as `train` takes them, without those
that have pictures. Scoring: `polclip.evaluation.predict` of ALL in a new process, first cold, from reading the model to
the last prediction, then with the vectors of all glosses at hand.
"""

import argparse
import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from polclip.encoders.feature_store import FeatureStore
from polclip.evaluation.predict import rank_words
from polclip.inventory import Inventory
from polclip.model.polclip import read_model
from polclip.training.batches import make_batch, make_step
from polclip.training.budget import Part
from polclip.training.corpora import TextualCorpus
from polclip.training.sense_table import SenseTable


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of a run of presets/cpu.yaml, results/cpu")
    parser.add_argument("--experiment", default="main")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--context-words", type=int, default=80, help="of the run's windows")
    parser.add_argument("--words", type=int, default=400, help="of a training step")
    parser.add_argument("--steps", type=int, default=20, help="timed training steps, after two that are not")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    return parser.parse_args()


def opened(args: argparse.Namespace, corpus: str):
    torch.set_num_threads(args.threads)
    inventory = Inventory.read(args.results / "inventory/senses.parquet", args.results / "inventory/synsets.parquet")
    texts = FeatureStore(sorted((args.results / "embeddings/texts").iterdir()))
    model = read_model(args.results / "models" / args.experiment / f"seed-{args.seed}")
    path = args.results / "corpora" / f"{corpus}.parquet"
    read = TextualCorpus.read([path], inventory, texts, {}, args.context_words, model.reads_tokens)
    return model, read, inventory


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def training(args: argparse.Namespace) -> dict:
    """Instances a second in whole steps: reading, forward, backward, AdamW."""
    model, corpus, inventory = opened(args, "semcor/train")
    table = SenseTable(corpus.texts, inventory, corpus.synsets)
    table.refresh(model.train())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True)
    rng = np.random.default_rng(0)
    how = {"pictures_per_sense": 1, "own_candidates": False, "captions": False, "rng": rng}
    of_text: dict[str, list[int]] = {}
    for row, text in enumerate(corpus.text_ids):
        of_text.setdefault(text, []).append(row)
    texts = rng.permutation(list(of_text)).tolist()
    done = 0
    for number in range(args.steps + 2):
        if number == 2:
            start, done = time.perf_counter(), 0
        rows: list[int] = []
        while len(rows) < args.words:
            rows += of_text[texts.pop()]
        step = make_step([Part(row, ()) for row in rows], [], corpus, None, inventory, **how)
        batch = make_batch(step, corpus, corpus.texts, FeatureStore([]), "cpu", table)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        done += len(rows)
    return {"training_instances_per_s": done / (time.perf_counter() - start), "training_peak_mb": peak_mb()}


def scoring(args: argparse.Namespace) -> dict:
    """Seconds from nothing to the ranking of ALL, and again with all glosses at hand."""
    start = time.perf_counter()
    model, corpus, inventory = opened(args, "unified_wsd/ALL")
    read = time.perf_counter()
    rank_words(model, corpus, inventory)
    cold = time.perf_counter()
    table = SenseTable(corpus.texts, inventory, corpus.synsets)
    table.refresh(model)
    indexed = time.perf_counter()
    rank_words(model, corpus, inventory, table=table)
    warm = time.perf_counter()
    return {
        "scoring_cold_s": cold - start,
        "reading_s": read - start,
        "scoring_indexed_s": warm - indexed,
        "scored_instances_per_s": len(corpus) / (warm - indexed),
        "scoring_peak_mb": peak_mb(),
    }


if __name__ == "__main__":
    args = options()
    found = {"benchmark": "textual", "experiment": args.experiment, "words": args.words, "threads": args.threads}
    # Each in a process of its own, so that its memory is its own.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        found |= processes.submit(training, args).result() | processes.submit(scoring, args).result()
    for name, value in found.items():
        print(f"{name:26}{value if isinstance(value, str | int) else format(value, '12.1f')}")
    print(json.dumps(found))
