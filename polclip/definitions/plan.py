"""What would be asked about a corpus, and at what price: before anything is spent, without key or network."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from polclip.definitions.cache import key_of
from polclip.definitions.cost import BATCH_SHARE, GLOSS_TOKENS, Price, most_tokens_in, price_of, tokens_in
from polclip.definitions.prompts import request_of
from polclip.files import read_json, write_json, write_json_lines, write_table, write_text
from polclip.records import TextualInstance, VisualInstance, read_records


def asked_model(settings: Mapping) -> str:
    """The model that is asked, by the name its price is listed under: `ft:` where it is to be fine-tuned first."""
    return settings["model"] if settings["finetuning"]["corpus"] == "none" else f"ft:{settings['model']}"


def plan_definitions(
    instances: str | Path,
    kind: type[TextualInstance | VisualInstance],
    requests: str | Path,
    plan: str | Path,
    settings: Mapping,
) -> None:
    """Write a JSON line for each instance (instance_id, request), and what they come to.

    Args:
        instances: Parquet file of records of that kind.
        settings: the config's block `definitions`.

    The plan: corpus, split, model, instances, requests (each distinct question is asked once); tokens_in and
    tokens_out, about, and most_tokens_in and most_tokens_out, an upper bound; usd, a dict by each model of
    `definitions.prices`: about, most, and batch (about, by the Batch API).
    """
    model, base_url = asked_model(settings), settings["base_url"]
    price_of(model, settings["prices"], base_url)  # a model without a price is refused before it is asked
    distinct: dict[str, tuple[int, int]] = {}
    count = 0

    def lines() -> Iterator[dict]:
        nonlocal count
        for instance in read_records(instances, kind):
            count += 1
            request = request_of(instance, {**settings, "model": model})
            distinct[key_of(request, base_url)] = tokens_in(request), most_tokens_in(request)
            yield {"instance_id": instance.instance_id, "request": request}

    write_json_lines(requests, lines())
    about, most = (sum(tokens) for tokens in zip(*distinct.values(), strict=True)) if distinct else (0, 0)
    tokens = {
        "tokens_in": about,
        "tokens_out": len(distinct) * min(GLOSS_TOKENS, settings["max_tokens"]),
        "most_tokens_in": most,
        "most_tokens_out": len(distinct) * settings["max_tokens"],
    }
    prices = {name: price_of(name, settings["prices"]) for name in settings["prices"]}
    prices.setdefault(model, price_of(model, settings["prices"], base_url))
    path = Path(instances)
    write_json(
        plan,
        {"corpus": path.parent.name, "split": path.stem, "model": model, "instances": count, "requests": len(distinct)}
        | tokens
        | {"usd": {name: _usd(price, tokens) for name, price in prices.items()}},
    )


def _usd(price: Price, tokens: Mapping[str, int]) -> dict[str, float]:
    about = (tokens["tokens_in"] * price.tokens_in + tokens["tokens_out"] * price.tokens_out) / 1e6
    most = (tokens["most_tokens_in"] * price.tokens_in + tokens["most_tokens_out"] * price.tokens_out) / 1e6
    return {"about": round(about, 6), "most": round(most, 6), "batch": round(about * BATCH_SHARE, 6)}


def write_plan_table(plans: Sequence[str | Path], table: str | Path, said: str | Path) -> str:
    """Write the plans of all corpora as one table, and what they come to in words; return those.

    A line of the table is of a corpus and a model: corpus split instances requests tokens_in tokens_out model asked usd
    usd_most usd_batch. The first line of the words is about the model that is asked.
    """
    rows = [
        {key: plan[key] for key in ("corpus", "split", "instances", "requests", "tokens_in", "tokens_out")}
        | {"model": model, "asked": model == plan["model"]}
        | {"usd": usd["about"], "usd_most": usd["most"], "usd_batch": usd["batch"]}
        for plan in map(read_json, plans)
        for model, usd in plan["usd"].items()
    ]
    columns = ["corpus", "split", "instances", "requests", "tokens_in", "tokens_out", "model", "asked"]
    write_table(table, pd.DataFrame(rows, columns=[*columns, "usd", "usd_most", "usd_batch"]))
    text = _in_words(rows)
    write_text(said, text + "\n")
    return text


def _in_words(rows: Sequence[Mapping]) -> str:
    if not rows:
        return "no definitions are asked for."
    by_model: dict[str, list[Mapping]] = {}
    for row in rows:
        by_model.setdefault(row["model"], []).append(row)
    asked = next(model for model, own in by_model.items() if own[0]["asked"])
    own = by_model[asked]
    lines = [
        f"{_sum(own, 'requests'):,} questions for {asked}, about {_sum(own, 'tokens_in'):,} tokens in and "
        f"{_sum(own, 'tokens_out'):,} out: about {_sum(own, 'usd'):.2f} USD, {_sum(own, 'usd_batch'):.2f} by batch, "
        f"{_sum(own, 'usd_most'):.2f} at most.",
        f"{'USD':<28} {'about':>9} {'by batch':>9} {'at most':>9}",
    ]
    for model, own in by_model.items():
        sums = (_sum(own, column) for column in ("usd", "usd_batch", "usd_most"))
        lines.append(f"{model:<28} " + " ".join(f"{usd:>9.2f}" for usd in sums))
    return "\n".join(lines)


def _sum(rows: Sequence[Mapping], column: str) -> float:
    return sum(row[column] for row in rows)
