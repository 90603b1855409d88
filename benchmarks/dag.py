"""How long Snakemake takes to see what is to be done: the paper's reproduction with all experiments and three seeds.

    python benchmarks/dag.py

Two dry runs of `snakemake all ablations` in a new folder: one where nothing is there (`build_s`), and one where every file
is (`again_s`), as a stand-in without content that is recorded as made; the pictures are there as so many files too. Peaks
are Snakemake's own. No network, no GPU, nothing is computed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SHOWN = {"image_semcor": 181_123, "image_vwsd_kb": 111_569}  # 292,692 pictures


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=8, help="of the texts, and of each corpus' pictures")
    return parser.parse_args()


def snakemake(folder: Path, *arguments: str) -> tuple[str, float, float]:
    """What Snakemake says, its seconds and its peak of memory in MB."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "1", *arguments, "--configfile", str(folder / "size.yaml")]
    start = time.perf_counter()
    with open(folder / "said.txt", "w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    seconds, text = time.perf_counter() - start, (folder / "said.txt").read_text()
    if status:
        raise SystemExit(text[-3000:])
    return text, seconds, usage.ru_maxrss * 1024 / 1e6


def make_stand_ins(folder: Path, said: str) -> int:
    """Every output that the dry run names, without content; give how many."""
    outputs = {name for line in re.findall(r"^    output: (.*)$", said, re.MULTILINE) for name in line.split(", ")}
    for name in outputs:
        path = folder / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    for corpus, count in SHOWN.items():
        for number in range(count):
            os.mknod(folder / "results" / "paper" / "pictures" / corpus / f"{number}.jpg")
    return len(outputs)


def measure(args: argparse.Namespace, folder: Path) -> dict:
    size = {"seeds": list(range(args.seeds)), "encoder": {f"{kind}_shards": args.shards for kind in ("text", "picture")}}
    (folder / "size.yaml").write_text(yaml.safe_dump(size))
    said, build_s, build_peak = snakemake(folder, "all", "ablations", "-n")
    jobs = int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1])
    trainings = int(re.search(r"^train +(\d+)$", said, re.MULTILINE)[1])
    files = make_stand_ins(folder, said)
    snakemake(folder, "all", "ablations", "--touch", "--forceall", "--quiet", "all")
    said, again_s, again_peak = snakemake(folder, "all", "ablations", "-n")
    if "Nothing to be done" not in said:
        raise SystemExit(said[-3000:])
    return {
        "benchmark": "dag",
        "jobs": jobs,
        "trainings": trainings,
        "files": files,
        "pictures": sum(SHOWN.values()),
        "build_s": build_s,
        "build_peak_mb": build_peak,
        "again_s": again_s,
        "again_peak_mb": again_peak,
    }


if __name__ == "__main__":
    args = options()
    with tempfile.TemporaryDirectory() as name:
        result = measure(args, Path(name))
    print(f"{result['jobs']} jobs, {result['trainings']} of them trainings; {result['files']} files")
    print(f"nothing there     {result['build_s']:6.1f} s {result['build_peak_mb']:6.0f} MB")
    print(f"everything there  {result['again_s']:6.1f} s {result['again_peak_mb']:6.0f} MB")
    print(json.dumps(result))
