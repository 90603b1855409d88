"""What the target of each instance means, in a sentence: the part of D-GPT in the paper."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from polclip.errors import UserError
from polclip.files import read_json, read_json_lines, write_json, write_json_lines
from polclip.inventory import Inventory
from polclip.records import TextualInstance, VisualInstance, read_records

log = logging.getLogger(__name__)
SOURCES = ("none", "openai", "released", "wordnet")
Instance = TextualInstance | VisualInstance
# What is kept of an answer beside what it says.
_PROVENANCE = ("text", "served_by", "date", "tokens_in", "tokens_out", "tokens_reasoning", "usd", "seconds")


def write_definitions(
    instances: str | Path,
    kind: type[Instance],
    definitions: str | Path,
    cost: str | Path,
    settings: Mapping,
    *,
    inventory: Inventory | None = None,
    released: str | Path | None = None,
    requests: str | Path | None = None,
    model: str | Path | None = None,
    cache: str | Path = "",
    run: str = "",
) -> None:
    """Write a JSON line for each instance, in order, and what the answers cost.

    Args:
        instances: Parquet file of records of that kind.
        settings: the config's block `definitions`.
        inventory: for the source wordnet. released: the D-GPT corpus, for that source.
        requests: of `plan_definitions`, for the source openai. model: what `finetune_dgpt` wrote of the model that is
            to be asked in place of `definitions.model`, or None. cache: the folder where paid answers are kept.
            run: whose `max_usd` it is.

    A line: instance_id, definition (null where there is none), source, model (null but for openai), flag (null, or why
    there is none). Of openai also prompt, text (the answer as it came, or its JSON if it is not a text), served_by,
    date, tokens_in, tokens_out (tokens_reasoning of them for reasoning), usd and seconds of the answer. The cost:
    corpus, split, source, model, instances, defined, flags (how many of each), and requests, tokens_in, tokens_out,
    tokens_reasoning, usd, seconds of all answers the definitions rest on, whether paid now or before.
    Raises UserError (see `client.connect`, `cost.Budget`); nothing is written then, but paid answers are kept.
    """
    source = settings["source"]
    if source not in SOURCES:
        raise UserError(f"definitions.source: {source!r} is unknown. Allowed: {', '.join(SOURCES)}.")
    asked = settings["model"] if source == "openai" else None
    if asked and model:
        asked = read_json(model)["model"]
    flags: Counter[str] = Counter()
    answers: dict[str, dict] = {}
    counts: Counter[str] = Counter()

    def lines() -> Iterator[dict]:
        if source == "openai":
            each = _asked(requests, {**settings, "model": asked}, cache, run, answers)
        else:
            define = {"none": _nothing, "released": _released, "wordnet": _from_wordnet}[source]
            each = map(define(instances, kind, inventory, released), read_records(instances, kind))
        for line in each:
            counts["instances"] += 1
            counts["defined"] += line["definition"] is not None
            flags.update([line["flag"]] if line["flag"] else [])
            first = {"instance_id": line.pop("instance_id"), "definition": line.pop("definition")}
            yield first | {"source": source, "model": asked} | line

    write_json_lines(definitions, lines())
    path = Path(instances)
    sums = {name: sum(answer.get(name) or 0 for answer in answers.values()) for name in _PROVENANCE[3:]}
    write_json(
        cost,
        {"corpus": path.parent.name, "split": path.stem, "source": source, "model": asked}
        | {"instances": counts["instances"], "defined": counts["defined"], "flags": dict(sorted(flags.items()))}
        | {"requests": len(answers), "tokens_in": sums["tokens_in"], "tokens_out": sums["tokens_out"]}
        | {"tokens_reasoning": sums["tokens_reasoning"]}
        | {"usd": round(sums["usd"], 6), "seconds": round(sums["seconds"], 3)},
    )
    used_up = sum(not answer["text"] and bool(answer.get("tokens_reasoning")) for answer in answers.values())
    if used_up:
        log.warning(
            "%d answers are empty, since reasoning used up the limit of definitions.parameters: raise it, or set "
            "reasoning_effort to none.",
            used_up,
        )
    log.info("%s: %s of %s defined, %s", path, counts["defined"], counts["instances"], dict(flags) or "none flagged")


def _line(instance: Instance, definition: str | None, flag: str | None) -> dict:
    return {"instance_id": instance.instance_id, "definition": definition, "flag": flag}


def _nothing(*_) -> Callable[[Instance], dict]:
    return lambda instance: _line(instance, None, None)


def _from_wordnet(_instances, _kind, inventory: Inventory, _released) -> Callable[[Instance], dict]:
    from polclip.definitions.glosses import gloss_of

    return lambda instance: _line(instance, *gloss_of(instance, inventory))


def _released(instances, kind, _inventory, released: str | Path | None) -> Callable[[Instance], dict]:
    from polclip.definitions.released import key_of, read_released

    if released is None:
        raise UserError("definitions.source: released needs the D-GPT corpus, data set dgpt_corpus.")
    found = read_released(released, read_records(instances, kind))

    def define(instance: Instance) -> dict:
        definition = found.get(key_of(instance))
        return _line(instance, definition, None if definition else "not_released")

    return define


def _asked(
    requests: str | Path, settings: Mapping, cache: str | Path, run: str, answers: dict[str, dict]
) -> Iterator[dict]:
    # Imported here, so that no other source needs the client library.
    from polclip.definitions.answers import answer_all
    from polclip.definitions.cache import AnswerCache, key_of
    from polclip.definitions.completions import text_in
    from polclip.definitions.prompts import definition_in

    def keyed() -> Iterator[tuple[dict, str, dict]]:
        for line in read_json_lines(requests):
            request = line["request"] | {"model": settings["model"]}
            yield line, key_of(request, settings["base_url"]), request

    with AnswerCache(cache) as kept:
        answer_all({key: request for _, key, request in keyed()}, kept, settings, run)
        for line, key, request in keyed():
            answer = answers.setdefault(key, kept.answer(key))
            definition, flag = definition_in(answer, settings, line["word"])
            yield (
                {"instance_id": line["instance_id"], "definition": definition, "flag": flag}
                | {"prompt": request["messages"][-1]["content"]}
                | {name: answer.get(name) for name in _PROVENANCE}
                | {"text": text_in(answer["text"]) or answer.get("unread")}
            )
