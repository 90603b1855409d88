"""What a result came from: the code, the packages, the archives and the settings."""

import ast
import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from types import MappingProxyType

from polclip.downloads.checks import read_record
from polclip.downloads.manifest import Dataset
from polclip.files import read_json, sha256, write_json
from polclip.settings import digest

PACKAGE = Path(__file__).resolve().parent
# What the numbers depend on; the lock file pins the rest.
PACKAGES = (
    "torch", "torchvision", "transformers", "tokenizers", "timm", "open_clip_torch", "numpy", "scipy",
    "pandas", "pyarrow", "nltk", "pillow", "resvg_py", "safetensors", "openai", "snakemake",
)  # fmt: skip
# What the counts of a corpus say was left out, or will cost points whoever answers.
LEFT_OUT = {
    "target_not_found": "the sentence does not hold the target word",
    "monosemous": "the word has one sense",
    "left_out": "more than max_train_instances",
    "gold_missing": "the gold is not among the candidates (kept)",
    "gold_partly_missing": "some of the gold keys are not among the candidates (kept)",
    "no_candidates": "the lemma is not in the inventory (kept)",
    "gold_not_in_wordnet": "the gold is no key of the inventory (kept)",
    "gold_of_another_lemma": "the gold is a key of another lemma (kept)",
    "gold_of_another_pos": "the gold is a key of another part of speech (kept)",
    "target_without_text": "the target has no text: its lemma stands for it (kept)",
    "images_missing": "the picture is missing",
    "instances_missing_gold_image": "the gold picture is missing (kept)",
    "instances_left_out": "a candidate picture is missing (left out)",
}


def fingerprint(*modules: str, files: Iterable[str] = ()) -> str:
    """Sixteen hexadecimal digits that stand for what these modules and their imports inside polclip do.

    modules: dotted names (`polclip.inventory`). Comments, docstrings and layout do not count; imports are
    followed statically, those inside functions too. files: data beside the code, relative to the package, by
    content. A module that does not exist raises FileNotFoundError.
    """
    whole = hashlib.sha256()
    for name in sorted(_with_imports(modules)):
        whole.update(f"{name}:{_parsed(name)[0]}\n".encode())
    for file in sorted(files):
        whole.update(f"{file}:{sha256(PACKAGE / file)}\n".encode())
    return whole.hexdigest()[:16]


def script_fingerprint(script: str | Path, files: Iterable[str] = ()) -> str:
    """The fingerprint of a rule's script and of all that it imports of polclip.

    `polclip.rule_log` is left out: log messages do not change a rule's outputs.
    """
    script = Path(script)
    tree = ast.parse(script.read_text(encoding="utf-8"), str(script))
    imports = {name for node in ast.walk(tree) for name in _imported(node, "", script)}
    of_imports = fingerprint(*(imports - {f"{PACKAGE.name}.rule_log"}), files=files)
    return hashlib.sha256(f"{_digest(tree)}:{of_imports}".encode()).hexdigest()[:16]


def _with_imports(modules: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_parsed(name)[1])
    return found


@cache
def _parsed(module: str) -> tuple[str, frozenset[str]]:
    """The digest of one module's code, and the polclip modules that it imports."""
    path = _source_of(module)
    if path is None:
        raise FileNotFoundError(f"There is no module {module} in {PACKAGE}.")
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    imports = frozenset(name for node in ast.walk(tree) for name in _imported(node, module, path))
    return _digest(tree), imports


def _digest(tree: ast.Module) -> str:
    """The digest of a syntax tree, which holds neither comments nor layout, without its docstrings."""
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()


def _source_of(module: str) -> Path | None:
    at = PACKAGE.joinpath(*module.split(".")[1:])
    return next((path for path in (at.with_suffix(".py"), at / "__init__.py") if path.is_file()), None)


def _imported(node: ast.AST, module: str, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:  # relative: from the package that the module is in, or is
            parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
    else:
        return
    for name in names:
        parts = name.split(".")
        if parts[0] == PACKAGE.name:
            # Importing a.b.c runs a and a.b as well; the last part may be a function, not a module.
            prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
            yield from (prefix for prefix in prefixes if _source_of(prefix) is not None)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without the strings that are statements of their own: they do nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    return tree


def _is_docstring(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def package_versions() -> dict[str, str]:
    """Python and the packages that the numbers depend on, those that are installed."""
    wanted = {_normal(name) for name in PACKAGES}
    found = {_normal(item.metadata["Name"]): item.version for item in distributions(path=sys.path)}
    versions = {name: found[_normal(name)] for name in PACKAGES if _normal(name) in wanted & set(found)}
    return {"python": sys.version.split()[0]} | versions


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def write_provenance(
    output: str | Path,
    config: Mapping,
    archives: Iterable[tuple[Dataset, str | Path]],
    skipped: Iterable[tuple[str, str | Path]],
    counts: Mapping[str, str | Path] = MappingProxyType({}),
) -> None:
    """Write versions, archives, settings and what was skipped as one JSON object.

    archives: entries of the manifest and where their files lie. skipped: steps with a JSON file that counts by
    reason; of several files of one step the sum. counts: corpus to its JSON file of counts, or of counts by part, of
    which `LEFT_OUT` is taken.
    A checksum is the manifest's or the one recorded at download: 195 GB are not read again for it.
    """
    of_steps: Counter[tuple[str, str]] = Counter()
    for step, path in skipped:
        of_steps.update({(step, reason): count for reason, count in read_json(path).items()})
    rows = [{"step": step, "reason": reason, "count": count} for (step, reason), count in of_steps.items()]
    for corpus, path in counts.items():
        of_parts = read_json(path)
        if not any(isinstance(value, dict) for value in of_parts.values()):
            of_parts = {"": of_parts}
        rows += [
            {"step": f"{corpus} {part}".strip(), "reason": LEFT_OUT[name], "count": count}
            for part, counted in of_parts.items()
            for name, count in counted.items()
            if name in LEFT_OUT
        ]
    write_json(
        output,
        {
            "versions": package_versions(),
            "archives": [_archive(dataset, Path(path)) for dataset, path in archives],
            "config": dict(config),
            "config_digest": digest(config),
            "skipped": [row for row in rows if row["count"]],
        },
    )


def _archive(dataset: Dataset, path: Path) -> dict[str, object]:
    return {
        "name": dataset.name,
        "file": dataset.file,
        "version": dataset.version,
        "licence": dataset.licence,
        "sha256": dataset.sha256 or read_record(path) or sha256(path),
        "size": path.stat().st_size,
        "description": dataset.description,
    }
