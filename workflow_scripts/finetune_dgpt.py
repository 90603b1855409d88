"""A language model fine-tuned on chat lines, started once for the same lines and settings."""

from polclip.definitions.cache import AnswerCache
from polclip.definitions.finetuning import finetune
from polclip.rule_log import rule_log

with rule_log(snakemake), AnswerCache("resources/llm_cache") as cache:
    finetune(snakemake.input.corpus, snakemake.output.model, snakemake.config["definitions"], cache)
