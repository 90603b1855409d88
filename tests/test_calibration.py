"""Probabilities against what is right, and what others published beside a run's scores."""

import numpy as np
import pytest
from report_fixture import build
from test_report import page_of

from polclip.evaluation.calibration import calibration
from polclip.evaluation.prediction_files import read_instances, read_predictions
from polclip.records import Prediction
from polclip.reporting.published import published_systems
from polclip.reporting.summary import ScoreTable


def of_two(name, probability, right):
    """A prediction that is so sure of its first of two candidates."""
    prediction = Prediction(name, ["a", "b"], [float(np.log(probability)), float(np.log(1 - probability))])
    return prediction, {name: ["a" if right else "b"]}


def test_ranges_hold_the_means_of_what_falls_into_them():
    made = [of_two(str(k), 0.92, k < 3) for k in range(4)] + [of_two(f"low{k}", 0.61, True) for k in range(2)]
    gold = {name: ids for _, one in made for name, ids in one.items()}
    found = calibration([prediction for prediction, _ in made], gold)
    assert found.count.tolist() == [2, 4]
    np.testing.assert_allclose(found.confidence, [0.61, 0.92])
    np.testing.assert_allclose(found.accuracy, [1.0, 0.75])
    assert found.error == pytest.approx((2 * 0.39 + 4 * 0.17) / 6)


def test_what_could_not_be_wrong_or_right_is_left_out():
    sure = Prediction("one candidate", ["a"], [3.0])
    without_gold = Prediction("no gold", ["a", "b"], [1.0, 0.0])
    assert calibration([sure, without_gold], {"one candidate": ["a"], "no gold": []}) is None


def test_large_scores_do_no_harm():
    found = calibration([Prediction("x", ["a", "b"], [5000.0, 4000.0])], {"x": ["a"]})
    assert found.confidence.tolist() == [1.0] and found.error == 0


def test_published_systems_stand_where_their_benchmark_does():
    table = ScoreTable("textual", [("ALL", "f1"), ("42D", "f1")], ["main"], [], {})
    by_name = {system.name: system for system in published_systems(table)}
    assert by_name["BEM"].values == {("ALL", "f1"): 79.0, ("42D", "f1"): 47.8}
    assert by_name["BEM"].sources == ["Blevins and Zettlemoyer 2020, ACL", "Maru et al. 2022, ACL"]
    assert ("42D", "f1") not in by_name["ConSeC"].values and "FCLL" not in by_name
    assert published_systems(ScoreTable("textual", [("wordnet_examples", "f1")], ["main"], [], {})) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return root, build(root)


def test_the_page_draws_how_sure_trained_models_are(run):
    root, inputs = run
    tree, html = page_of(root, inputs)
    panel = next(svg for svg in tree.all("svg") if "calibration error" in svg.attributes.get("aria-label", ""))
    instances = read_instances("textual", inputs.instances["wordnet_examples"])
    gold = {instance.instance_id: instance.gold for instance in instances}
    said = [path for path in inputs.predictions if path.stem == "wordnet_examples" and "/main/" in path.as_posix()]
    error = calibration([p for path in said for p in read_predictions(path, instances).values()], gold).error
    assert f"main: expected calibration error {100 * error:.1f} %" in panel.attributes["aria-label"]
    assert "zero_shot: expected" not in html and "random: expected" not in html
    by_time = [svg.attributes.get("aria-label", "") for svg in tree.all("svg")]
    assert any(label.startswith("Dev score, textual, by time over training minutes") for label in by_time)


def test_the_page_has_the_published_systems_of_its_benchmarks(run, tmp_path):
    root, inputs = run
    assert "Published systems" not in page_of(root, inputs)[1]
    table = inputs.scores.read_text(encoding="utf-8").replace("wordnet_examples", "ALL")
    other = inputs.scores.with_name("other.tsv")
    other.write_text(table, encoding="utf-8")
    inputs = type(inputs)(**{**vars(inputs), "scores": other})
    tree, _ = page_of(root, inputs)
    rows = [row for row in tree.all("tr") if row.all("th") and row.all("th")[0].text().startswith("ESCHER")]
    assert [cell.text() for cell in rows[0].all("td")] == ["80.7"]
