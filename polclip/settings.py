"""The settings of a run: checked before anything else, so that a wrong key costs seconds and not hours.

`config.yaml` holds every key with the paper's value; a preset lies over it. Nothing is filled in silently.
"""

import datetime
import difflib
import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from polclip.definitions.asking_settings import wrong_asking
from polclip.errors import UserError
from polclip.yaml_files import decimal

PROJECT = Path(__file__).resolve().parent.parent
SCHEMA = PROJECT / "rules" / "schemas" / "config.schema.yaml"
DEFAULTS = PROJECT / "config.yaml"
# Baselines that rank senses and know nothing of pictures.
TEXTUAL_BASELINES = frozenset({"first_sense", "lesk"})
# Those that read no gloss.
WITHOUT_GLOSSES = frozenset({"first_sense", "random"})
# Keys of earlier versions, and how to write them now.
OLD_KEYS = {
    "definitions.temperature": "definitions: {parameters: {temperature: VALUE}}, which OpenAI's models take only with "
    "reasoning_effort: none",
    "definitions.max_tokens": "definitions: {parameters: {max_completion_tokens: VALUE}}, or {max_tokens: VALUE, "
    "max_completion_tokens: null} for a server that knows that name only",
}
# config.yaml has about 300 values in up to 5 levels.
MOST_VALUES, DEEPEST = 100_000, 50


def _is_whole(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(_: object, value: object) -> bool:
    return _is_whole(_, value) or (isinstance(value, float) and math.isfinite(value))


# JSON Schema counts 1.0 as whole, which would name a folder seed-1.0, and takes .nan and .inf.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_whole, "number": _is_finite}),
)


def check(config: Mapping, datasets: Collection[str] = (), schema: str | Path = SCHEMA) -> dict:
    """Check the settings and return them with keys sorted, of plain types.

    datasets: names of the manifest's entries; where given, the settings may name no other.
    An experiment or style that is null is switched off and left out.
    Raises UserError that names every wrong key, its value, what is allowed and how to write it.
    """
    _refuse_odd_keys(config)
    config = _plain(config)
    for switchable in ("experiments", "ablations", ("pictures", "styles")):
        _drop_switched_off(config, switchable)
    validator = _Validator(complete_schema(schema))
    problems = [sentence for error in validator.iter_errors(config) for sentence in _sentences(error)]
    problems = list(dict.fromkeys(problems or _contradictions(config, datasets)))
    if problems:
        raise UserError("The settings cannot be used:\n" + "\n".join(f"- {problem}" for problem in problems))
    return config


def complete_schema(path: str | Path = SCHEMA) -> dict:
    """The schema of the settings, in which every block and every key of a block must be there.

    The overrides of an experiment refer to the same definitions, of which they may give a part.
    """
    schema = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    schema["required"] = list(schema["properties"])
    for block in schema["properties"].values():
        keys = block if "$ref" not in block else schema["$defs"][block["$ref"].rsplit("/", 1)[1]]
        if "properties" in keys:
            block["required"] = list(keys["properties"])
    return schema


def digest(block: object) -> str:
    """Twelve hexadecimal digits that stand for a block of settings, whatever the order of its keys."""
    text = json.dumps(_plain(block), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def all_experiments(config: Mapping) -> dict[str, dict]:
    """The experiments of a run and its ablations, by name."""
    return {**config["experiments"], **config["ablations"]}


def experiment_block(config: Mapping, experiment: str, block: str) -> dict:
    """The block `model` or `training` of one experiment: the common one, with the experiment's own keys over it."""
    return _plain({**config[block], **(all_experiments(config)[experiment].get(block) or {})})


def experiment_seeds(config: Mapping, experiment: str) -> list[int]:
    """The seeds of one experiment: its own, else those of the run."""
    return list(all_experiments(config)[experiment].get("seeds", config["seeds"]))


def benchmark_of(entry: str) -> str:
    """The name of the benchmark `corpus/split`: the split, or the corpus where the split has no name of its own."""
    corpus, split = entry.split("/")
    return (
        corpus if split in ("test", "dev", "train", "texts") else f"{corpus}_queries" if split == "queries" else split
    )


def _refuse_odd_keys(config: Mapping) -> None:
    """Raise UserError for keys that are not text, and for values that contain themselves or are huge."""
    faults, values = [], 0
    waiting: deque[tuple[tuple[str, ...], object]] = deque([((), config)])
    while waiting:
        keys, value = waiting.popleft()
        values += 1
        if values > MOST_VALUES or len(keys) > DEEPEST:
            raise UserError(
                f"The settings cannot be used: {'.'.join(keys[:5])} holds more than {MOST_VALUES:,} values or "
                f"{DEEPEST} levels. Does a YAML anchor contain itself? Write out what is meant."
            )
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    place = ".".join(keys) or "top level"
                    faults.append(f"{place}: the key {_shown(key)} is not text{_read_as(key)}, or choose another name.")
            waiting += [((*keys, str(key)), value[key]) for key in value]
        elif isinstance(value, list | tuple):
            waiting += [((*keys, str(at)), item) for at, item in enumerate(value)]
    if faults:
        raise UserError("The settings cannot be used:\n" + "\n".join(f"- {fault}" for fault in faults))


def _read_as(value: object) -> str:
    """How a value that was meant as text came to be none, and what to type."""
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        return f" since YAML reads {words} as {_shown(value)}: put it in quotes"
    if isinstance(value, datetime.date):
        return " since YAML reads it as a date: put it in quotes"
    return ": put it in quotes"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value, key=str)}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _drop_switched_off(config: dict, place: str | tuple[str, ...]) -> None:
    *above, last = (place,) if isinstance(place, str) else place
    for key in above:
        config = config.get(key) if isinstance(config.get(key), dict) else {}
    if isinstance(config.get(last), dict):
        config[last] = {name: value for name, value in config[last].items() if value is not None}


