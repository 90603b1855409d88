"""Write config.md and api.md beside this file, from config.yaml with its schema and from docstrings.

python docs/reference/write.py
"""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from polclip import answers, records, settings  # noqa: E402
from polclip.disambiguator import Disambiguator  # noqa: E402
from polclip.model.polclip import PolCLIP  # noqa: E402

_KEY = re.compile(r"( *)([\w-]+):(.*)")
_METHODS = (*("from_pretrained", "senses", "rank_images", "imagine", "describe", "read_pictures", "build_index"),)
_ANSWERS = (
    *("TextSenses", "WordSenses", "RankedSense", "RankedImages", "RankedImage", "SkippedImage", "Description"),
    *("DescribedGloss", "Reason"),
)
_RECORDS = ("Sense", "Synset", "TextualInstance", "VisualInstance", "Picture", "Phrase", "Prediction")


def config_page() -> str:
    text = settings.DEFAULTS.read_text(encoding="utf-8")
    values, schema = yaml.safe_load(text), settings.complete_schema()
    lines = [
        "# Settings",
        "",
        "Made from `config.yaml` and its schema by `python docs/reference/write.py`. A preset gives some of these keys "
        "and lies over `config.yaml`; of several, as in `--configfile presets/demo.yaml mine.yaml`, the last one wins. "
        "Unknown keys are refused.",
    ]
    above: list[str] = []  # the key whose comment those behind it share
    for keys, comment in _commented(text):
        above = keys if comment else above
        value, allowed = _at(values, keys), _schema_at(schema, keys)
        if len(keys) == 1:
            lines += ["", f"## {keys[0]}", ""] + ([_words(comment), ""] if comment else [])
            if not _is_block(allowed) and isinstance(value, dict):
                written = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110)
                lines += ["In `config.yaml`:", "", "```yaml", written.rstrip(), "```"]
            elif not _is_block(allowed):
                lines += [f"In `config.yaml`: {_code(value)}; allowed: {settings.allowed(allowed)}."]
            elif any(_KEY.fullmatch(line) for line in _block(text, keys[0])):
                lines += ["| key | in config.yaml | allowed | why |", "|---|---|---|---|"]
        elif _is_block(allowed) and comment:
            lines += [f"| `{'.'.join(keys[1:])}` | | | {_cell(_words(comment))} |"]
        elif not _is_block(allowed):
            shown = "a table" if isinstance(value, dict) and value else _code(value)
            shared = keys[:-1] in (above[:-1], above) and len(above) > 1
            why = _cell(_words(comment)) if comment else "as above" if shared else ""
            lines += [f"| `{'.'.join(keys[1:])}` | {shown} | {_cell(settings.allowed(allowed))} | {why} |"]
    return "\n".join(lines) + "\n"


def _block(text: str, key: str) -> list[str]:
    """The lines of a top-level block."""
    lines = text.splitlines()
    start = lines.index(f"{key}:") + 1 if f"{key}:" in lines else len(lines)
    end = next((at for at in range(start, len(lines)) if lines[at][:1] not in (" ", "", "#")), len(lines))
    return lines[start:end]


def _commented(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Each key of the file that the schema names, with the comment in front of it."""
    schema = settings.complete_schema()
    keys: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
        elif not line.strip():
            comment = []
        elif found := _KEY.fullmatch(line):
            keys = [*keys[: len(found[1]) // 2], found[2]]
            if _schema_at(schema, keys) is not None:
                yield list(keys), comment
                if found[3].strip().startswith("{") and _is_block(_schema_at(schema, keys)):
                    for inner in yaml.safe_load(line.strip())[found[2]]:
                        yield [*keys, inner], []
            comment = []


def _schema_at(schema: Mapping, keys: list[str]) -> Mapping | None:
    """What a key may hold; None for names that the user gives."""
    node = schema
    for key in keys:
        node = node.get("properties", {}).get(key)
        if node is None:
            return None
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _is_block(node: Mapping) -> bool:
    return "properties" in node


def _at(value: object, keys: list[str]) -> object:
    for key in keys:
        value = value[key]
    return value


def _code(value: object) -> str:
    text = (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("\n...\n").strip()
    )
    return f"`{_cell(text)}`"


def _words(comment: list[str]) -> str:
    return " ".join(comment)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def api_page() -> str:
    lines = [
        "# API",
        "",
        "Made from docstrings by `python docs/reference/write.py`. The commands tell of themselves: `polclip --help`, "
        "`polclip senses --help`.",
        "",
        "## A model in use",
        "",
        *_described("polclip.Disambiguator", Disambiguator, signature=False),
    ]
    for name in _METHODS:
        lines += _described(f"Disambiguator.{name}", getattr(Disambiguator, name))
    lines += ["", "## Answers: `polclip.answers`"]
    for name in _ANSWERS:
        lines += _described(name, getattr(answers, name), signature=False)
    lines += [
        "",
        "## Records: `polclip.records`",
        "",
        "What the Parquet files of a run hold: `read_records(path, Kind)`.",
    ]
    for name in _RECORDS:
        lines += _described(name, getattr(records, name), signature=False)
    lines += ["", "## The model itself", ""]
    lines += _described("polclip.model.polclip.PolCLIP", PolCLIP, signature=False)
    lines += _described("PolCLIP.from_pretrained", PolCLIP.from_pretrained)
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _described(name: str, thing: object, signature: bool = True) -> list[str]:
    lines = ["", f"### {name}", ""]
    if signature:
        lines += ["```", f"{name.rpartition('.')[2]}({', '.join(_parameters(thing))})", "```", ""]
    doc = inspect.getdoc(thing) or ""
    if doc and not doc.startswith(f"{name.rpartition('.')[2]}("):  # a dataclass without one is given its signature
        lines += _paragraphs(doc)
    if is_dataclass(thing):
        lines += ["", "| field | type | |", "|---|---|---|", *_fields(thing)]
    elif isinstance(thing, type) and issubclass(thing, Enum):
        lines += ["", *(f"- `{member.name}`: {member.value}" for member in thing)]
    return lines


def _parameters(method: object) -> Iterator[str]:
    """As one writes them in a call; their types differ in form from one Python to the next."""
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            yield f"**{parameter.name}"
        elif parameter.name != "self":
            yield parameter.name + ("" if parameter.default is parameter.empty else f"={parameter.default!r}")


def _paragraphs(doc: str) -> list[str]:
    """A docstring with its list of arguments as a list."""
    lines = []
    for line in doc.splitlines():
        entry = re.fullmatch(r"    (\w+): (.*)", line)
        lines.append(
            f"- `{entry[1]}`: {entry[2]}" if entry else "  " + line.strip() if line.startswith("     ") else line
        )
        if line.startswith("Args:"):
            lines.append("")
    return [line.replace("Args:", "Arguments:").rstrip() for line in lines]


def _fields(kind: type) -> Iterator[str]:
    """Each field with its type and the comment behind it in the source."""
    comments = dict(re.findall(r"^    (\w+): [^#\n]*# (.*)$", inspect.getsource(kind), re.MULTILINE))
    for field in fields(kind):
        of = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
        of = str(field.type) if "[" in str(field.type) else of
        of = _cell(of.replace("polclip.answers.", ""))
        yield f"| `{field.name}` | `{of}` | {_cell(comments.get(field.name, ''))} |"


PAGES = {"config.md": config_page, "api.md": api_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
