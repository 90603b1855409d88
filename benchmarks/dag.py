"""How long Snakemake takes to see what is to be done: the paper's reproduction with all experiments and three seeds.

    python benchmarks/dag.py

Two dry runs of `snakemake all ablations` in a new folder: one where nothing is there (`build_s`), and one where every
file is (`again_s`), as a stand-in without content that is recorded as made; the pictures are there as so many files
too. Seconds are those of the clock and of the processor (`_cpu_s`), peaks Snakemake's own. No network, no GPU, nothing
is computed.
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


def snakemake(folder: Path, *arguments: str) -> tuple[str, dict]:
    """What Snakemake says, its seconds and its peak of memory."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "1", *arguments, "--configfile", str(folder / "size.yaml")]
    start = time.perf_counter()
    with open(folder / "said.txt", "w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    seconds, text = time.perf_counter() - start, (folder / "said.txt").read_text()
    if status:
        raise SystemExit(text[-3000:])
    used = {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss * 1024 / 1e6}
    return text, used


def make_stand_ins(folder: Path, said: str) -> int:
    """Every file that the dry run says it would write, without content; give how many."""
    lines = re.findall(r"^    (?:output|benchmark): (.*)$", said, re.MULTILINE)
    outputs = {name for line in lines for name in line.split(", ")}
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
    shards = {"text_shards": args.shards, "picture_shards": args.shards}
    size = {"seeds": list(range(args.seeds)), "encoder": shards}
    (folder / "size.yaml").write_text(yaml.safe_dump(size))
    said, build = snakemake(folder, "all", "ablations", "-n")
    jobs = int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1])
    trainings = int(re.search(r"^train +(\d+)$", said, re.MULTILINE)[1])
    files = make_stand_ins(folder, said)
    snakemake(folder, "all", "ablations", "--touch", "--forceall", "--quiet", "all")
    said, again = snakemake(folder, "all", "ablations", "-n")
    if "Nothing to be done" not in said:
        raise SystemExit(said[-3000:])
    return {
        "benchmark": "dag",
        "jobs": jobs,
        "trainings": trainings,
        "files": files,
        "pictures": sum(SHOWN.values()),
        **{f"build_{key}": value for key, value in build.items()},
        **{f"again_{key}": value for key, value in again.items()},
    }


if __name__ == "__main__":
    args = options()
    with tempfile.TemporaryDirectory() as name:
        result = measure(args, Path(name))
    print(f"{result['jobs']} jobs, {result['trainings']} of them trainings; {result['files']} files")
    for name, of in (("nothing there", "build"), ("everything there", "again")):
        s, cpu_s, peak = (result[f"{of}_{key}"] for key in ("s", "cpu_s", "peak_mb"))
        print(f"{name:18}{s:6.1f} s, {cpu_s:6.1f} s of the processor, {peak:6.0f} MB")
    print(json.dumps(result))
