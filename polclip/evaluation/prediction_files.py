"""Prediction files of the workflow: read with checks, and written in the form of the official scorers.

Apart from the scores, so that a change of the scorer does not make the predictions anew.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from polclip.errors import UserError
from polclip.files import read_json_lines, write_text
from polclip.records import Prediction, TextualInstance, VisualInstance, read_records

LOWEST = -4.0  # the score of a picture without features; below any sum of two cosines
_KINDS = {"textual": TextualInstance, "visual": VisualInstance}


def read_instances(task: str, path: str | Path) -> list[TextualInstance] | list[VisualInstance]:
    """The instances of a benchmark; none at all is a UserError."""
    if task not in _KINDS:
        raise UserError(f"Unknown task {task!r}. Allowed: {', '.join(_KINDS)}.")
    instances = list(read_records(path, _KINDS[task]))
    if not instances:
        raise UserError(f"{path} holds no instance: there is nothing to score.")
    return instances


def read_predictions(path: str | Path, instances: Sequence[TextualInstance | VisualInstance]) -> dict[str, Prediction]:
    """The predictions of a JSON Lines file by instance id, checked against the instances.

    Raises UserError with file and line for an unknown instance or candidate, one given twice, and scores that
    do not go down.
    """
    candidates = {instance.instance_id: set(instance.candidates) for instance in instances}
    predictions: dict[str, Prediction] = {}
    for number, row in enumerate(read_json_lines(path), start=1):
        try:
            instance_id, ranked, scores = row["instance_id"], row["candidates"], list(map(float, row["scores"]))
            known, distinct = candidates.get(instance_id), set(ranked)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}:{number}: a line needs instance_id, candidates and scores ({error}).") from error
        wrong = (
            "is not in the benchmark" if known is None
            else "comes twice" if instance_id in predictions
            else "names a candidate that it does not have" if not distinct <= known
            else "names a candidate twice" if len(distinct) != len(ranked)
            else "needs one score a candidate" if len(ranked) != len(scores)
            else "has scores that do not go down from best to worst"
            if not all(better >= worse for better, worse in pairwise(scores))
            else None
        )  # fmt: skip
        if wrong:
            raise UserError(f"{path}:{number}: instance {instance_id!r} {wrong}.")
        predictions[instance_id] = Prediction(instance_id, ranked, scores)
    return predictions


def write_official(
    task: str, benchmark: str, instances_path: str | Path, predictions_path: str | Path, folder: str | Path
) -> list[Path]:
    """Write predictions in the form of the official scorers and return the paths.

    Textual: `{benchmark}.key.txt`, the best sense of each answered instance. Visual: for each language
    `prediction.{benchmark}.{language}.txt`, every picture of each instance, best first, tab-separated, in the
    order of the benchmark; pictures that the predictions do not rank follow in the order of the instance.
    """
    instances = read_instances(task, instances_path)
    predictions = read_predictions(predictions_path, instances)
    lines: dict[str, list[str]] = {}
    for instance in instances:
        prediction = predictions.get(instance.instance_id, Prediction(instance.instance_id, [], []))
        if task == "textual":
            name = f"{benchmark}.key.txt"
            answer = [f"{instance.instance_id} {key}" for key in prediction.candidates[:1]]
        else:
            name = f"prediction.{benchmark}.{instance.language}.txt"
            ranking = dict.fromkeys([*prediction.candidates, *instance.candidates])
            answer = ["\t".join(_image_name(picture) for picture in ranking)]
        lines.setdefault(name, []).extend(answer)
    paths = [Path(folder) / name for name in lines]
    for path in paths:
        write_text(path, "".join(line + "\n" for line in lines[path.name]))
    return paths


def _image_name(picture_id: str) -> str:
    """The name that the official files use: vwsd:test/image.1.jpg -> image.1.jpg; other picture ids stay."""
    return picture_id.rpartition("/")[2] if picture_id.startswith("vwsd:") else picture_id
