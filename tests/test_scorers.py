import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polclip.corpora.key_files import read_keys
from polclip.errors import UserError
from polclip.evaluation.prediction_files import write_official
from polclip.evaluation.score_files import percent, score_textual_file, score_visual_file
from polclip.evaluation.scores import compare_experiments, instance_values, score_predictions
from polclip.evaluation.textual import macro_f1, score_textual
from polclip.evaluation.visual import mean_over_languages, score_visual
from polclip.files import write_json_lines
from polclip.records import TextualInstance, VisualInstance, write_records

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the scorer fixtures are not at ../shared")

KEYS = ["a%1:00:00::", "a%1:00:01::", "b%2:00:00::", "c%5:00:00:d:00"]
IDS = [f"d000.s000.t00{number}" for number in range(5)]
key_sets = st.sets(st.sampled_from(KEYS), min_size=1)


# --- the official semantics, against a plain reading of them


@settings(deadline=None, max_examples=150)
@given(
    gold=st.dictionaries(st.sampled_from(IDS), key_sets, min_size=1),
    answers=st.dictionaries(st.sampled_from(IDS), key_sets.map(sorted)),
)
def test_textual_scores_equal_a_plain_count(gold, answers):
    answers = {key: answer for key, answer in answers.items() if key in gold}
    earned = sum(sum(key in gold[name] for key in answer) / len(answer) for name, answer in answers.items())
    precision = earned / len(answers) if answers else 0
    recall = earned / len(gold)
    score = score_textual(gold, answers)
    assert score.precision == pytest.approx(precision) and score.recall == pytest.approx(recall)
    assert score.f1 == pytest.approx(2 * precision * recall / (precision + recall) if earned else 0)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.permutations(list("abcdefghij")), st.sampled_from("abcdefghij")), min_size=1))
def test_visual_scores_equal_a_plain_count(cases):
    gold = {str(number): picture for number, (_, picture) in enumerate(cases)}
    score = score_visual(gold, {str(number): ranking for number, (ranking, _) in enumerate(cases)})
    ranks = [1 + ranking.index(picture) for ranking, picture in cases]
    assert score.hit_rate == pytest.approx(sum(rank == 1 for rank in ranks) / len(ranks))
    assert score.mrr == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks))


def test_answers_are_sets_and_unanswered_instances_lower_recall_alone():
    gold = {"1": {"a"}, "2": {"b", "c"}, "3": {"d"}}
    score = score_textual(gold, {"1": ["a", "a"], "2": ["b", "x"]})
    assert score.earned.tolist() == [1, 0.5, 0] and score.answered.tolist() == [True, True, False]
    assert (score.precision, score.recall) == (0.75, 0.5)
    part = score.subset({"3", "2"})
    assert (part.instance_ids, part.precision, part.recall) == (["2", "3"], 0.5, 0.25)


def test_macro_f1_counts_every_gold_sense_the_same():
    gold = {"1": {"a"}, "2": {"a"}, "3": {"a"}, "4": {"b"}}
    assert macro_f1(gold, {key: ["a"] for key in gold}) == pytest.approx((6 / 7 + 0) / 2)
    assert macro_f1(gold, {key: sorted(keys) for key, keys in gold.items()}) == 1
    assert macro_f1({"1": {"a", "b"}}, {"1": ["a"]}) == 1  # any of the gold senses is a hit for all


@pytest.mark.parametrize(
    ("gold", "answers", "figure"),  # the figures are those that the benchmark's evaluate_macro_F1.py prints
    [
        ({"1": "a"}, {"1": "ax"}, 66.67),  # half a hit; the wrong half counts against a, too
        ({"1": "ab"}, {"1": "ax"}, 83.33),  # a as above; b, which is not answered, is hit by half and never wrong
        ({"1": "ab"}, {"1": "axy"}, 83.33),
        ({"1": "a", "2": "a"}, {"1": "ax", "2": "x"}, 40.0),
        ({"1": "a", "2": "x"}, {"1": "ax", "2": "x"}, 73.33),  # the wrong half also counts against x
        ({"1": "ab", "2": "bc"}, {"2": "bd"}, 46.67),  # an instance without an answer is a whole miss
    ],
)
def test_mixed_answers_have_the_macro_f1_of_the_hard_benchmark(gold, answers, figure):
    gold, answers = ({name: list(keys) for name, keys in part.items()} for part in (gold, answers))
    assert round(100 * macro_f1(gold, answers), 2) == figure


