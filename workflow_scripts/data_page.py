"""What the corpora hold, as a page and a table."""

from polclip.inventory import Inventory
from polclip.reporting.corpus_statistics import corpus_statistics
from polclip.reporting.data_page import write_data_page
from polclip.rule_log import rule_log

with rule_log(snakemake):
    given = snakemake.input
    textual, visual = (
        {side: given.get(f"{task}_{side}", []) for side in ("train", "dev", "test")} for task in ("textual", "visual")
    )
    statistics = corpus_statistics(
        textual, visual, given.get("pictures", []), Inventory.read(given.senses, given.synsets)
    )
    output = snakemake.output
    write_data_page(snakemake.params.name, statistics, output.page, output.table, output.corpora)
