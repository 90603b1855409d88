"""YAML as people write it: what PyYAML would read in silence as something else is refused, with file and line."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import yaml

from polclip.errors import UserError

# Of values, those that aliases stand for counted each time. The largest file of this repository has about 3,000.
MOST_VALUES = 100_000
# PyYAML reads 010 as 8 and 1:30 as 90 (YAML 1.1); whoever writes them means something else.
BASE_8 = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*")
# PyYAML reads 2e-5 as text: it wants a point and a sign, as in 2.0e-5.
EXPONENT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d{1,3}")


def read_yaml(path: str | Path) -> object:
    """The value of a YAML or JSON file.

    Raises UserError with file and line where the file is not UTF-8 or not YAML, where a key is not text or is given
    twice, where an anchor contains itself or its aliases expand without measure, where a number has base 8 or 60, and
    where YAML takes a number for text.
    """
    path = Path(path)
    try:
        text = _text(path)
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            return None
        _refuse_expansion(root, path)
        if faults := list(_faults(root, path, set())):
            raise UserError("\n".join(faults))
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        tabs = " Indent with spaces, not with tabs." if "'\\t'" in str(error.problem) else ""
        raise UserError(f"{path}:{line}: not valid YAML ({error.problem}).{tabs}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({error}).") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deep to be read. Write it with fewer levels.") from error
    except ValueError as error:  # a date such as 2024-02-30
        raise UserError(f"{path}: not valid YAML ({error}). Put dates that are meant as text in quotes.") from error


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 (byte {content[error.start]:#04x}). Save the file in the encoding UTF-8."
        ) from error
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")  # JSON may be indented with tabs; a string in it holds none


def _refuse_expansion(root: yaml.Node, path: Path) -> None:
    """Raise UserError where an anchor contains itself, or where aliases make a small file a huge value."""
    values: dict[int, int] = {}  # in each node that was counted, with those of its aliases
    above: set[int] = set()

    def count(node: yaml.Node) -> int:
        if id(node) in above:
            raise UserError(f"{_place(path, node)}: an anchor contains itself. Write the value out instead.")
        if id(node) not in values:
            above.add(id(node))
            values[id(node)] = 1 + sum(count(child) for child in _children(node))
            above.remove(id(node))
        if values[id(node)] > MOST_VALUES:
            raise UserError(
                f"{_place(path, node)}: its aliases expand to over {MOST_VALUES:,} values. Write out what is meant."
            )
        return values[id(node)]

    count(root)


def _faults(node: yaml.Node, path: Path, seen: set[int]) -> Iterator[str]:
    """One sentence for each key and number that PyYAML would read otherwise than it looks."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                yield (
                    f"{_place(path, key)}: the key {_written(key)} is not text: YAML reads it as {_kind(key)}. "
                    f'Choose another name, or put it in quotes: "{_written(key)}".'
                )
            elif key.value in lines:
                yield (
                    f"{_place(path, key)}: the key {key.value!r} is given twice (first in line {lines[key.value]}); "
                    "only one of them would count. Take one away."
                )
            else:
                lines[key.value] = key.start_mark.line + 1
    elif node.tag == "tag:yaml.org,2002:int" and BASE_8.fullmatch(node.value):
        yield (
            f"{_place(path, node)}: YAML reads {node.value} as {int(node.value.replace('_', ''), 8)} (octal). "
            "Write the number without the leading zero, or put it in quotes if it is text."
        )
    elif node.tag.endswith((":int", ":float")) and ":" in node.value:
        yield (
            f"{_place(path, node)}: YAML reads {node.value} as a number in base 60. "
            "Write the number in base 10, or put it in quotes if it is text."
        )
    elif node.tag == "tag:yaml.org,2002:str" and node.style is None and EXPONENT.fullmatch(node.value):
        yield (
            f"{_place(path, node)}: YAML reads {node.value} as text. Write {decimal(node.value)}, or put it in quotes "
            "if it is text."
        )
    for child in _children(node):
        yield from _faults(child, path, seen)


def decimal(number: float | str) -> str:
    """A number as YAML reads it back: 0.00002, since 2e-05 is text to YAML."""
    text = format(Decimal(str(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _written(key: yaml.Node) -> str:
    return key.value if isinstance(key, yaml.ScalarNode) else "..."


_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "null", "timestamp": "a date"}


def _kind(key: yaml.Node) -> str:
    return _KINDS.get(key.tag.rpartition(":")[2], "a list or block")