def test_unranked_gold_earns_nothing_and_languages_count_the_same():
    assert score_visual({"1": "a", "2": "a"}, {"1": ["b", "c"]}).mrr == 0
    english = score_visual({str(n): "a" for n in range(3)}, {str(n): ["a", "b"] for n in range(3)})
    farsi = score_visual({"1": "a"}, {"1": ["b", "a"]})
    assert mean_over_languages({"en": english, "fa": farsi}) == (0.5, 0.75)


def test_what_the_gold_does_not_have_is_refused():
    with pytest.raises(UserError, match="not in the gold, such as 'x'"):
        score_textual({"1": {"a"}}, {"x": ["a"]})
    with pytest.raises(UserError, match="not in the gold, such as 'x'"):
        score_visual({"1": "a"}, {"x": ["a"]})
    with pytest.raises(UserError, match="names a picture twice"):
        score_visual({"1": "a"}, {"1": ["a", "b", "a"]})


# --- published predictions: exactly what the official scorers say


def _gold_file(folder, archive, member):
    with zipfile.ZipFile(SHARED / "archives" / archive) as file:
        content = file.read(member)
    path = folder / Path(member).name
    path.write_bytes(content)
    return path


@needs_shared
@pytest.mark.parametrize(
    ("predictions", "figures"),
    [
        (
            "textual_ALL.bem.key.txt",
            {"f1": 78.97, "senseval2": 79.40, "senseval3": 77.41, "semeval2007": 74.51, "semeval2013": 79.68}
            | {"semeval2015": 81.70},
        ),
        ("textual_ALL.esc.key.txt", {"precision": 80.69, "recall": 80.67, "f1": 80.68}),
    ],
)
def test_textual_fixtures_give_the_published_figures(tmp_path, predictions, figures):
    member = "WSD_Unified_Evaluation_Datasets/ALL/ALL.gold.key.txt"
    gold = _gold_file(tmp_path, "WSD_Unified_Evaluation_Datasets.zip", member)
    result = score_textual_file(gold, SHARED / "scorer_fixtures" / predictions)
    found = result | {name: part["f1"] for name, part in result["subsets"].items()}
    assert {name: round(found[name], 2) for name in figures} == figures
    assert result["n"] == 7253


@needs_shared
def test_answers_to_all_are_scored_on_allamended_with_48_instances_of_another_lemma(tmp_path):
    member = "WSD_Unified_Evaluation_Datasets/ALL/ALL.gold.key.txt"
    gold = _gold_file(tmp_path, "WSD_Unified_Evaluation_Datasets.zip", member)
    with zipfile.ZipFile(SHARED / "archives" / "wsd_hard_benchmark.zip") as file:
        member = next(name for name in file.namelist() if name.endswith("/ALLamended.gold.key.txt"))
    amended = _gold_file(tmp_path, "wsd_hard_benchmark.zip", member)
    answers = SHARED / "scorer_fixtures" / "textual_ALL.bem.key.txt"
    alone = score_textual_file(amended, answers)
    assert (round(alone["f1"], 2), alone["n"], alone["checks"]["outside_gold"]) == (78.71, 4917, 2336)
    assert alone["checks"]["other_lemma"] == 48
    result = score_textual_file(gold, answers, corrected_path=amended)
    parts = {name: (round(part["f1"], 2), part["n"]) for name, part in result["subsets"].items()}
    # Maru et al. 2022 report 79.5 for BEM, which they ran on ALLamended with its new lemmas.
    assert (parts["corrected"], parts["corrected_same_lemma"]) == ((78.71, 4917), (79.48, 4869))
    assert any("48 of 4,917 instances have keys of another lemma" in warning for warning in result["warnings"])


def test_a_figure_is_rounded_once():
    # EWISER on ALLamended: 79.2150 with four decimals, 79.21 in fact.
    assert f"{percent(3895 / 4917):.2f}" == "79.21"


