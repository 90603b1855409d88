"""The vectors of every gloss of the inventory for one trained model."""

from pathlib import Path

from polclip.devices import choose_device
from polclip.encoders.described import open_text_encoder, read_encoders
from polclip.gloss_index import build_index, model_digest
from polclip.inventory import Inventory
from polclip.model.polclip import read_model
from polclip.rule_log import rule_log
from polclip.workplaces import scratch_folder

with rule_log(snakemake), scratch_folder() as unpacked:
    given, folder = snakemake.input, Path(snakemake.input.model).parent
    device = choose_device(snakemake.config["machine"]["device"], snakemake.threads, snakemake.resources.get("gpu", 0))
    model = read_model(folder).to(device)
    archive = Path(given.weights) if given.get("weights") else None
    encoder = open_text_encoder(read_encoders(folder), model, archive, unpacked, device)
    inventory = Inventory.read(given.senses, given.synsets)
    build_index(snakemake.output.folder, model, model_digest(folder), encoder, inventory)
