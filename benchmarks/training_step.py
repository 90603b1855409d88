"""One training step of the paper's model as this project computes it, against the same mathematics the naive way.

    python benchmarks/training_step.py

Both ways take one whole step (reading, forward of the four losses, backward, AdamW, momentum) from the same random
weights on the same glosses, pictures and sentences, at the sizes of ViT-L/14, in the form of the paper's figure.

- stored: the states behind the frozen image tower are read back from a memory-mapped shard in 16 bit; texts are
  padded to the longest of a part of like length; every gloss is encoded once, and once more for the momentum target.
- naive: the image tower runs on the pixels for the encoder and again for the momentum encoder; all texts are padded to
  77 positions; every gloss is encoded anew for its embedding, for SIG and for the momentum target. So does the public
  code (MODEL.md, "Cost"). In its favour the pictures lie decoded in memory, and both encoders share the frozen blocks.

Each way runs in a process of its own, so that its peak of memory is its own; the memory holds the weights, their
gradients and AdamW's state both times. The loss is that of the first step. With states kept in 32 bit it must be the
naive one's to 1e-4; the rounding to 16 bit moves it a little, which is shown too.

On two otherwise idle cores of an AMD EPYC without AVX-512:

                     naive      stored     ratio
    forward_s      224.731       9.012      24.9
    backward_s      19.675      15.625       1.3
    step_s         244.737      24.963       9.8      10.2 comparing the fastest steps, 9.5 in CPU seconds
    peak_mb      14774.305   11109.831       1.3

Later runs gave 257.1 s against 28.9 s (8.9; 9.7 of the fastest) and 274.4 s against 29.4 s (9.3; 10.0). Arithmetic
keeps the ratio there: torch counts 29.9e12 operations in the naive step and 3.24e12 in the stored one, 9.2 to 1. Most
of what is left are ISG and fusion on 80 pictures at 77 positions, forward and backward, which both ways compute alike.
With `--form released`, the public code's choices (captions of all glosses, fusion that keeps position 0 alone, two
blocks reused), 248.3 s against 15.6 s (16.0; 15.4 in CPU seconds), 12,127 and 8,126 MB; torch counts 29.5e12 operations
against 1.79e12.
The loss was the same with states in 32 bit, and 3.4e-5 away with 16 bit. On a busy machine the wall clock says little
(6.4 once); there the ratio of CPU seconds is steadier, though not free of it.
With a GPU, `--device cuda --warm-up 3 --naive-warm-up 3 --repeat 10 --naive-repeat 5`: on one H100 0.895 s against
0.285 s (3.1) in fp32, and 0.279 s against 0.225 s (1.2) with `--precision bf16`, where reading the states took a third
of the step: it made 32 bit of them before they went to the GPU.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from torch import Tensor

from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.model.clip_polclip import ClipModelSettings, ClipPolCLIP
from polclip.model.clip_towers import build_clip
from polclip.model.losses import four_losses, same_id
from polclip.model.representations import Batch, Chunks, Labels, Losses, Tokens
from polclip.training.chunks import glosses_in_chunks, in_chunks, whole_texts_in_chunks
from polclip.training.corpora import tokens_of
from polclip.training.schedule import parameter_groups

CONFIG = Path(__file__).parent.parent / "config.yaml"
CONTEXT, VOCABULARY = 77, 49408
START_OF_TEXT, END_OF_TEXT = VOCABULARY - 2, VOCABULARY - 1
SHORTEST, LONGEST = 10, 30  # tokens of a gloss or a sentence


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--form",
        choices=("figure", "released"),
        default="figure",
        help="the paper's figure, or the public code's choices",
    )
    parser.add_argument("--glosses", type=int, default=16)
    parser.add_argument("--pictures-per-gloss", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=8)
    parser.add_argument("--layers", type=int, default=24, help="of the image tower; the text tower has half of them")
    parser.add_argument(
        "--width", type=int, default=1024, help="of the image tower, a multiple of 32; three quarters in the text tower"
    )
    parser.add_argument("--patch", type=int, default=14, help="pixels of a patch's side")
    parser.add_argument("--picture-size", type=int, default=224, help="pixels of a picture's side")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the training step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--repeat", type=int, default=3, help="timed steps of the stored way; the median counts")
    parser.add_argument("--naive-repeat", type=int, default=1, help="timed steps of the naive way")
    parser.add_argument("--warm-up", type=int, default=2, help="untimed steps of the stored way before the timed ones")
    parser.add_argument("--naive-warm-up", type=int, default=1, help="untimed steps of the naive way")
    return parser.parse_args()


# What both ways share: the model, the inputs, the labels, the timing of a step.


def random_model(args: argparse.Namespace) -> ClipPolCLIP:
    """The same weights in every process. Embedding and text width are one, as in ViT-L/14."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    text_layers, text_width = args.layers // 2, args.width * 3 // 4
    config = {
        "embed_dim": text_width,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": args.picture_size,
            "layers": args.layers,
            "width": args.width,
            "head_width": min(64, args.width),
            "patch_size": args.patch,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": VOCABULARY,
            "width": text_width,
            "heads": max(1, text_width // 64),
            "layers": text_layers,
        },
    }
    own = {"reused_blocks": 4}
    if args.form == "released":
        own = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["ablations"]["as_released"]["model"]
    own["reused_blocks"] = min(own["reused_blocks"], text_layers)
    settings = ClipModelSettings(trainable_text_blocks=text_layers, **own)
    return ClipPolCLIP(build_clip(config), settings, config).to(args.device).train()