@needs_shared
def test_visual_fixtures_give_the_published_figures(tmp_path):
    for name in ("en.test.gold.v1.1.txt", "it.test.gold.v1.1.txt", "fa.test.gold.txt"):
        _gold_file(tmp_path, "test.data.v1.1.gold.zip", f"test.data.v1.1.gold/{name}")
    result = score_visual_file(tmp_path, SHARED / "scorer_fixtures" / "visual_ualberta_v1")
    found = {key: (round(part["hr@1"], 2), round(part["mrr"], 2)) for key, part in result["languages"].items()}
    assert found == {"en": (56.80, 71.75), "fa": (34.00, 53.07), "it": (54.43, 70.69)}
    assert result["hr@1"] == pytest.approx((56.8035 + 34 + 54.4262) / 3, abs=1e-3)


# --- the scores of the workflow


def _textual(name, pos, gold, candidates=("a", "b", "c")):
    return TextualInstance(name, "s", ["x"], 0, 1, "x", pos, list(candidates), list(gold))


def _visual(name, language, gold, rivals=()):
    pictures = [f"vwsd:test/{letter}.jpg" for letter in "abcdefghij"]
    return VisualInstance(name, language, "w", "w p", pictures, f"vwsd:test/{gold}.jpg", None, list(rivals))


@pytest.fixture
def textual(tmp_path):
    instances = [
        _textual("1", "n", "a"),
        _textual("2", "n", "bc"),
        _textual("3", "r", "c"),
        _textual("4", "v", "a"),
    ]
    write_records(tmp_path / "i.parquet", TextualInstance, instances)
    rows = [("1", "abc"), ("2", "cab"), ("3", "a"), ("4", "")]
    lines = ({"instance_id": n, "candidates": list(c), "scores": [1.0] * len(c)} for n, c in rows)
    write_json_lines(tmp_path / "p.jsonl", lines)
    return tmp_path


@pytest.fixture
def visual(tmp_path):
    instances = [
        _visual("1", "en", "a", ["vwsd:test/b.jpg"]),
        _visual("2", "en", "b"),
        _visual("3", "fa", "c"),
    ]
    write_records(tmp_path / "i.parquet", VisualInstance, instances)
    rows = [("1", "abcdefghij"), ("2", "abcdefghij"), ("3", "dc")]
    lines = (
        {
            "instance_id": n,
            "candidates": [f"vwsd:test/{x}.jpg" for x in c],
            "scores": [-float(i) for i in range(len(c))],
        }
        for n, c in rows
    )
    write_json_lines(tmp_path / "p.jsonl", lines)
    return tmp_path


def _values(result, subset):
    return {row["metric"]: row["value"] for row in result["rows"] if row["subset"] == subset}


def test_textual_scores_of_the_workflow(textual):
    result = score_predictions("textual", "tiny", [textual / "i.parquet"], [textual / "p.jsonl"], "main", 3, 200)
    assert {key: result[key] for key in result if key != "rows"} == {
        "experiment": "main", "seed": 3, "task": "textual", "benchmark": "tiny",
    }  # fmt: skip
    macro_f1 = 100 * (1 / 2 + 1 + 2 / 3) / 3  # a: hit, missed and wrong once each; b: hit; c: hit and missed once
    assert _values(result, "all") == pytest.approx(
        {"precision": 200 / 3, "recall": 50, "f1": 400 / 7, "accuracy": 50, "macro_f1": macro_f1}
    )
    assert _values(result, "n")["f1"] == 100 and _values(result, "v")["f1"] == 0
    assert list(dict.fromkeys(row["subset"] for row in result["rows"])) == [
        "all", "n", "v", "r", "first_sense", "other_sense", "several_candidates",
    ]  # fmt: skip
    for row in result["rows"]:
        assert row["ci_low"] <= row["value"] <= row["ci_high"] and row["n"] >= 1
    assert json.loads(json.dumps(result)) == result
    again = score_predictions("textual", "tiny", [textual / "i.parquet"], [textual / "p.jsonl"], "main", 3, 200)
    assert again == result


