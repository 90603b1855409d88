"""What the target of each visual query means, in a sentence: the part of D-GPT in the paper."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from polclip.definitions.cost import Cost
from polclip.errors import UserError
from polclip.files import write_json, write_json_lines
from polclip.inventory import Inventory
from polclip.records import VisualInstance, read_records

log = logging.getLogger(__name__)
SOURCES = ("none", "openai", "released", "wordnet")
Defined = tuple[str | None, str | None]  # definition or None, flag or None


def write_definitions(
    instances: str | Path,
    definitions: str | Path,
    cost: str | Path,
    settings: Mapping,
    inventory: Inventory,
    released: str | Path | None,
    cache: str | Path,
) -> None:
    """Write a JSON line for each visual instance, in order, and what the answers cost.

    instances: Parquet of VisualInstance. settings: the config's block `definitions`. released: the D-GPT corpus,
    for that source. cache: where paid answers are kept. A line: instance_id, definition (null where there is
    none), source, model (null but for openai), flag (null, or why there is none). The cost: usd, requests,
    tokens_in, tokens_out of all answers the definitions rest on, whether paid now or in an earlier run.
    Raises UserError (see `client.connect`, `cost.Budget`); nothing is written then, but paid answers are kept.
    """
    source = settings["source"]
    if source not in SOURCES:
        raise UserError(f"definitions.source: {source!r} is unknown. Allowed: {', '.join(SOURCES)}.")
    spent = Cost()
    if source == "openai":
        define, spent = _asked(instances, settings, cache)
    elif source == "released":
        define = _released(instances, released)
    elif source == "wordnet":
        define = _from_wordnet(inventory)
    else:
        define = _nothing
    model = settings["model"] if source == "openai" else None
    flags: Counter[str] = Counter()

    def lines() -> Iterator[dict]:
        for instance in read_records(instances, VisualInstance):
            definition, flag = define(instance)
            flags[flag or ("defined" if definition else "none")] += 1
            yield {
                "instance_id": instance.instance_id,
                "definition": definition,
                "source": source,
                "model": model,
                "flag": flag,
            }

    write_json_lines(definitions, lines())
    write_json(cost, asdict(spent) | {"usd": round(spent.usd, 6)})
    log.info("%s: %s", instances, ", ".join(f"{count} {flag}" for flag, count in flags.most_common()))


def _nothing(instance: VisualInstance) -> Defined:
    return None, None


def _from_wordnet(inventory: Inventory) -> Callable[[VisualInstance], Defined]:
    from polclip.definitions.glosses import fitting_gloss

    return lambda instance: fitting_gloss(instance, inventory)


def _released(instances: str | Path, released: str | Path | None) -> Callable[[VisualInstance], Defined]:
    from polclip.definitions.released import key_of, read_released

    if released is None:
        raise UserError("definitions.source: released needs the D-GPT corpus, data set dgpt_corpus.")
    found = read_released(released, read_records(instances, VisualInstance))

    def define(instance: VisualInstance) -> Defined:
        definition = found.get(key_of(instance))
        return definition, None if definition else "not_released"

    return define


def _asked(
    instances: str | Path, settings: Mapping, cache: str | Path
) -> tuple[Callable[[VisualInstance], Defined], Cost]:
    # Imported here, so that no other source needs the client library.
    from polclip.definitions.answers import answer_all
    from polclip.definitions.cache import key_of, read_answer
    from polclip.definitions.cost import Budget, price_of
    from polclip.definitions.prompts import definition_in, request_of

    base_url = settings["base_url"]
    budget = Budget(price_of(settings["model"], base_url), settings["max_usd"])
    requests = (request_of(instance, settings) for instance in read_records(instances, VisualInstance))
    answer_all(requests, cache, base_url, budget)

    def define(instance: VisualInstance) -> Defined:
        return definition_in(read_answer(cache, key_of(request_of(instance, settings), base_url)))

    return define, budget.spent