def _contradictions(config: dict, datasets: Collection[str]) -> Iterator[str]:
    """What is well-formed and cannot be meant, one sentence each."""
    entries = [
        (f"corpora.{task}.test", entry) for task in ("textual", "visual") for entry in config["corpora"][task]["test"]
    ]
    names = [benchmark_of(entry) for _, entry in entries]
    for (place, entry), name in zip(entries, names, strict=True):
        if names.count(name) > 1:
            yield f"{place}: {entry!r} makes a second benchmark `{name}`; each needs a name of its own."
    if datasets:
        for place, name in _named_datasets(config):
            if name not in datasets:
                yield (
                    f"{place}: {name!r} is no data set{_close(name, datasets)}; "
                    "allowed: the names in rules/datasets.yaml."
                )
    yield from _wrong_weights(config["encoder"], datasets)
    yield from _wrong_mapping(config)
    for name, folder in config["corpora"]["own"].items():
        if not Path(folder).is_dir():
            yield f"corpora.own.{name}: the folder {folder!r} is not there."
    definitions = config["definitions"]
    yield from wrong_asking(definitions)
    if definitions["source"] != "none" and "visual" in definitions["of"] and "photo" not in definitions["query_forms"]:
        yield (
            "definitions.query_forms: only photo carries the definition of a visual query; "
            "add it, or take visual away from definitions.of."
        )
    styles = config["pictures"]["styles"]
    families = sorted({style["family"] for style in styles.values()})
    for key in ("dev_families", "test_families"):
        for family in config["pictures"][key]:
            if family not in families:
                yield (
                    f"pictures.{key}: {family!r} is the family of no style; "
                    f"allowed: {', '.join(families) or 'none, since pictures.styles is empty'}."
                )
    for family in set(config["pictures"]["dev_families"]) & set(config["pictures"]["test_families"]):
        yield f"pictures.test_families: {family!r} is among the dev_families too; a family stays on one side."
    for block in ("experiments", "ablations", "pictures.styles", "corpora.own"):
        first, *rest = block.split(".")
        for name in config[first][rest[0]] if rest else config[first]:
            if re.search(r"(.+)\1{19}$", name):
                yield f"{block}.{name}: the name ends in 20 repetitions, which Snakemake refuses; choose another name."
    yield from _missing_sets(config)
    for block in ("experiments", "ablations"):
        for experiment, settings in config[block].items():
            yield from _contradictions_of(config, block, experiment, settings)


def _missing_sets(config: dict) -> Iterator[str]:
    """Training needs sets to learn from and sets to choose the best weights by."""
    # Ablations are run with the experiments, or not at all.
    trained = {name: own for name, own in all_experiments(config).items() if not {"baseline", "checkpoint"} & set(own)}
    if not set(trained) & set(config["experiments"]):
        return
    needed: dict[tuple[str, str], str] = {}
    for name, own in trained.items():
        tasks = {**config["training"], **own.get("training", {})}["tasks"]
        sides = [(task, "train") for task in tasks] + [("visual" if "visual" in tasks else "textual", "dev")]
        for side in sides:
            needed.setdefault(side, f"the training of {name}")
        if config["encoder"]["kind"] == "pair":  # which no text-only training changes
            for side in ("train", "dev"):
                needed.setdefault(("visual", side), "the alignment of the pair's encoders")
    for (task, side), who in needed.items():
        if not config["corpora"][task][side]:
            yield f"corpora.{task}.{side}: [] is empty, and {who} needs it. {_how_to_write(['corpora', task, side])}"


