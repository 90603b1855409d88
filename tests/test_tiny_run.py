"""The whole workflow once, for real, on a tiny configuration: what it writes, resumes, reruns and refuses.

The one run that most tests look at is `tiny_run.finished_run`; where something runs on, it does so in a copy.
"""

import os
import re
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tiny_project import (
    CONCEPTS,
    ROOT,
    SENSES,
    STYLES,
    make_project,
    planned,
    read_manifest,
    snakemake,
    surroundings,
    write_yaml,
)
from tiny_run import rules_of, succeed

from polclip.files import read_json, read_json_lines
from polclip.records import Picture, Sense, TextualInstance, VisualInstance, read_records
from polclip.reporting.corpus_statistics import CORPORA_COLUMNS
from polclip.reporting.tables import SCORE_COLUMNS, SIGNIFICANCE_COLUMNS

AFTER_SCORING = {"tables", "costs", "provenance", "report", "all"}
BENCHMARKS = {
    "wordnet_examples": ("wordnet_examples/test", TextualInstance),
    "unseen_style": ("unseen_style/test", VisualInstance),
    "hard": ("hard/test", VisualInstance),
}
ASKED = [
    *((experiment, name) for experiment in ("main", "zero_shot") for name in BENCHMARKS),
    ("first_sense", "wordnet_examples"),
]


def test_a_kill_leaves_nothing_half_written_and_the_next_run_goes_on(run):
    assert run.left == []
    made = rules_of(run.said)
    assert made.count("train") == 1
    assert not {"download", "inventory", "embed_texts", "embed_pictures", "align_towers"} & set(made)


def test_everything_is_up_to_date_afterwards_and_the_setup_can_be_looked_at(run):
    targets = "all datasets inventory corpora definitions embeddings models predictions scores report check_setup"
    said = succeed(snakemake(run.project, *targets.split()))
    assert rules_of(said) == ["check_setup"]
    assert all(str(read_manifest(ROOT)[f"iconify_{style}"]["file"]) in said for style in STYLES)


def test_inventory_corpora_and_pictures_are_those_of_the_archives(run):
    assert len(list(read_records(run.results / "inventory/senses.parquet", Sense))) == SENSES
    for style in STYLES:
        pictures = list(read_records(run.results / f"pictures/{style}.parquet", Picture))
        assert len(pictures) == len(CONCEPTS)
        good = next(p for p in pictures if p.picture_id not in run.broken.values())
        assert Image.open(run.project / good.path).size == (64, 64)
    corpora = pd.read_csv(run.results / "tables/corpora.tsv", sep="\t")
    assert list(corpora.columns) == CORPORA_COLUMNS
    assert set(corpora["corpus"]) == {"wordnet_examples", "pictures", "dev_style", "dev_words", "unseen_style", "hard"}
    asked = corpora[corpora["corpus"] != "pictures"]
    assert (asked["instances"] > 0).all() and (corpora["gold_missing"] == 0).all()
    assert corpora.loc[corpora["corpus"] == "pictures", "images"].item() > 0


@pytest.mark.parametrize(("experiment", "benchmark"), ASKED)
def test_every_candidate_of_every_instance_is_ranked_and_scored(run, experiment, benchmark):
    corpus, kind = BENCHMARKS[benchmark]
    instances = list(read_records(run.results / f"corpora/{corpus}.parquet", kind))
    folder = run.results / "predictions" / experiment / "seed-1"
    predictions = list(read_json_lines(folder / f"{benchmark}.jsonl"))
    assert [p["instance_id"] for p in predictions] == [instance.instance_id for instance in instances]
    for instance, prediction in zip(instances, predictions, strict=True):
        assert sorted(prediction["candidates"]) == sorted(instance.candidates)
        assert prediction["scores"] == sorted(prediction["scores"], reverse=True)
    if kind is TextualInstance:
        official = (folder / f"{benchmark}.key.txt").read_text().splitlines()
        assert official == [f"{p['instance_id']} {p['candidates'][0]}" for p in predictions]
    else:
        official = (folder / f"prediction.{benchmark}.en.txt").read_text().splitlines()
        assert official == ["\t".join(p["candidates"]) for p in predictions]

    scores = read_json(run.results / f"scores/{experiment}/seed-1/{benchmark}.json")
    assert (scores["experiment"], scores["seed"], scores["benchmark"]) == (experiment, 1, benchmark)
    metrics = {"f1", "precision", "recall", "accuracy", "macro_f1"} if kind is TextualInstance else {"hr@1", "mrr"}
    of_all = {row["metric"]: row for row in scores["rows"] if row["subset"] == "all"}
    assert set(of_all) == metrics
    assert all(0 <= row["value"] <= 100 and row["n"] == len(instances) for row in of_all.values())
    if kind is TextualInstance:  # train and test share no word
        (unseen,) = [row for row in scores["rows"] if (row["subset"], row["metric"]) == ("unseen_lemma", "f1")]
        assert unseen["n"] == len(instances) and unseen["value"] == of_all["f1"]["value"]


