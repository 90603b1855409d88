"""What this machine has, and what a run would still need; nothing is downloaded, computed or paid."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from polclip.downloads.licences import line_to_write, to_accept
from polclip.downloads.manifest import ByHand, Dataset
from polclip.encoders.clip import bytes_per_picture
from polclip.provenance import package_versions

GB = 1e9


def check_setup(config: Mapping, datasets: Iterable[Dataset], archives: str | Path = "resources/archives") -> str:
    """A page of plain text about Python, packages, device, key, language model, disk, archives and licences.

    Of the key it says only whether there is one. A server that definitions come from is asked for its list of models.
    Sizes are in GB (10^9 bytes).
    """
    datasets = list(datasets)
    missing = [dataset for dataset in datasets if not (Path(archives) / dataset.file).exists()]
    free = shutil.disk_usage(".").free / GB
    sizes = [dataset.size or dataset.approximate_size for dataset in missing]
    known, unknown = sum(filter(None, sizes)) / GB, sizes.count(None)
    about = "about " if any(dataset.approximate_size for dataset in missing) else ""
    lines = [
        f"run         {config['name']}",
        f"python      {sys.version.split()[0]}",
        f"packages    {', '.join(f'{name} {version}' for name, version in package_versions().items())}",
        f"device      {_device(config['machine']['device'])}",
        f"key         {_key(config['definitions'])}",
        *_language_model(config["definitions"]),
        f"disk        {free:.1f} GB free; archives still to come: {about}{known:.2f} GB"
        + (f" and {unknown} of unknown size" if unknown else ""),
        f"archives    {len(datasets) - len(missing)} of {len(datasets)} present",
    ]
    pictures = sum(dataset.pictures for dataset in datasets)
    if pictures and config["encoder"]["kind"] == "clip":
        needed = pictures * bytes_per_picture(config["encoder"]["clip_architecture"], config["encoder"]["grid"]) / GB
        lines.append(
            f"features    {needed:.0f} GB for {pictures:,} pictures (encoder.grid makes them fewer), "
            "and those of the benchmarks"
        )
    for dataset in datasets:
        state = "missing" if dataset in missing else "present"
        how = " (by hand)" if dataset in missing and isinstance(dataset.source, ByHand) else ""
        lines.append(f"  {state:9} {dataset.name}: {dataset.file}{how}")
        if dataset in missing and how:
            lines.append(f"            {dataset.source.instructions.strip()}")
    accepted = config["accept_licences"]
    open_ones = to_accept(datasets, accepted, archives)
    lines.append(f"licences    {len(open_ones) or 'none'} to accept before what is missing can be fetched")
    lines += [f"  {dataset.name}: {dataset.licence}. {dataset.licence_note}" for dataset in open_ones]
    if open_ones:
        lines.append(f"  in your config: {line_to_write(open_ones, accepted)}")
    return "\n".join(lines)


def _device(asked: str) -> str:
    if find_spec("torch") is None:
        return f"{asked} asked; torch is not installed: make demo installs it"
    import torch

    there = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU that torch can use"
    wrong = ": set machine.device: cpu, or run on a machine with a GPU" if asked == "cuda" and "no GPU" in there else ""
    return f"{asked} asked; {there}{wrong}"


def _asks(definitions: Mapping) -> bool:
    return definitions["source"] == "openai" and bool(definitions["of"])


def _language_model(definitions: Mapping) -> list[str]:
    if not _asks(definitions):
        return []
    from polclip.definitions.model_check import model_report  # no other source needs the client library

    return [f"model       {model_report(definitions)}"]


def _key(definitions: Mapping) -> str:
    if not _asks(definitions):
        of = " and ".join(definitions["of"]) or "none"
        return f"not needed (definitions.source is {definitions['source']}, of {of})"
    if definitions["base_url"]:
        return f"not needed, unless {definitions['base_url']} asks for one"
    return f"OPENAI_API_KEY is {'set' if os.environ.get('OPENAI_API_KEY') else 'not set: definitions need it'}"
