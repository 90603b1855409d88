"""One shard of the texts through the frozen text encoder."""

from polclip.devices import choose_device
from polclip.encoders.embed import EncoderSettings, embed_texts, text_encoder
from polclip.rule_log import rule_log
from polclip.workplaces import scratch_folder

with rule_log(snakemake), scratch_folder() as unpacked:
    weights = snakemake.input.weights
    settings = EncoderSettings.of(snakemake.params.encoder, weights)
    device = choose_device(snakemake.config["machine"]["device"], snakemake.threads, snakemake.resources.get("gpu", 0))
    embed_texts(
        snakemake.input.texts,
        text_encoder(settings, weights, unpacked / "encoder", device),
        snakemake.output.folder,
        int(snakemake.wildcards.shard),
        snakemake.params.shards,
        # what fits a CPU's cache is fastest there
        batch=16 if device == "cpu" else 256,
        described=settings.of_texts(),
    )