def names(kind: str, count: int) -> list[str]:
    return [f"{kind} {k}" for k in range(count)]


def caption_names(args: argparse.Namespace) -> list[str]:
    """One of each gloss, where the form compares captions with pictures."""
    return names("caption", args.glosses if args.form == "released" else 0)


def picture_names(args: argparse.Namespace) -> list[str]:
    return names("picture", args.glosses * args.pictures_per_gloss)


def random_pixels(args: argparse.Namespace) -> Tensor:
    """Pictures as the tower reads them, [I, 3, h, w]."""
    count, size = len(picture_names(args)), args.picture_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def labels_of(args: argparse.Namespace) -> Labels:
    """Picture k shows gloss k // pictures per gloss; sentence k means gloss k, all glosses being its candidates, and
    caption k tells of gloss k."""
    glosses = names("gloss", args.glosses)
    shown = [gloss for gloss in glosses for _ in range(args.pictures_per_gloss)]
    meant = [glosses[k % len(glosses)] for k in range(args.sentences)]
    labels = Labels(
        gloss_of_image=same_id(glosses, shown),
        gloss_of_context=same_id(meant, glosses),
        candidates=torch.ones(len(meant), len(glosses), dtype=torch.bool),
        image_of_context=same_id(meant, shown),
        image_of_caption=same_id(glosses, shown) if args.form == "released" else None,
    )
    return Labels(*(None if label is None else label.to(args.device) for label in labels))


def target_word(sentences: Tokens) -> Tensor:
    """Which tokens are the target's, [C, t]: the third and fourth of every sentence."""
    place = torch.arange(sentences.real.shape[1], device=sentences.real.device)
    return ((place == 3) | (place == 4)).expand_as(sentences.real)


def synchronized_clock(device: str) -> float:
    """The time when all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def steps(
    model: ClipPolCLIP, read: Callable[[], tuple], losses: Callable[..., Losses], args: argparse.Namespace
) -> Iterator[tuple[float, dict[str, float]]]:
    """Whole training steps one after the other: the loss of each, and the seconds of its parts."""
    optimizer = optimizer_in_use([p for p in model.parameters() if p.requires_grad])
    while True:
        cpu_start, clock = time.process_time(), [synchronized_clock(args.device)]
        inputs = read()
        clock.append(synchronized_clock(args.device))
        with autocast(args):
            loss = losses(*inputs).total
        clock.append(synchronized_clock(args.device))
        loss.backward()
        clock.append(synchronized_clock(args.device))
        optimizer.step()
        optimizer.zero_grad()
        model.follow()
        clock.append(synchronized_clock(args.device))
        parts = ("read_s", "forward_s", "backward_s", "update_s")
        spent = {part: end - start for part, start, end in zip(parts, clock[:-1], clock[1:], strict=True)}
        yield loss.item(), spent | {"step_s": clock[-1] - clock[0], "cpu_s": time.process_time() - cpu_start}


def optimizer_in_use(trained: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW after a step that changed nothing, since it takes its memory in its first one."""
    optimizer = torch.optim.AdamW(parameter_groups([(1e-4, trained)], decay=0.05), lr=0.0)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group in optimizer.param_groups:
        group["lr"] = group["peak"]
    return optimizer


