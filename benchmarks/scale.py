"""Preparing and embedding at ten times SemCor's size and 100,000 pictures, against a tenth of it: memory and time.

    python benchmarks/scale.py
    python benchmarks/scale.py --instances 226036 --pictures 10000

All data is made on the spot: an inventory of WordNet's size, SemCor's tag files with random words, a tar of small
pictures. Each step of the workflow runs on it by its own function, in a process of its own, so that its peak of memory
is its own: `semcor` (archive to instances), `pictures` (tar to files and records), `collect_texts`, `embed_texts` and
`embed_pictures`, of which the last two have an encoder that computes next to nothing.

`peak_ratio` is a step's peak at full size over that at a tenth; `time_ratio` its seconds over ten times those at a
tenth (1: linear), the seconds being those of the processor, which others on the machine do not lengthen.
"""

import argparse
import io
import json
import multiprocessing
import random
import resource
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

SYNSETS, SENSES = 117_659, 206_941  # WordNet's
SENTENCES_OF_A_FILE, TAGGED, TOKENS = 106, 6, 22  # SemCor's: sentences a file, instances and words a sentence
WORDS_WITH_SENSES = 40_000
FEATURE_WIDTH = 16


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=2_260_360, help="at full size; SemCor has 226,036")
    parser.add_argument("--pictures", type=int, default=100_000, help="at full size")
    parser.add_argument("--folder", type=Path, help="where the data is made; default: the folder for temporary files")
    return parser.parse_args()


def senses_of(number: int) -> list[tuple[str, str]]:
    """Sense key and synset of the senses of one of the words that have some: five each."""
    each = SENSES // WORDS_WITH_SENSES
    return [(f"word{number}%1:05:{sense:02d}::", f"{(number * each + sense) % SYNSETS:08d}-n") for sense in range(each)]


