"""How far the probabilities of trained models can be trusted, drawn for the largest textual benchmark."""

from collections.abc import Mapping
from pathlib import Path

from polclip.evaluation.calibration import Calibration, calibration
from polclip.evaluation.prediction_files import read_instances, read_predictions
from polclip.records import Prediction
from polclip.reporting import figures
from polclip.reporting.inputs import ReportInputs, run_of
from polclip.reporting.summary import ScoreTable


def reliability_section(inputs: ReportInputs, table: ScoreTable | None, colours: Mapping[str, int]) -> dict:
    """`reliability`: a panel, or None where no trained model was scored; `calibration_errors`: percent by experiment.

    All seeds of an experiment count together.
    """
    if table is None or table.task != "textual":
        return {"reliability": None}
    benchmark = max(
        (column for column in table.primary if column[0] in inputs.instances), key=table.sizes, default=(None, "")
    )[0]
    if benchmark is None:
        return {"reliability": None}
    instances = read_instances("textual", inputs.instances[benchmark])
    gold = {instance.instance_id: instance.gold for instance in instances}
    said: dict[str, list[Prediction]] = {}
    for path in inputs.predictions:
        experiment, _ = run_of(path)
        if Path(path).stem == benchmark and experiment in table.experiments:
            said.setdefault(experiment, []).extend(read_predictions(path, instances).values())
    found: dict[str, Calibration] = {}
    for experiment in table.experiments:
        one = calibration(said.get(experiment, []), gold)
        if one is not None:
            found[experiment] = one
    if not found:
        return {"reliability": None}
    errors = {experiment: 100 * one.error for experiment, one in found.items()}
    panel = figures.reliability(found, f"{benchmark} · how sure, how right", colours)
    return {"reliability": panel, "calibration_errors": errors}