def autocast(args: argparse.Namespace) -> torch.autocast:
    return torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16")


def measured(
    run: Iterator[tuple[float, dict[str, float]]], warm_up: int, repeat: int, way: str, args: argparse.Namespace
) -> dict:
    """The first loss, the medians of the seconds, and the peak of memory of this process (of the GPU on a GPU)."""
    first_loss, timed = None, []
    for k in range(warm_up + repeat):
        loss, spent = next(run)
        first_loss = loss if first_loss is None else first_loss
        if k >= warm_up:
            timed.append(spent)
        print(f"{way}: step {k + 1} of {warm_up + repeat}, {spent['step_s']:.2f} s", file=sys.stderr)
    if args.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    medians = {part: statistics.median(spent[part] for spent in timed) for part in timed[0]}
    return medians | {"loss": first_loss, "peak_mb": peak / 1e6, "steps_s": [spent["step_s"] for spent in timed]}


# The stored way.


@torch.no_grad()
def store_inputs(args: argparse.Namespace, folder: Path) -> float:
    """Write texts and pictures as the embedding step does, the pictures' states in 32 bit too; returns its seconds."""
    rng = np.random.default_rng(2)
    with shard_writer(folder / "texts") as writer:
        for name in names("gloss", args.glosses) + names("sentence", args.sentences) + caption_names(args):
            inside = rng.integers(1, START_OF_TEXT, rng.integers(SHORTEST, LONGEST + 1) - 2)
            ids = np.array([START_OF_TEXT, *inside, END_OF_TEXT])
            writer.add([name], [ids], np.zeros((1, 1)))
    model = random_model(args)
    start = time.perf_counter()
    states = torch.cat([model.encode_pictures(some.to(args.device)).cpu() for some in random_pixels(args).split(8)])
    with shard_writer(folder / "pictures") as writer:
        writer.add(picture_names(args), states.half().numpy(), np.zeros((len(states), 1)))
    seconds = time.perf_counter() - start
    np.save(folder / "states_32bit.npy", states.numpy())
    return seconds


def stored_batch(args: argparse.Namespace, texts: FeatureStore, pictures: FeatureStore) -> Batch:
    sentences = names("sentence", args.sentences)

    def words(places: list[int]) -> tuple[Tokens, Tensor]:
        tokens = tokens_of(texts, [sentences[k] for k in places], args.device)
        return tokens, target_word(tokens)

    return Batch(
        words=in_chunks(texts, sentences, words, args.device),
        phrases=Chunks([], torch.zeros(0, dtype=torch.long)),
        captions=whole_texts_in_chunks(texts, caption_names(args), args.device) if caption_names(args) else None,
        glosses=glosses_in_chunks(texts, names("gloss", args.glosses), args.device),
        images=tokens_of(pictures, picture_names(args), args.device),
        labels=labels_of(args),
        word_count=args.sentences,
    )


def stored_way(args: argparse.Namespace, folder: Path) -> dict:
    model = random_model(args)
    texts, pictures = FeatureStore([folder / "texts"]), FeatureStore([folder / "pictures"])
    batch = stored_batch(args, texts, pictures)
    exact = torch.from_numpy(np.load(folder / "states_32bit.npy")).to(args.device)
    with torch.no_grad(), autocast(args):  # needs less memory than a step, so the peak stays the step's
        exact_loss = model(batch._replace(images=batch.images._replace(states=exact))).total.item()
    del batch, exact
    run = steps(model, lambda: (stored_batch(args, texts, pictures),), model, args)
    return measured(run, args.warm_up, args.repeat, "stored", args) | {"loss_32bit_states": exact_loss}


# The naive way.


def padded(tokens: Tokens) -> Tokens:
    """Token ids at all positions the tower knows, [b, 77]."""
    missing = (0, CONTEXT - tokens.states.shape[1])
    return Tokens(None, *(torch.nn.functional.pad(array, missing) for array in (tokens.states, tokens.real)))


