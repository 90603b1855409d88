"""One experiment with one seed; a killed training goes on from what it saved under resources/resume/."""

from dataclasses import asdict
from pathlib import Path

from polclip.devices import choose_device
from polclip.encoders.embed import EncoderSettings
from polclip.files import sha256
from polclip.rule_log import rule_log
from polclip.settings import digest
from polclip.training.launch import launch

FILES = ("textual_train", "textual_dev", "pictures_train", "phrases", "visual_dev")
STORES = ("text_features", "picture_features")

with rule_log(snakemake):
    given, params = snakemake.input, snakemake.params
    arguments = {
        "folder": str(Path(snakemake.output.model).parent),
        "senses": given.senses,
        "synsets": given.synsets,
        "text_features": list(given.text_features),
        "picture_features": list(given.picture_features),
        "textual_train": list(given.textual_train),
        "textual_dev": list(given.textual_dev),
        "pictures_train": list(given.pictures_train),
        "phrases": list(given.phrases),
        "visual_dev": list(given.visual_dev),
        "definitions": dict(zip(given.defined, given.definitions, strict=True)),
        "forms": params.forms,
        "model": params.model,
        "encoder": asdict(EncoderSettings.of(params.encoder, given.get("weights"))),
        "encoders": params.encoders,
        "context_words": params.context_words,
        "towers": given.get("towers") or None,
        "text_weights": given.get("weights") or None,
        "start": str(Path(given.start).parent) if given.get("start") else None,
        "training": params.training,
        "seed": int(snakemake.wildcards.seed),
        "device": choose_device(
            snakemake.config["machine"]["device"], snakemake.threads, snakemake.resources.get("gpu", 0)
        ),
    }
    # Named by all that decides the course of the training: settings, code, and what the files hold.
    read = [name for key in FILES for name in arguments[key]] + list(arguments["definitions"].values())
    read += [f"{folder}/index.parquet" for key in STORES for folder in arguments[key]]
    read += [given.start] if arguments["start"] else []
    read += [f"{arguments['towers']}/heads.safetensors"] if arguments["towers"] else []
    decisive = {**arguments, "code": params.code, "files": [sha256(name) for name in read]}
    arguments["resume"] = f"resources/resume/{digest(decisive)}"
    launch(arguments, snakemake.resources.get("gpu", 0), snakemake.resources.get("nodes", 1))