def _contradictions_of(config: dict, block: str, experiment: str, settings: dict) -> Iterator[str]:
    place = f"{block}.{experiment}"
    trains = sorted({"model", "training"} & set(settings))
    if "baseline" in settings and (trains or "checkpoint" in settings):
        yield f"{place}: a baseline trains nothing; take its keys model, training and checkpoint away."
    elif "checkpoint" in settings and trains:
        yield f"{place}: a checkpoint is only evaluated; take its keys {' and '.join(trains)} away, or the checkpoint."
    elif "baseline" not in settings:
        model = {**config["model"], **settings.get("model", {})}
        if model["fusion"] and not (model["sig"] and model["isg"]):
            yield (
                f"{place}: fusion attends to what SIG and ISG generate; with model.fusion: true, "
                "model.sig and model.isg have to be true as well."
            )
        yield from _wrong_start(config, place, experiment, settings)
        precision = {**config["training"], **settings.get("training", {})}["precision"]
        if precision == "fp16" and config["machine"]["device"] == "cpu" and "checkpoint" not in settings:
            yield f'{place}.training.precision: fp16 needs a GPU, and machine.device is cpu. Write bf16 or "no".'
    if block == "ablations" and experiment in config["experiments"]:
        yield f"{place}: the name is among the experiments too; each needs a name of its own."


def _wrong_start(config: dict, place: str, experiment: str, settings: dict) -> Iterator[str]:
    """A training may start from an experiment that has a model without waiting for this one."""
    known = all_experiments(config)
    passed = [experiment]
    while start := {**config["training"], **settings.get("training", {})}["start_from"]:
        models = [name for name, own in known.items() if "baseline" not in own and name not in passed]
        if start not in models:
            yield (
                f"{place}.training.start_from: {start!r} is no experiment with a model that can be there before"
                f"{_close(start, models)}; allowed: {', '.join(models) or 'none'} | null."
            )
            return
        passed.append(start)
        settings = known[start]
        if "checkpoint" in settings:
            return


def _wrong_weights(encoder: dict, datasets: Collection[str]) -> Iterator[str]:
    """A CLIP's weights may be a data set, a file, or a tag of open_clip; a whole folder brings its own."""
    weights, architecture = encoder["clip_weights"], encoder["clip_architecture"]
    if encoder["kind"] == "pair":
        return
    # What is known without open_clip, whose import takes seconds; the other weights are checked when they are loaded.
    tag = (
        getattr(datasets[weights], "version", "") if isinstance(datasets, Mapping) and weights in datasets else weights
    )
    if tag == "openai" and ":" not in architecture and not architecture.endswith("-quickgelu"):
        yield (
            f"encoder.clip_weights: {weights!r} was trained with QuickGELU, and {architecture} computes without. "
            f"Write clip_architecture: {architecture}-quickgelu."
        )
    if not datasets or weights in datasets:
        return
    looks_like_file = "/" in weights or Path(weights).suffix in (".safetensors", ".pt", ".pth", ".bin")
    if looks_like_file and not Path(weights).is_file():
        yield f"encoder.clip_weights: the file {weights!r} is not there."
    elif not weights and not encoder["clip_architecture"].startswith("local-dir:"):
        yield "encoder.clip_weights: '' is for a clip_architecture of local-dir: and a folder that brings its weights."


def _wrong_mapping(config: dict) -> Iterator[str]:
    """The senses of XL-WSD and BabelPic are BabelNet's: what reads glosses needs to know WordNet's for them."""
    corpora = config["corpora"]
    mapping = corpora["xl_wsd"]["sense_mapping"]
    if mapping and not Path(mapping).is_file():
        yield f"corpora.xl_wsd.sense_mapping: the file {mapping!r} is not there."
    readers = [name for name, own in config["experiments"].items() if own.get("baseline") not in WITHOUT_GLOSSES]
    foreign = [
        entry
        for task, corpus in (("textual", "xl_wsd/"), ("visual", "babelpic/"))
        for side in ("train", "dev", "test")
        for entry in corpora[task][side]
        if entry.startswith(corpus)
    ]
    if foreign and readers and not mapping:
        yield (
            f"corpora: the senses of {', '.join(dict.fromkeys(foreign))} are BabelNet's, and WordNet's glosses are "
            f"read by {', '.join(readers)}: name a table of both in corpora.xl_wsd.sense_mapping, or switch these "
            "experiments off (null)."
        )


def _named_datasets(config: dict) -> Iterator[tuple[str, str]]:
    yield "inventory.dataset", config["inventory"]["dataset"]
    for name, style in config["pictures"]["styles"].items():
        yield f"pictures.styles.{name}.dataset", style["dataset"]
    if config["encoder"]["kind"] == "pair":
        for key in ("text_dataset", "image_dataset", "classes_dataset"):
            yield f"encoder.{key}", config["encoder"][key]
    for name in config["accept_licences"]:
        yield "accept_licences", name