def naive_losses(
    model: ClipPolCLIP,
    sentences: Tokens,
    target: Tensor,
    glosses: Tokens,
    captions: Tokens | None,
    pixels: Tensor,
    labels: Labels,
) -> Losses:
    words = model.word_in_context(sentences, target).float()
    captions = None if captions is None else model.phrase(captions).float()
    gloss = model.gloss(glosses)._replace(plain=model.phrase(glosses))
    image = model.image(tower_output(model, pixels))
    with torch.no_grad():
        again = tower_output(model, pixels)
        if model.momentum is None:
            targets = model.phrase(glosses), model.image_top(again.states)[1]
        else:
            targets = model.momentum.gloss(glosses), model.momentum.image(again)
    gloss, image = (
        type(one)(*(part.float() for part in one._replace(target=target)))
        for one, target in zip((gloss, image), targets, strict=True)
    )
    with torch.autocast(model.device.type, enabled=False):
        return four_losses(words, captions, gloss, image, labels, model.scale, model.several_positives)


def tower_output(model: ClipPolCLIP, pixels: Tensor) -> Tokens:
    states = model.encode_pictures(pixels)
    return Tokens(None, states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))


def naive_way(args: argparse.Namespace, folder: Path) -> dict:
    model = random_model(args)
    texts, pixels = FeatureStore([folder / "texts"]), random_pixels(args)

    def read() -> tuple:
        sentences = padded(tokens_of(texts, names("sentence", args.sentences), args.device))
        glosses = padded(tokens_of(texts, names("gloss", args.glosses), args.device))
        captions = padded(tokens_of(texts, caption_names(args), args.device)) if caption_names(args) else None
        return model, sentences, target_word(sentences), glosses, captions, pixels.to(args.device), labels_of(args)

    return measured(steps(model, read, naive_losses, args), args.naive_warm_up, args.naive_repeat, "naive", args)


# The comparison.


def compared(args: argparse.Namespace) -> dict:
    """Both ways, each in a process of its own."""
    with (
        TemporaryDirectory() as name,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        folder = Path(name)
        print("The embedding step, done once for a whole training ...", file=sys.stderr)
        embedding_s = processes.submit(store_inputs, args, folder).result()
        stored = processes.submit(stored_way, args, folder).result()
        naive = processes.submit(naive_way, args, folder).result()
    pictures = len(picture_names(args))
    return {
        "benchmark": "training_step",
        **vars(args),
        "pictures": pictures,
        "naive": naive,
        "stored": stored,
        "ratio_vs_naive": naive["step_s"] / stored["step_s"],
        "ratio_vs_naive_of_fastest": min(naive["steps_s"]) / min(stored["steps_s"]),
        "cpu_ratio_vs_naive": naive["cpu_s"] / stored["cpu_s"],  # of all threads: what others compute counts less
        "images_per_s": pictures / stored["step_s"],
        "naive_images_per_s": pictures / naive["step_s"],
        "loss_difference_32bit_states": abs(naive["loss"] - stored["loss_32bit_states"]),
        "loss_difference_16bit_states": abs(naive["loss"] - stored["loss"]),
        "embedding_once_s": embedding_s,
    }


def print_table(result: dict) -> None:
    naive, stored = result["naive"], result["stored"]
    print(f"{result['glosses']} glosses, {result['pictures']} pictures, {result['sentences']} sentences a step")
    print(f"{'':12}{'naive':>12}{'stored':>12}{'ratio':>10}")
    for key in ("read_s", "forward_s", "backward_s", "update_s", "step_s", "cpu_s", "peak_mb"):
        print(f"{key:12}{naive[key]:12.3f}{stored[key]:12.3f}{naive[key] / stored[key]:10.1f}")
    print(f"fastest step of each: {result['ratio_vs_naive_of_fastest']:.1f} times as fast")
    for bits in ("32", "16"):
        print(f"loss differs by {result[f'loss_difference_{bits}bit_states']:.1e} with states stored in {bits} bit")


if __name__ == "__main__":
    result = compared(options())
    print_table(result)
    print(json.dumps(result))