def make_inventory(folder: Path) -> None:
    from polclip.records import Sense, Synset, write_records

    def senses() -> Iterator[Sense]:
        for number in range(WORDS_WITH_SENSES):
            for at, (key, synset_id) in enumerate(senses_of(number), start=1):
                yield Sense(key, f"word{number}", "n", "n", at, 0, synset_id)

    glosses = (f"a thing of the kind {number} that is like no other of its kind" for number in range(SYNSETS))
    synsets = (
        Synset(f"{number:08d}-n", "noun.thing", gloss, [], [f"thing{number}"], [])
        for number, gloss in enumerate(glosses)
    )
    write_records(folder / "senses.parquet", Sense, sorted(senses(), key=lambda sense: sense.lemma))
    write_records(folder / "synsets.parquet", Synset, synsets)


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def make_semcor(folder: Path, instances: int) -> None:
    """Tag files of SemCor's form; the words of a sentence are drawn, so that few sentences are equal."""
    rng = random.Random(0)
    plain = [f"<wf cmd=ignore pos=NN>plain{number}</wf>\n" for number in range(5000)]
    tagged = [
        f"<wf cmd=done pos=NN lemma=word{number} wnsn=1 lexsn=1:05:00::>word{number}</wf>\n"
        for number in range(WORDS_WITH_SENSES)
    ]
    with tarfile.open(folder / "semcor.tar", "w") as archive:
        for file in range(-(-instances // (SENTENCES_OF_A_FILE * TAGGED))):
            lines = ["<contextfile>\n"]
            for sentence in range(1, SENTENCES_OF_A_FILE + 1):
                words = rng.choices(plain, k=TOKENS - TAGGED) + rng.choices(tagged, k=TAGGED)
                lines += [f"<s snum={sentence}>\n", *words, "</s>\n"]
            add_member(archive, f"semcor/brown1/tagfiles/br-{file:05d}", "".join(lines).encode())


def make_pictures(folder: Path, count: int) -> None:
    """A tar of small pictures, and the table of what they show, as `image_senses` writes it."""
    from PIL import Image

    from polclip.corpora.image_senses import SHOWN
    from polclip.files import write_parquet

    contents = []
    for shade in range(256):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (shade, 255 - shade, 128)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    names = [f"bn_{number:08d}n_{number % 15}.png" for number in range(count)]
    with tarfile.open(folder / "pictures.tar", "w") as archive:
        for number, name in enumerate(names):
            add_member(archive, f"images/{name}", contents[number % 256])
    shown = ({"name": name, "synset_id": f"{n % SYNSETS:08d}-n"} for n, name in enumerate(names))
    write_parquet(folder / "shown.parquet", shown, SHOWN)


def inventory_of(folder: Path):
    from polclip.inventory import Inventory

    return Inventory.read(folder.parent / "senses.parquet", folder.parent / "synsets.parquet")


def semcor(folder: Path) -> None:
    from polclip.corpora import semcor_tags

    archive = folder / "semcor.tar"
    semcor_tags.build(archive, inventory_of(folder), folder / "train.parquet", folder / "dev.parquet")


def pictures(folder: Path) -> None:
    from polclip.corpora.image_senses import build_pictures

    written = (folder / "pictures", folder / "pictures.parquet", folder / "missing.json")
    build_pictures(folder / "shown.parquet", folder / "pictures.tar", *written, "image_semcor")


def collect_texts(folder: Path) -> None:
    from polclip.corpora.texts import collect

    collect(folder / "texts.parquet", inventory_of(folder), [folder / "train.parquet"], [], [], {})


def embed_texts(folder: Path) -> None:
    import numpy as np

    from polclip.encoders.embed import embed_texts
    from polclip.encoders.interface import EncodedTexts

    class LengthEncoder:
        """A token and a state a word, its length."""

        def tokens(self, texts):
            lengths = [np.array([len(word) for word in text.split()], np.int32) for text in texts]
            return [(of_text, np.zeros((len(of_text), 2), np.int32)) for of_text in lengths]

        def __call__(self, texts):
            lengths, spans = map(list, zip(*texts, strict=True))
            states = [np.repeat(of_text[:, None].astype(np.float32), FEATURE_WIDTH, 1) for of_text in lengths]
            return EncodedTexts(states, spans, np.stack([state.mean(0) for state in states]))

    embed_texts(folder / "texts.parquet", LengthEncoder(), folder / "texts", 0, 1, batch=256)


class ColourEncoder:
    """The mean colour, as each of 50 tokens."""

    bytes_per_picture = 2 * (50 * 3 + 3)

    def prepare(self, picture):
        import numpy as np
        import torch

        return torch.from_numpy(np.asarray(picture, dtype=np.float32).mean((0, 1)))

    def __call__(self, prepared):
        from polclip.encoders.interface import EncodedImages

        return EncodedImages(prepared[:, None].repeat(1, 50, 1), prepared, None)


def embed_pictures(folder: Path) -> None:
    from polclip.encoders.embed import embed_pictures

    embed_pictures(folder / "pictures.parquet", ColourEncoder(), folder / "features", folder / "skipped.json", batch=64)


STEPS = (semcor, pictures, collect_texts, embed_texts, embed_pictures)


def measured(step: Callable, folder: Path) -> dict:
    wall, used = time.perf_counter(), time.process_time()
    step(folder)
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - used,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def alone(work: Callable, *given: object) -> object:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *given).result()


def run_all(folder: Path, instances: int, count: int) -> dict[str, dict]:
    folder.mkdir()
    alone(make_semcor, folder, instances)
    alone(make_pictures, folder, count)
    results = {}
    for step in STEPS:
        results[step.__name__] = alone(measured, step, folder)
        print(f"{instances:,} {step.__name__}: {results[step.__name__]}", file=sys.stderr, flush=True)
    return results


if __name__ == "__main__":
    args = options()
    with TemporaryDirectory(dir=args.folder) as name:
        alone(make_inventory, Path(name))
        tenth = run_all(Path(name, "tenth"), args.instances // 10, args.pictures // 10)
        full = run_all(Path(name, "full"), args.instances, args.pictures)
    steps = {}
    print(f"{'':16}{'peak MB':>18}{'ratio':>8}{'processor s':>18}{'ratio':>8}")
    for step, at_full in full.items():
        at_tenth = tenth[step]
        peak, seconds = at_full["peak_mb"] / at_tenth["peak_mb"], at_full["cpu_s"] / at_tenth["cpu_s"] / 10
        steps[step] = {"tenth": at_tenth, "full": at_full, "peak_ratio": peak, "time_ratio": seconds}
        print(
            f"{step:16}{at_tenth['peak_mb']:9.0f}{at_full['peak_mb']:9.0f}{peak:8.2f}"
            f"{at_tenth['cpu_s']:9.1f}{at_full['cpu_s']:9.1f}{seconds:8.2f}"
        )
    most = {name: max(of[name] for of in steps.values()) for name in ("peak_ratio", "time_ratio")}
    size = {"instances": args.instances, "pictures": args.pictures}
    print(json.dumps({"benchmark": "scale", **size, **most, "steps": steps}))
