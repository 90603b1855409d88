"""Checks of a folder's config.json against its weights, before anything of the sizes that it names is built.

A folder from elsewhere may say anything. What the functions here find wrong is a ValueError with the key.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from safetensors import safe_open
from torch import nn

LARGEST_CONFIG = 50_000_000  # bytes; the names of 100,000 senses take 2 MB
LEAST_BOUND = 10_000  # whole numbers up to this one are harmless whatever they mean
# A key with one of these words counts modules, each of which has weights.
COUNTS_OF_MODULES = ("layer", "block", "group", "member", "expert", "depth")
ATTENTION = (None, "eager", "sdpa")  # others name code on the model hub, or packages

Settings = TypeVar("Settings")
Shapes = dict[str, tuple[int, ...]]


def shapes_of(files: Iterable[Path]) -> Shapes:
    """Shape of each tensor in some .safetensors files; only their headers are read."""
    shapes: Shapes = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    return shapes


def read_config(path: Path, shapes: Shapes | None = None) -> dict:
    """A JSON object with finite numbers; where `shapes` of its weights are given, none is larger than these allow."""
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path.name} has more than {LARGEST_CONFIG // 10**6} MB")
    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    if shapes is not None:
        largest = max([LEAST_BOUND, *(size for shape in shapes.values() for size in shape)])
        _check_sizes("", config, largest, len(shapes))
    return config


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _check_sizes(key: str, value: object, largest: int, tensors: int) -> None:
    if isinstance(value, dict):
        for inner, item in value.items():
            _check_sizes(inner, item, largest, tensors)
    elif isinstance(value, list):
        for item in value:
            _check_sizes(key, item, largest, tensors)
    elif isinstance(value, int) and not isinstance(value, bool):
        most = tensors if any(word in key.lower() for word in COUNTS_OF_MODULES) else largest
        if abs(value) > most:
            raise ValueError(f"{key}: {_short(value)} is more than the weights hold; at most {most:,}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}: {value} is not finite")
    elif "attn_implementation" in key and value not in ATTENTION:
        raise ValueError(f"{key}: {_short(value)}; allowed: eager, sdpa")


def settings_from(kind: type[Settings], told: object) -> Settings:
    """A dataclass of settings from a JSON object; its annotations say what is allowed.

    Numbers are at least 0, and no setting may be missing. Raises ValueError.
    """
    if not isinstance(told, Mapping):
        raise ValueError(f"{_short(told)} is not an object with the settings of {kind.__name__}")
    hints = get_type_hints(kind)
    for name, value in told.items():
        if name not in hints:
            raise ValueError(f"{_short(name)} is not a setting")
        if not _fits(value, hints[name]):
            raise ValueError(f"{name}: {_short(value)}; allowed: {_in_words(hints[name])}")
    if missing := hints.keys() - told.keys():
        raise ValueError(f"{', '.join(sorted(missing))} is missing")
    return kind(**told)


def _fits(value: object, hint: object) -> bool:
    if get_origin(hint) is UnionType:
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value) and value >= 0
    if hint is int:
        return type(value) is int and value >= 0
    return type(value) is (get_origin(hint) or hint)


def _in_words(hint: object) -> str:
    if get_origin(hint) is UnionType:
        return " or ".join(map(_in_words, get_args(hint)))
    if get_origin(hint) is Literal:
        return ", ".join(get_args(hint))
    words = {int: "a whole number from 0", float: "a number from 0", bool: "true or false", NoneType: "null"}
    return words.get(hint, f"a {getattr(hint, '__name__', hint)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:50]}..."


def check_memory(model: nn.Module, shapes: Shapes) -> None:
    """ValueError where a model on the meta device would take much more memory than its weights do."""
    held = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    stored = sum(math.prod(shape) for shape in shapes.values())
    if held > 3 * stored + 10**7:  # momentum copies and masks are not stored
        raise ValueError(f"it describes {held:,} numbers, and the weights are {stored:,}")


def in_a_sentence(error: Exception) -> str:
    """What a library says of odd values, on one short line."""
    said = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) or not str(error) else str(error)
    line = " ".join(said.split())
    return (line if len(line) <= 300 else f"{line[:300]}...").rstrip(".")
