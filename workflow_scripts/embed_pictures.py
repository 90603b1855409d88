"""One set of pictures through the frozen image encoder; what cannot be read is counted."""

from polclip.devices import choose_device
from polclip.encoders.embed import EncoderSettings, embed_pictures, image_encoder
from polclip.rule_log import rule_log
from polclip.workplaces import scratch_folder

with rule_log(snakemake), scratch_folder() as unpacked:
    weights = snakemake.input.weights
    settings = EncoderSettings.of(snakemake.params.encoder, weights)
    device = choose_device(snakemake.config["machine"]["device"], snakemake.threads, snakemake.resources.get("gpu", 0))
    embed_pictures(
        snakemake.input.pictures,
        image_encoder(settings, weights, unpacked / "encoder", device),
        snakemake.output.folder,
        snakemake.output.skipped,
        # what fits a CPU's cache is fastest there
        batch=8 if device == "cpu" else 64,
        # beside the one that feeds the encoder
        workers=snakemake.threads - 1,
        described=settings.of_pictures(),
        shard=int(snakemake.wildcards.shard),
        shards=snakemake.params.shards,
    )