def test_visual_scores_of_the_workflow(visual):
    result = score_predictions("visual", "tiny", [visual / "i.parquet"], [visual / "p.jsonl"], "main", 3, 200)
    assert _values(result, "en") == {"hr@1": 50, "mrr": 75}
    assert _values(result, "fa") == {"hr@1": 0, "mrr": 50}
    assert _values(result, "all") == {"hr@1": 25, "mrr": 62.5}  # the mean over languages
    assert _values(result, "with_rivals") == {"hr@1": 100, "mrr": 100}
    assert {row["subset"]: row["n"] for row in result["rows"]} == {
        "all": 3,
        "en": 2,
        "fa": 1,
        "with_rivals": 1,
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"instance_id": "9", "candidates": ["a"], "scores": [1]},
            r"p.jsonl:2: instance '9' is not in the benchmark",
        ),
        ({"instance_id": "1", "candidates": ["a"], "scores": [1]}, "comes twice"),
        ({"instance_id": "2", "candidates": ["z"], "scores": [1]}, "names a candidate that it does not have"),
        ({"instance_id": "2", "candidates": ["a", "a"], "scores": [1, 1]}, "names a candidate twice"),
        ({"instance_id": "2", "candidates": ["a", "b"], "scores": [1]}, "one score a candidate"),
        ({"instance_id": "2", "candidates": ["a", "b"], "scores": [1, 2]}, "do not go down"),
        ({"instance_id": "2", "candidates": ["a", "b"]}, "needs instance_id, candidates and scores"),
    ],
)
def test_predictions_that_do_not_fit_the_benchmark_are_refused(textual, line, message):
    first = {"instance_id": "1", "candidates": ["a", "b"], "scores": [0.5, 0.5]}
    write_json_lines(textual / "p.jsonl", [first, line])
    with pytest.raises(UserError, match=message):
        instance_values("textual", textual / "i.parquet", textual / "p.jsonl")


def test_an_empty_benchmark_is_refused(tmp_path):
    write_records(tmp_path / "i.parquet", TextualInstance, [])
    with pytest.raises(UserError, match="no instance"):
        score_predictions("textual", "tiny", [tmp_path / "i.parquet"], [tmp_path / "p.jsonl"], "main", 0)
    with pytest.raises(UserError, match="Allowed: textual, visual"):
        score_predictions("audio", "tiny", [tmp_path / "i.parquet"], [tmp_path / "p.jsonl"], "main", 0)


def test_the_official_form_scores_the_same(textual):
    (path,) = write_official("textual", "tiny", textual / "i.parquet", textual / "p.jsonl", textual / "out")
    assert path.name == "tiny.key.txt" and path.read_text() == "1 a\n2 c\n3 a\n"
    (textual / "gold.txt").write_text("1 a\n2 b c\n3 c\n4 a\n")
    assert score_textual_file(textual / "gold.txt", path)["f1"] == pytest.approx(400 / 7, abs=1e-4)


def test_the_official_visual_form_ranks_all_ten(visual):
    english, farsi = write_official("visual", "tiny", visual / "i.parquet", visual / "p.jsonl", visual / "out")
    assert (english.name, farsi.name) == ("prediction.tiny.en.txt", "prediction.tiny.fa.txt")
    assert farsi.read_text() == "\t".join(f"{letter}.jpg" for letter in "dcabefghij") + "\n"
    (visual / "gold.txt").write_text("a.jpg\nb.jpg\n")
    assert score_visual_file(visual / "gold.txt", english)["mrr"] == 75


def test_experiments_are_compared_over_their_seeds(visual):
    better = visual / "better.jsonl"
    pictures = [f"vwsd:test/{letter}.jpg" for letter in "abcdefghij"]
    ranked = {"1": pictures, "2": [pictures[1]], "3": [pictures[2]]}
    write_json_lines(better, ({"instance_id": n, "candidates": c, "scores": [0.0] * len(c)} for n, c in ranked.items()))
    rows = compare_experiments(
        "visual",
        "tiny",
        visual / "i.parquet",
        "new",
        [better, visual / "p.jsonl"],
        "old",
        [visual / "p.jsonl"],
        200,
    )
    assert [(row["metric"], row["n"]) for row in rows] == [("hr@1", 3), ("mrr", 3)]
    assert rows[0]["difference"] == pytest.approx(100 / 3)  # new hits 3 and 1 of 3, old 1
    assert list(rows[0]) == [
        "benchmark", "metric", "experiment_a", "experiment_b", "difference",
        "ci_low", "ci_high", "p_bootstrap", "p_mcnemar", "n",
    ]  # fmt: skip


def test_key_files_may_come_from_any_stream():
    assert read_keys(io.StringIO("1 a b\n"), "gold") == {"1": ["a", "b"]}
