"""What would be asked about a corpus, and at what price: before anything is spent, without key or network."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import pandas as pd

from polclip.definitions.cache import key_of
from polclip.definitions.cost import (
    BATCH_SHARE,
    GLOSS_TOKENS,
    bounded_price,
    limit_of,
    most_tokens_in,
    price_of,
    tokens_in,
)
from polclip.definitions.known_models import FINETUNING_ENDS, Price, is_openai, known_model, known_models, today
from polclip.definitions.prompts import question_of, request_of
from polclip.files import read_json, write_json, write_json_lines, write_table, write_text
from polclip.records import TextualInstance, VisualInstance, read_records

# Tokens: a limit below it may be used up by reasoning alone.
ROOM_TO_REASON = 4000
# Models of OpenAI's that reason unless they are told not to.
_REASONING = re.compile(r"gpt-[5-9]|o\d")


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
    """Write a JSON line for each instance (instance_id, word, request), and what they come to.

    Args:
        instances: Parquet file of records of that kind.
        settings: the config's block `definitions`.

    The plan: corpus, split, model, instances, requests (each distinct question is asked once); tokens_in and
    tokens_out, about, and most_tokens_in and most_tokens_out, an upper bound that includes reasoning (null: nothing
    limits the answers); usd, a dict by each model of `definitions.prices` and each that answers at OpenAI: about, most,
    and batch (about, by the Batch API); model_facts, see `_model_facts`.
    Raises UserError for a model whose cost cannot be bounded.
    """
    model, base_url = asked_model(settings), settings["base_url"]
    asked_price, limit = bounded_price(model, settings), limit_of(settings["parameters"])
    distinct: dict[str, tuple[int, int]] = {}
    count = 0

    def lines() -> Iterator[dict]:
        nonlocal count
        for instance in read_records(instances, kind):
            count += 1
            request = request_of(instance, {**settings, "model": model})
            distinct[key_of(request, base_url)] = tokens_in(request), most_tokens_in(request)
            yield {"instance_id": instance.instance_id, "word": question_of(instance)[0], "request": request}

    write_json_lines(requests, lines())
    about, most = (sum(tokens) for tokens in zip(*distinct.values(), strict=True)) if distinct else (0, 0)
    tokens = {
        "tokens_in": about,
        "tokens_out": len(distinct) * min(GLOSS_TOKENS, limit or GLOSS_TOKENS),
        "most_tokens_in": most,
        "most_tokens_out": limit and len(distinct) * limit,
    }
    others = [name for name, known in known_models().items() if known.price and not known.shutdown]
    prices = {name: price_of(name, settings["prices"]) for name in [*settings["prices"], *others]}
    prices[model] = asked_price
    path = Path(instances)
    write_json(
        plan,
        {"corpus": path.parent.name, "split": path.stem, "model": model, "instances": count, "requests": len(distinct)}
        | tokens
        | {"usd": {name: _usd(price, tokens) for name, price in prices.items()}}
        | {"model_facts": _model_facts(model, asked_price, settings)},
    )


def _model_facts(model: str, price: Price, settings: Mapping) -> dict:
    """What the plan tells of the model that is asked.

    price: USD for a million tokens in and out, or null if it is not known (a server of one's own). shutdown: the day on
    which OpenAI shuts it down, or null. looked_up: the day on which that was looked up; null of a model that is not in
    the table. finetuned_at_openai: whether it is to be fine-tuned there first. limit: the most tokens of an answer.
    may_use_up_limit: whether the model may reason, with little room for it.
    """
    base_url, limit = settings["base_url"], limit_of(settings["parameters"])
    known = known_model(model, base_url)
    effort = settings["parameters"].get("reasoning_effort")
    reasons = is_openai(base_url) and _REASONING.match(model) if effort is None else effort != "none"
    return {
        "price": [price.tokens_in, price.tokens_out] if price.tokens_in or price.tokens_out else None,
        "shutdown": known and known.shutdown and known.shutdown.isoformat(),
        "looked_up": known and known.looked_up.isoformat(),
        "openai": is_openai(base_url),
        "finetuned_at_openai": is_openai(base_url) and settings["finetuning"]["corpus"] != "none",
        "limit": limit,
        "may_use_up_limit": bool(reasons and limit and limit < ROOM_TO_REASON),
    }


def _usd(price: Price, tokens: Mapping[str, int]) -> dict[str, float]:
    about = (tokens["tokens_in"] * price.tokens_in + tokens["tokens_out"] * price.tokens_out) / 1e6
    most = (tokens["most_tokens_in"] * price.tokens_in + (tokens["most_tokens_out"] or 0) * price.tokens_out) / 1e6
    return {"about": round(about, 6), "most": round(most, 6), "batch": round(about * BATCH_SHARE, 6)}


def write_plan_table(plans: Sequence[str | Path], table: str | Path, said: str | Path) -> str:
    """Write the plans of all corpora as one table, and what they come to in words; return those.

    A line of the table is of a corpus and a model: corpus split instances requests tokens_in tokens_out model asked usd
    usd_most usd_batch. The first line of the words is about the model that is asked.
    """
    read = [read_json(plan) for plan in plans]
    rows = [
        {key: plan[key] for key in ("corpus", "split", "instances", "requests", "tokens_in", "tokens_out")}
        | {"model": model, "asked": model == plan["model"]}
        | {"usd": usd["about"], "usd_most": usd["most"], "usd_batch": usd["batch"]}
        for plan in read
        for model, usd in plan["usd"].items()
    ]
    columns = ["corpus", "split", "instances", "requests", "tokens_in", "tokens_out", "model", "asked"]
    write_table(table, pd.DataFrame(rows, columns=[*columns, "usd", "usd_most", "usd_batch"]))
    text = _in_words(rows, read[0]["model_facts"]) if rows else "no definitions are asked for."
    write_text(said, text + "\n")
    return text


def _in_words(rows: Sequence[Mapping], facts: Mapping) -> str:
    by_model: dict[str, list[Mapping]] = {}
    for row in rows:
        by_model.setdefault(row["model"], []).append(row)
    asked = next(model for model, own in by_model.items() if own[0]["asked"])
    own = by_model[asked]
    lines = [
        f"{_sum(own, 'requests'):,} questions for {asked}, about {_sum(own, 'tokens_in'):,} tokens in and "
        f"{_sum(own, 'tokens_out'):,} out: about {_sum(own, 'usd'):.2f} USD, {_sum(own, 'usd_batch'):.2f} by batch, "
        f"{_sum(own, 'usd_most'):.2f} at most, reasoning included. {' '.join(_sentences(asked, facts))}",
        f"{'USD':<28} {'about':>9} {'by batch':>9} {'at most':>9}",
    ]
    for model, own in by_model.items():
        sums = (_sum(own, column) for column in ("usd", "usd_batch", "usd_most"))
        lines.append(f"{model:<28} " + " ".join(f"{usd:>9.2f}" for usd in sums))
    return "\n".join(lines)


def _sentences(model: str, facts: Mapping) -> Iterator[str]:
    """Price and shutdown date of the model that is asked, and what stands in the way of asking it."""
    if facts["price"]:
        tokens_in, tokens_out = facts["price"]
        yield f"Price: {tokens_in:g} USD for a million tokens in, {tokens_out:g} out."
    else:
        yield "No price is known: its tokens count as 0 USD, so definitions.max_usd does not hold them."
    if facts["shutdown"] and date.fromisoformat(facts["shutdown"]) <= today():
        yield f"It cannot be asked: OpenAI shut it down on {facts['shutdown']}. Set definitions.model to another."
    elif facts["shutdown"]:
        yield f"OpenAI shuts it down on {facts['shutdown']} (looked up on {facts['looked_up']})."
    elif facts["looked_up"]:
        yield f"OpenAI has named no day of its shutdown (looked up on {facts['looked_up']})."
    elif facts["openai"]:
        yield "It is not known whether OpenAI shuts it down: `snakemake check_setup` asks."
    if facts["finetuned_at_openai"]:
        yield (
            "OpenAI has closed fine-tuning: organisations that did not use it get HTTP 403, and from "
            f"{FINETUNING_ENDS} all do."
        )
    if facts["may_use_up_limit"]:
        yield (
            f"With reasoning, the limit of {facts['limit']} tokens may be used up before an answer begins, which is "
            "paid all the same: set definitions.parameters.reasoning_effort to none, or allow some thousand tokens."
        )


def _sum(rows: Sequence[Mapping], column: str) -> float:
    return sum(row[column] for row in rows)
