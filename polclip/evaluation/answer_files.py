"""Gold and answer files, read as the official scorers do, with counts of what a score alone does not show.

The official scorers pass over answers to instances that the gold does not have, and count an answer in another
notation, or of another lemma, as wrong. So does this project, but it says how many there are.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polclip.babelnet import pos_of
from polclip.corpora.key_files import KeyFile, read_key_file
from polclip.corpora.text_lines import text_lines
from polclip.errors import UserError
from polclip.evaluation.textual import lemma_and_pos

# senseidx(5WN): the last two fields are filled for satellite adjectives (5) alone; a key is in lower case.
_SENSE_KEY = re.compile(r"[^%\s]+%(?:[1-4]:\d\d:\d\d::|5:\d\d:\d\d:[^:\s]+:\d\d)")
_ADVICE = {
    "sense keys": "Write the sense keys of WordNet's index.sense, in lower case: bat%1:05:00::, or "
    "every%5:00:00:all:00 for a satellite adjective.",
    "BabelNet ids": "Write BabelNet ids such as bn:00037030n.",
}


@dataclass(frozen=True)
class Answers:
    """An answer file beside a gold.

    checks: how many lines have an id and no key (unanswered); how many repeat an id (their keys are put together);
    how many answered instances the gold does not have (passed over); how many keys are in a notation that the gold
    does not use.
    """

    keys: dict[str, list[str]]  # by instance id, of instances of the gold
    checks: dict[str, int]
    warnings: list[str]  # a sentence for each check that is not 0


def read_gold(path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The gold keys by instance id, and sentences about odd lines and keys of the file."""
    file = read_key_file(read_lines(path), str(path))
    if not file.keys:
        raise UserError(f"{path} has no sense key in any line. A line is `instance_id sense_key [sense_key ...]`.")
    every = [key for keys in file.keys.values() for key in keys]
    return file.keys, [*_about_lines(path, file), *in_other_notation(path, every, file.keys)[1]]


def read_answers(path: Path, gold: Mapping[str, Sequence[str]], gold_path: Path) -> Answers:
    """The answers to instances of the gold; the others are passed over and counted.

    The ids of ALL have the name of the set in front (senseval2.d000.s000.t000), those of a single set do not: without
    a common id, the name is that of the other file (senseval2.gold.key.txt). Raises UserError where no answer is to an
    instance of the gold.
    """
    file = read_key_file(read_lines(path), str(path))
    ids = _ids_in_gold(file.keys, gold, path, gold_path)
    keys = {ids[instance_id]: answer for instance_id, answer in file.keys.items() if instance_id in ids}
    outside = [instance_id for instance_id in file.keys if instance_id not in ids]
    every = [key for answer in keys.values() for key in answer]
    other_notation, notation_warnings = in_other_notation(path, every, gold)
    checks = {
        "lines_without_key": file.lines_without_key,
        "repeated_lines": file.repeated_lines,
        "outside_gold": len(outside),
        "other_notation": other_notation,
    }
    warnings = [*_about_lines(path, file), *notation_warnings]
    if outside:
        warnings.append(
            f"{path}: {len(outside):,} of {len(file.keys):,} answered instances are not in {gold_path}, such as "
            f"{outside[0]}. They are passed over."
        )
    return Answers(keys, checks, warnings)


def lemmas(keys: Iterable[str]) -> set[tuple[str, str]]:
    """The lemmas, with part of speech (n v a r), of the keys that are sense keys."""
    return {named for key in keys if notation(key) == "sense keys" and (named := lemma_and_pos(key))}


def notation(key: str) -> str | None:
    """`sense keys` (of WordNet) or `BabelNet ids`; None for a key in neither notation."""
    if _SENSE_KEY.fullmatch(key) and key == key.lower():
        return "sense keys"
    return "BabelNet ids" if pos_of(key) else None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; UserError where it cannot be read."""
    try:
        return text_lines(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read as a text file ({error}).") from error


def _ids_in_gold(ids: Collection[str], gold: Collection[str], path: Path, gold_path: Path) -> dict[str, str]:
    """The id that the gold has for each answered instance; instances that it does not have are left out."""
    own_set, gold_set = (f"{name.name.partition('.')[0].lower()}." for name in (path, gold_path))
    for found in (
        {instance_id: instance_id for instance_id in ids},
        {instance_id: instance_id.removeprefix(gold_set) for instance_id in ids},
        {instance_id: own_set + instance_id for instance_id in ids},
    ):
        common = {instance_id: renamed for instance_id, renamed in found.items() if renamed in gold}
        if common or not ids:
            return common
    raise UserError(
        f"{path} answers no instance of {gold_path}: its ids are such as {next(iter(ids))}, the gold's such as "
        f"{next(iter(gold))}. Both must be of one benchmark. If only one has the name of its set in front of its "
        "ids, name the other file after the set: senseval2.gold.key.txt."
    )


def in_other_notation(
    source: str | Path, keys: Collection[str], gold: Mapping[str, Iterable[str]]
) -> tuple[int, list[str]]:
    """How many of the keys are in a notation that the gold does not use, and a sentence that says so (or none)."""
    allowed = sorted({name for of_instance in gold.values() for key in of_instance if (name := notation(key))})
    wrong = [key for key in keys if notation(key) not in allowed] if allowed else []
    if not wrong:
        return 0, []
    advice = " ".join(_ADVICE[name] for name in allowed)
    told = f"{source}: {len(wrong):,} of {len(keys):,} keys are not {' or '.join(allowed)}, such as {wrong[0]}"
    return len(wrong), [f"{told}. Keys are compared as they are written. {advice}"]


def of_other_lemma(
    source: str | Path, answers: Mapping[str, Collection[str]], gold: Mapping[str, Iterable[str]]
) -> tuple[int, list[str]]:
    """How many answers are sense keys of a lemma, or part of speech, that no gold key of the instance has.

    With a sentence that says so (or none). Instances whose gold is not in sense keys are passed over.
    """
    wrong = []
    for instance_id, keys in answers.items():
        allowed = lemmas(gold[instance_id])
        wrong += [(instance_id, key) for key in keys if allowed and lemmas([key]) - allowed]
    if not wrong:
        return 0, []
    (instance_id, key), total = wrong[0], sum(map(len, answers.values()))
    return len(wrong), [
        f"{source}: {len(wrong):,} of {total:,} keys are of another lemma or part of speech than the gold, such as "
        f"{key} of {instance_id}, where the gold is {' '.join(gold[instance_id])}. They count as wrong."
    ]


def _about_lines(path: Path, file: KeyFile) -> list[str]:
    warnings = []
    if file.lines_without_key:
        warnings.append(f"{path}: lines with an id and no key: {file.lines_without_key:,}. They count as unanswered.")
    if file.repeated_lines:
        warnings.append(
            f"{path}: lines that repeat the id of an earlier line: {file.repeated_lines:,}. Their keys are joined, "
            "as by the official scorer."
        )
    return warnings