def test_the_model_its_towers_and_the_course_of_training_are_there(run):
    folder = run.results / "models/main/seed-1"
    assert read_json(folder / "config.json")["model"]["width"] == 16
    model = (folder / "model.safetensors").stat()
    assert model.st_size > 0 and model.st_mode & 0o044  # others may read it
    lines = list(read_json_lines(folder / "metrics.jsonl"))
    # The steps of tiny.yaml, behind a look at the dev sets.
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    joint = lines[1:]
    names = {"seconds", "loss", "loss_sig", "loss_isg", "loss_w2s", "loss_w2i", "temperature", "learning_rate"}
    assert all(names <= set(line) for line in joint)
    assert {"dev_textual", "dev_visual"} <= set(joint[-1])
    for name in ("heads.safetensors", "config.json", "metrics.jsonl"):
        assert (run.results / "towers/seed-1" / name).exists()


def test_tables_costs_and_page_tell_of_the_whole_run(run):
    scores = pd.read_csv(run.results / "tables/scores.tsv", sep="\t")
    assert list(scores.columns) == SCORE_COLUMNS
    assert set(zip(scores["experiment"], scores["benchmark"], strict=True)) == set(ASKED)
    assert scores["value"].between(0, 100).all() and (scores["ci_low"] <= scores["ci_high"]).all()
    significance = pd.read_csv(run.results / "tables/significance.tsv", sep="\t")
    assert list(significance.columns) == SIGNIFICANCE_COLUMNS
    assert set(significance["experiment_b"]) == {"first_sense", "zero_shot"}
    costs = {cost["rule"]: cost for cost in read_json(run.results / "costs.json")}
    assert {"download", "embed_texts", "align_towers", "train", "predict", "baseline", "score"} <= set(costs)
    assert costs["train"].keys() >= {"jobs", "seconds", "peak_mb", "usd"} and costs["embed_pictures"]["jobs"] == 3
    page = (run.results / "report/index.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("main", "zero_shot", "first_sense", *BENCHMARKS))
    assert "bars-hard.svg" in {path.name for path in (run.results / "report/figures").iterdir()}
    assert not re.search(r'(?:src|href)="(?:https?:)?//[^"]+\.(?:js|css|png)', page)


def test_snakemakes_own_report_has_page_tables_and_figures_with_captions(run, tmp_path):
    succeed(snakemake(run.project, "--report", str(tmp_path / "run.zip")))
    with zipfile.ZipFile(tmp_path / "run.zip") as packed:
        files = {Path(name).name for name in packed.namelist()}
        told = packed.read("run/report.html").decode()
    assert {"index.html", "data.html", "scores.tsv", "significance.tsv", "corpora.tsv", "costs.json"} <= files
    assert {"bars-hard.svg", "forest.svg"} <= files
    for caption in ("Every score of the run", "A figure of the report of", "of PolCLIP: word sense disambiguation"):
        assert caption in told


def test_a_broken_picture_is_counted_and_ranked_last(run):
    skipped = read_json(run.results / "provenance.json")["skipped"]
    counted = {(row["step"], row["reason"], row["count"]) for row in skipped}
    assert counted == {(f"embed_pictures {style}", "cannot be decoded", 1) for style in run.broken}
    assert "cannot be decoded" in (run.results / "report/index.html").read_text(encoding="utf-8")
    for experiment in ("main", "zero_shot"):
        predictions = read_json_lines(run.results / f"predictions/{experiment}/seed-1/hard.jsonl")
        rankings = [p["candidates"] for p in predictions if run.broken["twemoji"] in p["candidates"]]
        assert rankings and all(ranking[-1] == run.broken["twemoji"] for ranking in rankings)


@contextmanager
def edited(path, old, new):
    """Let a file say `new` where it says `old`, for a while."""
    text, times = path.read_text(encoding="utf-8"), path.stat()
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_another_learning_rate_trains_again_and_what_follows(run):
    write_yaml(run.project / "rate.yaml", {"training": {"learning_rate": 0.5}})
    jobs = planned(run.project, presets=("tiny.yaml", "rate.yaml"))
    assert set(jobs) == {"train", "predict", "score"} | AFTER_SCORING
    assert jobs["score"] == 1  # what zero_shot scored stays


def test_words_about_the_training_change_nothing(run):
    loop = run.project / "polclip" / "training" / "loop.py"
    with edited(loop, '"""', '"""Another word. '), edited(loop, "import shutil\n", "import shutil  # A comment.\n\n"):
        assert planned(run.project) == {}


def test_another_scorer_scores_again_and_predicts_nothing(run):
    scorer = run.project / "polclip" / "evaluation" / "visual.py"
    with edited(scorer, "np.zeros(len(gold))", "np.full(len(gold), 0.5)"):
        jobs = planned(run.project)
    assert set(jobs) == {"score", "score_textual"} | AFTER_SCORING
    assert (jobs["score"], jobs["score_textual"]) == (2, 1)


def test_one_output_asks_only_for_what_it_needs(run):
    jobs = planned(run.project, "--forceall", "results/tiny/scores/first_sense/seed-1/wordnet_examples.json")
    assert jobs == dict.fromkeys(("download", "inventory", "wordnet_examples", "baseline_textual", "score_textual"), 1)


def complaints(done):
    """By rule, what a failed run says itself, beside what Snakemake adds; never a traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    rules = "download|render_pictures|wordnet_examples|write_definitions"
    return sorted(set(re.findall(f"^(?:{rules}): .*$", done.stderr, re.MULTILINE)))


def test_bad_input_is_refused_in_a_sentence_each_and_leaves_nothing_half_written(tmp_path, mirror):
    shutil.copytree(mirror, tmp_path / "mirror")
    manifest = read_manifest(ROOT)
    wrong, cut = (tmp_path / "mirror" / manifest[f"iconify_{style}"]["file"] for style in ("noto", "emojione"))
    cut.write_bytes(cut.read_bytes()[:-100])  # and the manifest, made below, knows no better
    project = make_project(tmp_path / "project", tmp_path / "mirror")
    wrong.write_bytes(wrong.read_bytes()[:-1] + b"?")
    table = project / "polclip" / "corpora" / "tables" / "picture_senses.tsv"
    table.write_text(table.read_text().replace("mouse%1:06:01::", "mouse%1:06:09::"))
    write_yaml(project / "no_test.yaml", {"corpora": {"wordnet_examples": {"test_fraction": 1e-9}}})
    tables = [f"results/tiny/pictures/{style}.parquet" for style in STYLES]
    examples = "results/tiny/corpora/wordnet_examples/test.parquet"
    done = snakemake(project, "--keep-going", *tables, examples, presets=("tiny.yaml", "no_test.yaml"))

    logs = (f"download/{cut.name}", f"download/{wrong.name}", "render_pictures/twemoji")
    logs = [project / f"results/tiny/logs/{log}.log" for log in (*logs, "wordnet_examples/wordnet_examples")]
    said = complaints(done)
    for complaint, log, expected in zip(
        said,
        logs,
        (
            f"`iconify_emojione`: .*{cut.name} is broken or cut off .* Replace or remove that file and run again",
            f"`iconify_noto`: .*{wrong.name} has sha256 .* where the manifest says",
            r"picture_senses\.tsv:5: unknown sense key 'mouse%1:06:09::'",
            r".* gave 48 instances to train and 0 to test on; both must be above 0\.",
        ),
        strict=True,
    ):
        sentence = complaint.partition(": ")[2]
        assert re.match(expected, sentence), complaint
        assert sentence in log.read_text(encoding="utf-8")
    written = [path for folder in ("results", "resources") for path in (project / folder).rglob("*") if path.is_file()]
    beside = {"logs", "benchmarks"}
    assert {path.parent.name for path in written if not beside & {*path.parts}} == {"archives", "inventory"}
    assert not any((project / "resources" / "archives" / file.name).exists() for file in (cut, wrong))


def test_without_a_key_only_definitions_by_openai_fail(run, tmp_path):
    assert "OPENAI_API_KEY" not in surroundings(run.project)  # the finished run needed none
    project = shutil.copytree(run.project, tmp_path / "project")
    write_yaml(project / "asked.yaml", {"definitions": {"source": "openai"}})
    target = "results/tiny/definitions/hard.test.jsonl"
    done = snakemake(project, target, presets=("tiny.yaml", "asked.yaml"))
    assert rules_of(done.stderr) == ["plan_definitions"] and ": Definitions of hard/test." in done.stderr
    (said,) = complaints(done)
    assert said.startswith("write_definitions: The environment variable OPENAI_API_KEY is not set: type `export")
    assert not (project / target).exists()


def test_a_text_tower_is_trained_on_words_in_windows_and_its_folder_scores_both_tasks(run, tmp_path):
    project = shutil.copytree(run.project, tmp_path / "project")
    own = {"trainable_text_blocks": 1, "word_states": "target", "sense_dropout": 0.5}
    table = {"sense_table": True, "pictures_every": 2, "max_steps": None}
    experiments = {
        "still": {"model": {**own, "trainable_text_blocks": 0}, "training": table},
        "tower": {"model": own, "training": {**table, "start_from": "still"}},
    }
    write_yaml(
        project / "tower.yaml", {"encoder": {"context_words": 20, "text_precision": "bf16"}, "experiments": experiments}
    )
    target = "results/tiny/scores/tower/seed-1/hard.json"
    said = succeed(snakemake(project, target, presets=("tiny.yaml", "tower.yaml")))
    # The windows are other texts; the pictures stay as they are.
    made = rules_of(said)
    assert set(made) == {"collect_texts", "embed_texts", "align_towers", "train", "predict", "score"}
    assert made.count("train") == 2
    model = read_json(project / "results/tiny/models/tower/seed-1/config.json")
    assert model["text_transformer"]["hidden_size"] == 16 and model["model"]["trainable_text_blocks"] == 1
    assert model["text_precision"] == "bf16"
    assert model["senses"] and "_name_or_path" not in model["text_transformer"]
    lines = list(read_json_lines(project / "results/tiny/models/tower/seed-1/metrics.jsonl"))
    assert {line["loss_sig"] > 0 for line in lines if "loss_sig" in line} == {True, False}  # with pictures, and without
    scores = read_json(project / "results/tiny/scores/tower/seed-1/wordnet_examples.json")
    assert next(row["n"] for row in scores["rows"] if row["subset"] == "all") > 0


def test_a_model_of_the_run_is_used_with_its_index_and_answers_as_the_run_predicted(run, run_in_use):
    assert rules_of(run_in_use.said) == ["gloss_index", "index"]
    assert rules_of(succeed(snakemake(run.project, "index"))) == []
    used = run_in_use.opened
    assert len(used.index.synset_ids) == SENSES
    instances = list(read_records(run.results / "corpora/wordnet_examples/test.parquet", TextualInstance))
    answers = used.senses([x.text for x in instances], [x.target_span for x in instances], [x.pos for x in instances])
    predictions = list(read_json_lines(run.results / "predictions/main/seed-1/wordnet_examples.jsonl"))
    for answer, prediction in zip(answers, predictions, strict=True):
        assert [sense.sense_key for sense in answer.words[0].senses] == prediction["candidates"]
        scores = [sense.score for sense in answer.words[0].senses]
        assert scores == pytest.approx(prediction["scores"], abs=2e-2)
