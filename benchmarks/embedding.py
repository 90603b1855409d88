"""The embedding step against the bare encoder: what reading, decoding and writing cost beside the forward pass.

    python benchmarks/embedding.py
    python benchmarks/embedding.py --device cuda --architecture ViT-L-14 --pictures 30720 --workers 12

`embed_pictures` reads picture files, prepares them in worker processes, encodes them and writes a feature shard. The
bare encoder is the tower's own forward pass over the same pictures, decoded and prepared beforehand and lying on the
device, in batches of the same size. Weights are random, files are made on the spot.

On a machine with few cores the workers take time from the forward pass, so torch has the same number of threads in
both measurements, and threads and workers together are no more than the cores: by default one of each, for two cores.
The two take turns, `--repeat` times, and the medians are compared.

On two cores of an AMD EPYC without AVX-512, little used by others: 9.2 pictures/s bare and 9.0 as a step, 0.98 of it
(0.99 comparing the fastest of each); 52 texts/s; one worker prepares 274 pictures/s. While others used the machine as
well, it was 0.91 (0.96). On one H100 with 16 cores (second command): 1,585 pictures/s bare and 1,420 as a step, 0.90 of
it. Workers need about a second to start and end, so that 10,240 pictures reach 0.88; 8 workers prepare too few (0.68),
15 take time from the process that asks for the GPU (0.86).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import open_clip
import pandas as pd
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from polclip.encoders.clip import ClipImageEncoder, ClipTextEncoder
from polclip.encoders.embed import embed_pictures, embed_texts
from polclip.model.clip_towers import build_clip
from polclip.pictures import read_picture
from polclip.records import Picture, write_records

WIDTH, HEIGHT = 400, 300  # of a picture file
WORDS = (
    "a",
    "the",
    "of",
    "and",
    "with",
    "small",
    "large",
    "wooden",
    "animal",
    "plant",
    "tool",
    "person",
    "used",
    "for",
)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--architecture", default="ViT-B-32", help="a CLIP that open_clip knows")
    parser.add_argument("--layers", type=int, help="of both towers, in place of the architecture's own")
    parser.add_argument("--width", type=int, help="of both towers, in place of the architecture's own")
    parser.add_argument("--grid", type=int, help="average the patches to grid x grid before they are written")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--files", type=int, default=256, help="different ones, each read again and again")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--batch", type=int, help="pictures; default: 8 on a CPU and 64 on a GPU, as in the workflow")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16"),
        help="of the bare encoder; default: that of the embedding step, fp32 on a CPU and fp16 on a GPU",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch in both measurements")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and prepare pictures")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    on_gpu = args.device == "cuda"
    args.batch = args.batch or (64 if on_gpu else 8)
    if args.pictures % args.batch or min(args.files, args.pictures) % args.batch:
        parser.error(f"--pictures and --files must be multiples of the batch of {args.batch}.")
    args.precision = args.precision or ("fp16" if on_gpu else "fp32")
    return args


def random_clip(args: argparse.Namespace) -> torch.nn.Module:
    config = open_clip.get_model_config(args.architecture)
    if args.layers:
        config["vision_cfg"]["layers"] = config["text_cfg"]["layers"] = args.layers
    if args.width:
        config["vision_cfg"] |= {"width": args.width, "head_width": min(64, args.width)}
        config["text_cfg"] |= {"width": args.width, "heads": max(1, args.width // 64)}
    torch.manual_seed(0)
    return build_clip(config).to(args.device).eval()


def write_pictures(folder: Path, files: int, count: int) -> list[Picture]:
    """So many pictures in `files` files: smooth noise as photographs are, half of it JPEG and half PNG."""
    rng = np.random.default_rng(0)
    paths = []
    for k in range(min(files, count)):
        path = folder / f"{k}.{'jpg' if k % 2 else 'png'}"
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
        paths.append(str(path))
    return [Picture(str(k), paths[k % len(paths)], "noise", "noise", "noise", None, "benchmark") for k in range(count)]


def write_texts(path: Path, count: int) -> None:
    """Texts as long as glosses: 5 to 25 words."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(5, 26))) for _ in range(count)]
    pd.DataFrame({"text_id": [str(k) for k in range(count)], "text": texts}).to_parquet(path)


