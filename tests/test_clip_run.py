"""The workflow with a CLIP in place of the pair: trained, ablated, evaluated, and read from a folder."""

import re

import pandas as pd
import pytest
from tiny_clip import SETTINGS, write_clip
from tiny_project import make_mirror, make_project, planned, snakemake, write_yaml
from tiny_run import rules_of, succeed

from polclip import Disambiguator
from polclip.files import read_json, read_json_lines

MODEL = {
    "reused_blocks": SETTINGS.reused_blocks,
    "trainable_text_blocks": SETTINGS.trainable_text_blocks,
    "image_positions": SETTINGS.image_positions,
    "feed_forward": SETTINGS.feed_forward,
    "heads": SETTINGS.heads,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip_run")
    project = make_project(folder / "project", make_mirror(folder / "mirror"))
    own = {"clip_architecture": write_clip(folder / "clip"), "clip_weights": "", "grid": None}
    overlay = {
        "name": "clip",
        "encoder": {"kind": "clip", "trainable_image_blocks": 1, **own},
        "model": MODEL,
        "experiments": {"first_sense": None, "ready": {"checkpoint": "results/clip/models/main/seed-1"}},
        "ablations": {
            "as_released": {"model": {"reused_blocks": 2}},
            "no_definitions": {"seeds": [1]},
            **dict.fromkeys(["no_sig", "no_isg", "no_fusion", "no_momentum", "text_only", "image_only"]),
        },
    }
    write_yaml(project / "clip.yaml", overlay)
    said = succeed(snakemake(project, "all", "ablations", presets=("tiny.yaml", "clip.yaml")))
    return project, project / "results" / "clip", said


def test_nothing_is_aligned_and_each_model_is_trained_once(run):
    _, _, said = run
    made = rules_of(said)
    assert "align_towers" not in made
    assert made.count("train") == 3 and made.count("use_checkpoint") == 1  # main, as_released, no_definitions
    assert re.search(r"\d pictures need \d+\.\d kB of disk", said)


def test_the_models_are_the_papers_with_the_settings_of_their_experiment(run):
    _, results, _ = run
    main, released = (read_json(results / f"models/{name}/seed-1/config.json") for name in ("main", "as_released"))
    assert main["kind"] == "clip" and main["clip"]["embed_dim"] == 16
    assert (main["model"]["w2i_text"], main["model"]["momentum"]) == ("word", 0.995)
    assert (released["model"]["w2i_text"], released["model"]["momentum"]) == ("caption", None)
    assert main["model"]["trainable_image_blocks"] == 1
    lines = list(read_json_lines(results / "models/main/seed-1/metrics.jsonl"))
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4] and lines[-1]["loss_sig"] > 0


def test_each_model_tells_what_it_is_used_with_a_checkpoint_too(run):
    _, results, _ = run
    told = read_json(results / "models/main/seed-1/encoders.json")
    assert told["kind"] == "clip" and told["preprocess"]["size"] in (32, [32, 32]) and told["text"] is None
    assert told["inventory"]["sha256"] and told["query_forms"] == ["photo"]
    assert read_json(results / "models/ready/seed-1/encoders.json") == told
    used = Disambiguator.from_pretrained(results / "models/ready/seed-1", download=False)  # the run's inventory
    assert len(used.senses("a bat", "bat").words[0].senses) == 2


def test_a_checkpoint_scores_as_the_model_it_names(run):
    _, results, _ = run
    for benchmark in ("wordnet_examples", "unseen_style", "hard"):
        one, other = (
            (results / f"predictions/{name}/seed-1/{benchmark}.jsonl").read_bytes() for name in ("main", "ready")
        )
        assert one == other


def test_the_table_of_ablations_compares_all_with_main(run):
    _, results, _ = run
    table = pd.read_csv(results / "tables/ablations.tsv", sep="\t")
    assert set(table["experiment"]) == {"main", "zero_shot", "ready", "as_released", "no_definitions"}
    for benchmark, rows in table.groupby("benchmark"):
        value = rows.set_index("experiment")["value"]
        difference = rows.set_index("experiment")["difference"]
        assert len(rows) == 5 and difference["main"] == difference["ready"] == 0, benchmark
        assert difference["zero_shot"] == pytest.approx(value["zero_shot"] - value["main"], abs=0.011)


def test_a_change_of_what_is_stored_of_pictures_embeds_them_anew_and_nothing_of_the_texts(run):
    project, _, _ = run
    write_yaml(project / "frozen.yaml", {"encoder": {"trainable_image_blocks": 0}})
    jobs = planned(project, "models", presets=("tiny.yaml", "clip.yaml", "frozen.yaml"))
    assert jobs["embed_pictures"] == 3 and jobs["train"] == 1
    assert not {"embed_texts", "render_pictures", "inventory"} & set(jobs)
