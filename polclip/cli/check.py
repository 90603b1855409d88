"""`polclip check`: whether this machine can use a model, and what is missing."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from polclip.cli.common import Archives, AsJson, one_sentence


def check(
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FOLDER", help="Say too what this model needs and whether it is here."),
    ] = None,
    archives: Archives = None,
    as_json: AsJson = False,
) -> None:
    """Look at this machine: Python and packages, devices, key, disk, and a model's archives with their licences.

    Of OPENAI_API_KEY it says only whether there is one; using a model needs none. Nothing is downloaded. Exit code 1:
    the model's archives are not all here (they are fetched when it is used). For a whole run of the workflow:
    snakemake check_setup --cores 1 --configfile presets/demo.yaml
    """
    from polclip.provenance import package_versions

    with one_sentence():
        needed = [] if model is None else _archives_of(model, archives)
        found = {
            "python": sys.version.split()[0],
            "packages": package_versions(),
            "devices": _devices(),
            "openai_api_key": "set" if os.environ.get("OPENAI_API_KEY") else "not set",
            "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
            "archives": needed,
        }
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        typer.echo(f"python    {found['python']}")
        typer.echo("packages  " + ", ".join(f"{name} {version}" for name, version in found["packages"].items()))
        typer.echo("devices   " + ", ".join(found["devices"]))
        typer.echo(f"key       OPENAI_API_KEY is {found['openai_api_key']} (using a model needs none)")
        typer.echo(f"disk      {found['disk_free_gb']} GB free")
        for one in needed:
            typer.echo(f"{'present' if one['present'] else 'missing':8}  {one['dataset']}: {one['file']}")
            typer.echo(f"          {one['licence']}")
    if not all(one["present"] for one in needed):
        raise typer.Exit(1)


def _devices() -> list[str]:
    import torch

    return ["cpu", *(torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count()))]


def _archives_of(model: Path, archives: Path | None) -> list[dict]:
    """The archives that a model is used with, whether each is here, and its licence."""
    from polclip.downloads.manifest import read_manifest
    from polclip.encoders.described import read_encoders
    from polclip.opening import MANIFEST, archives_with

    encoders = read_encoders(model)
    manifest = read_manifest(MANIFEST) if MANIFEST.exists() else {}
    told = []
    for archive in (encoders.inventory, encoders.text, encoders.image):
        if archive is not None:
            path = Path(archives or archives_with(archive.file)) / archive.file
            entry = manifest.get(archive.dataset)
            licence = "licence unknown" if entry is None else f"{entry.licence} {entry.licence_note}".strip()
            told.append(
                {"dataset": archive.dataset, "file": archive.file, "present": path.exists(), "licence": licence}
            )
    return told