def prepared_batches(pictures: Sequence[Picture], preprocess: Callable, args: argparse.Namespace) -> list[Tensor]:
    """All pictures as the tower reads them, on the device; those of one file share its memory."""
    prepared = torch.stack([preprocess(read_picture(picture.path)) for picture in pictures[: args.files]])
    batches = prepared.to(args.device).split(args.batch)
    return [batches[k % len(batches)] for k in range(-(-args.pictures // args.batch))]


def prepare_seconds(pictures: Sequence[Picture], encoder: ClipImageEncoder) -> float:
    """What one worker needs to read and prepare a picture."""
    start = time.perf_counter()
    for picture in pictures:
        encoder.prepare(read_picture(picture.path))
    return (time.perf_counter() - start) / len(pictures)


@torch.inference_mode()
def bare_seconds(visual: torch.nn.Module, batches: Sequence[Tensor], args: argparse.Namespace) -> float:
    kind = torch.bfloat16 if args.precision == "bf16" else torch.float16
    start = time.perf_counter()
    with torch.autocast(args.device, kind, enabled=args.precision != "fp32"):
        for batch in batches:
            visual(batch)
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def embedding_seconds(
    pictures: Path, encoder: ClipImageEncoder, folder: Path, args: argparse.Namespace
) -> tuple[float, int]:
    """Seconds of the whole embedding step, starting and ending its workers included, and the bytes it wrote."""
    with TemporaryDirectory(dir=folder) as name:
        start = time.perf_counter()
        embed_pictures(pictures, encoder, Path(name, "shard"), Path(name, "skipped.json"), args.batch, args.workers)
        seconds = time.perf_counter() - start
        return seconds, sum(file.stat().st_size for file in Path(name, "shard").iterdir())


def text_seconds(texts: Path, encoder: ClipTextEncoder, folder: Path, args: argparse.Namespace) -> float:
    batch = 256 if args.device == "cuda" else 16  # as in the workflow
    with TemporaryDirectory(dir=folder) as name:
        start = time.perf_counter()
        embed_texts(texts, encoder, Path(name, "shard"), 0, 1, batch)
        return time.perf_counter() - start


def measure(args: argparse.Namespace, folder: Path) -> dict:
    torch.set_num_threads(args.threads)
    model = random_clip(args)
    preprocess = image_transform_v2(PreprocessCfg(size=model.visual.image_size), is_train=False)
    image_encoder = ClipImageEncoder(model, preprocess, args.device, grid=args.grid)
    text_encoder = ClipTextEncoder(model, args.architecture, args.device)
    pictures = write_pictures(folder, args.files, args.pictures)
    write_records(folder / "pictures.parquet", Picture, pictures)
    write_texts(folder / "texts.parquet", args.texts)
    prepare_s = prepare_seconds(pictures[: args.files], image_encoder)
    batches = prepared_batches(pictures, preprocess, args)

    bare_seconds(model.visual, batches[:2], args)  # the first calls choose kernels and take memory
    bare, whole, of_texts, written = [], [], [], 0
    for k in range(args.repeat):
        bare.append(bare_seconds(model.visual, batches, args))
        seconds, written = embedding_seconds(folder / "pictures.parquet", image_encoder, folder, args)
        whole.append(seconds)
        of_texts.append(text_seconds(folder / "texts.parquet", text_encoder, folder, args))
        print(f"{k + 1} of {args.repeat}: bare {bare[-1]:.2f} s, embedding {whole[-1]:.2f} s", file=sys.stderr)
    bare_s, whole_s = statistics.median(bare), statistics.median(whole)
    return {
        "benchmark": "embedding",
        **vars(args),
        "bare_images_per_s": args.pictures / bare_s,
        "images_per_s": args.pictures / whole_s,
        "ratio_vs_bare": bare_s / whole_s,
        "ratio_vs_bare_of_fastest": min(bare) / min(whole),  # what others compute on the machine counts less
        "bare_s": bare,
        "embedding_s": whole,
        "prepared_images_per_s_one_process": 1 / prepare_s,
        "texts_per_s": args.texts / statistics.median(of_texts),
        "written_gb": written / 1e9,
    }


def print_table(result: dict) -> None:
    print(f"{result['architecture']} on {result['device']}, {result['threads']} threads, {result['workers']} workers")
    print(f"bare encoder     {result['bare_images_per_s']:9.1f} pictures/s")
    print(f"embedding step   {result['images_per_s']:9.1f} pictures/s")
    print(f"ratio            {result['ratio_vs_bare']:9.2f} ({result['ratio_vs_bare_of_fastest']:.2f} of the fastest)")
    print(f"one worker       {result['prepared_images_per_s_one_process']:9.1f} pictures/s read and prepared")
    print(f"texts            {result['texts_per_s']:9.1f} texts/s")
    print(f"written          {result['written_gb']:9.3f} GB of picture features")


if __name__ == "__main__":
    args = options()
    with TemporaryDirectory() as name:
        result = measure(args, Path(name))
    print_table(result)
    print(json.dumps(result))