def _sentences(error: ValidationError) -> Iterator[str]:
    """One sentence a fault: the key, its value, what is allowed and how to write it."""
    keys = [str(key) for key in error.absolute_path]
    place, value, schema = ".".join(keys), error.instance, error.schema
    if error.validator == "additionalProperties" and "properties" in schema:
        known = list(schema["properties"])
        for name in value:
            full_name = ".".join([*keys, str(name)])
            if full_name in OLD_KEYS:
                yield f"{full_name}: replaced. Write {OLD_KEYS[full_name].replace('VALUE', _shown(value[name]))}."
            elif name not in known:
                yield (
                    f"{full_name}: unknown key (its value is {_shown(value[name])})"
                    f"{_close(str(name), known)}; allowed{f' in {place}' if place else ''}: {', '.join(known)}."
                )
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in value:
                yield f"{'.'.join([*keys, name])}: missing. {_how_to_write([*keys, name])}"
    elif error.validator in ("oneOf", "anyOf"):
        yield f"{place}: {_shown(value)} is not allowed; allowed: {allowed(schema)}. {_how_to_write(keys)}"
    elif error.validator == "propertyNames" or "propertyNames" in map(str, error.schema_path):
        yield (
            f"{place}: {_shown(value)} cannot be a name there; "
            "allowed: up to 64 letters, digits, _ and -, a letter first."
        )
    else:
        yield (
            f"{place}: {_shown(value)} is not allowed{_hint(value, schema)}; allowed: {allowed(schema)}. "
            f"{_how_to_write(keys)}"
        )


def _shown(value: object) -> str:
    """A value for a message, as YAML writes it; of a long one the beginning."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return decimal(value) if "e" in repr(value) else repr(value)
    text = str(value) if isinstance(value, datetime.date) else repr(value)
    return text if len(text) <= 120 else f"{text[:100]} ... ({len(text):,} characters)"


_TYPES = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
          "array": "a list", "object": "a block of keys", "null": "null"}  # fmt: skip


def allowed(schema: Mapping) -> str:
    """What a value of this schema may be, in words."""
    if "enum" in schema:
        return " | ".join(_enumerated(value) for value in schema["enum"])
    types = schema.get("type", [])
    parts = [" or ".join(_TYPES[name] for name in ([types] if isinstance(types, str) else types))]
    for key, words in (
        ("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"), ("exclusiveMaximum", "below"),
        ("minItems", "items: at least"), ("minLength", "characters: at least"), ("maxLength", "characters: at most"),
        ("pattern", "of the form"),
    ):  # fmt: skip
        if key in schema:
            parts.append(f"{words} {schema[key]}")
    if schema.get("uniqueItems"):
        parts.append("each item once")
    return ", ".join(part for part in parts if part)


def _enumerated(value: object) -> str:
    """One of the words that are allowed; in quotes where YAML would not read it as text."""
    if value is None:
        return "null"
    return str(value) if yaml.safe_load(str(value)) == value else f'"{value}"'


def _hint(value: object, schema: Mapping) -> str:
    """What YAML made of a value that was meant otherwise, and what to type: the traps that a config falls into."""
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if isinstance(value, str | float) and {"number", "integer"} & {*types} and (number := _number(value)) is not None:
        written = int(number) if number == number.to_integral_value() else float(number)
        if _Validator(schema).is_valid(written):
            why = " since YAML reads it as text" if isinstance(value, str) else ""
            return f"{why} (write {decimal(number)})"
    meant = "no" if value is False else "yes" if value is True else str(value)
    is_text = "string" in types or any(isinstance(word, str) for word in schema.get("enum", []))
    if is_text and not isinstance(value, str | list | dict | None) and _Validator(schema).is_valid(meant):
        return _read_as(value)
    return ""


def _number(value: str | float) -> Decimal | None:
    """A number written as text; None for other text and for what is not finite."""
    try:
        number = Decimal(str(value).strip().replace("_", ""))
    except ArithmeticError:
        return None
    if not number.is_finite() or abs(number.adjusted()) > 30:  # 1e400 is no number of a config
        return None
    return number


def _close(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _how_to_write(keys: list[str]) -> str:
    """The key as config.yaml writes it."""
    value = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    if keys[-1].isdigit():  # an item of a list
        keys = keys[:-1]
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return "Look into config.yaml and presets/ for how it is written."
        value = value[key]
    for key in reversed(keys):
        value = {key: value}
    text = yaml.safe_dump(value, default_flow_style=False, allow_unicode=True, sort_keys=False).rstrip()
    return "In config.yaml it is:\n" + "\n".join(f"    {line}" for line in text.splitlines())
