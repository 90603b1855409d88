"""The workflow as a user meets it: what it would run, what it refuses, what an edit makes it do again."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_project import copy_workflow

ROOT = Path(__file__).parent.parent
DEMO = yaml.safe_load((ROOT / "presets" / "demo.yaml").read_text(encoding="utf-8"))


def small_preset():
    """A preset over presets/demo.yaml with one of each kind of job; what it leaves out is switched off."""
    families = {"noto": "train", "emojione": "dev", "openmoji": "test"}
    overlay = {
        "name": "small",
        "seeds": [42],
        "encoder": {"text_shards": 1},
        "pictures": {
            "styles": {
                name: {**style, "family": families[name]} if name in families else None
                for name, style in DEMO["pictures"]["styles"].items()
            },
            "dev_families": ["dev"],
            "test_families": ["test"],
        },
        "experiments": dict.fromkeys([*DEMO["experiments"], "lesk", "random", "zero_shot"]) | {"main": {}},
    }
    return yaml.safe_dump(overlay)


def run(command, *arguments, folder=ROOT):
    """Run a program of this environment without a key, and give what it said."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    environment["PYTHONPATH"] = ""
    return subprocess.run(
        [Path(sys.executable).parent / command, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def dry_run(folder, *arguments):
    """The rules that would run, with how many jobs each."""
    done = run("snakemake", "-n", "--directory", folder, *arguments, folder=folder)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    stats = said.split("Job stats:")[1].split("\n\n")[0] if "Job stats:" in said else ""
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE)}
    jobs.pop("total", None)
    return jobs


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the workflow, so that no test sees results or leaves some."""
    return copy_workflow(tmp_path_factory.mktemp("workflow"))


def test_the_papers_reproduction_builds_without_network_key_or_gpu(copy):
    jobs = dry_run(copy)
    for rule in (
        "download",
        "image_senses",
        "sense_pictures",
        "vwsd",
        "semcor",
        "write_definitions",
        "train",
        "report",
    ):
        assert jobs[rule] >= 1
    assert jobs["train"] == 1 and jobs["embed_texts"] == 8 and jobs["embed_pictures"] == 4 * 8


def test_the_demo_builds(copy):
    jobs = dry_run(copy, "--configfile", "presets/demo.yaml")
    seeds = len(DEMO["seeds"])
    assert jobs["align_towers"] == seeds
    assert jobs["train"] == jobs["predict"] >= 3 * seeds  # main, text_only, no_fusion
    assert jobs["baseline"] >= 2 and jobs["baseline_textual"] == jobs["score_textual"] == 2
    assert jobs["score"] == jobs["train"] + jobs["baseline"]
    assert not {"semcor", "vwsd", "image_senses"} & set(jobs)


def test_a_single_output_asks_for_what_it_needs_and_no_more(copy):
    jobs = dry_run(copy, "results/paper/scores/first_sense/seed-42/ALL.json")
    # The training corpora tell which lemmas and senses are seen.
    assert set(jobs) == {
        "download", "inventory", "unified_wsd", "hard_benchmark", "baseline_textual", "score_textual",
        "semcor", "image_senses",
    }  # fmt: skip
    assert "train" in dry_run(copy, "results/paper/predictions/main/seed-7/prediction.vwsd_it.it.txt")


def test_baselines_that_ask_no_tower_need_none(copy, tmp_path):
    overlay = {
        "name": "baselines",
        "corpora": {"visual": {"train": []}},
        "experiments": dict.fromkeys(["main", "zero_shot"]),
        "definitions": {"source": "none"},
    }
    (tmp_path / "baselines.yaml").write_text(yaml.safe_dump(overlay))
    jobs = dry_run(copy, "--configfile", tmp_path / "baselines.yaml")
    assert "report" in jobs and not {"embed_texts", "embed_pictures", "train"} & set(jobs)
    said = run("snakemake", "-n", "--directory", copy, "--configfile", tmp_path / "baselines.yaml").stdout
    assert "test_images_resized.zip" in said and "clip_vit_l_14" not in said


def definitions_read(said):
    """By rule and experiment of the planned jobs, the definitions among their inputs."""
    found = {}
    for job in re.split(r"^(?:local)?rule ", said, flags=re.MULTILINE)[1:]:
        experiment = re.search(r"experiment=(\w+)", job)
        read = re.search(r"input: (.*)", job)
        found[job.partition(":")[0], experiment and experiment[1]] = set(
            re.findall(r"/definitions/(\S+)\.jsonl", read[1] if read else "")
        )
    return found


def test_definitions_are_of_whom_the_settings_say_and_of_no_training_set(copy, tmp_path):
    visual = {"vwsd.vwsd_en", "vwsd.vwsd_it", "vwsd.vwsd_fa"}
    hard = {f"hard_benchmark.{name}" for name in ("ALLamended", "S10amended", "42D", "hardEN", "softEN")}
    tests, dev = visual | hard | {"unified_wsd.ALL"}, {"vwsd_train.train", "unified_wsd.semeval2007"}
    targets = [
        f"results/paper/predictions/{name}/seed-42/ALL.jsonl" for name in ("main", "no_definitions", "zero_shot")
    ]
    for of, tested, developed in (
        (["visual"], visual, {"vwsd_train.train"}),
        (["textual", "visual"], tests, dev),
    ):
        (tmp_path / "of.yaml").write_text(yaml.safe_dump({"definitions": {"of": of}}))
        said = run("snakemake", "-n", *targets, "--directory", copy, "--configfile", tmp_path / "of.yaml").stdout
        read = definitions_read(said)
        assert read["collect_texts", None] == tested | developed
        assert said.count(": Definitions of ") == len(tested | developed)
        for experiment in ("main", "no_definitions"):
            with_them = experiment == "main"
            assert read["predict", experiment] == (tested if with_them else set())
            assert read["train", experiment] == (developed if with_them else set())
        assert read["baseline", "zero_shot"] == tested


def test_corrected_labels_stand_beside_the_old_ones_in_every_table(copy, tmp_path):
    named = ["hard_benchmark/ALLamended", "hard_benchmark/42D", "unified_wsd/ALL"]
    (tmp_path / "order.yaml").write_text(yaml.safe_dump({"corpora": {"textual": {"test": named}}}))
    tables = [f"results/paper/tables/{name}.tsv" for name in ("scores", "significance", "ablations", "corpora")]
    overlay = ("--directory", copy, "--configfile", tmp_path / "order.yaml")
    said = run("snakemake", "-n", *tables, "results/paper/report/index.html", *overlay).stdout
    for rule in ("tables", "ablations", "data_page", "report"):
        read = re.search(rf"^rule {rule}:\n    input: (.*)", said, re.MULTILINE)[1]
        found = re.findall(r"/(ALLamended|42D|ALL)\.", read)
        assert found and not len(found) % 3, rule
        assert set(zip(*[iter(found)] * 3, strict=True)) == {("42D", "ALL", "ALLamended")}, rule


def test_the_languages_of_vwsd_are_scored_together_too(copy):
    assert "score" in dry_run(copy, "results/paper/scores/main/seed-42/vwsd.json")


def test_the_test_queries_of_vwsd_need_no_training_set_and_the_trial_no_test_set(copy, tmp_path):
    overlay = {
        "name": "trial",
        "corpora": {"visual": {"train": [], "dev": [], "test": ["vwsd_train/trial"]}},
        "experiments": dict.fromkeys(["main", "lesk", "zero_shot", "first_sense"]),
    }
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(overlay))
    asked = "results/trial/predictions/random/seed-42/prediction.trial.en.txt"
    jobs = dry_run(copy, asked, "--configfile", tmp_path / "trial.yaml")
    assert {"vwsd_train", "vwsd_train_pictures"} <= set(jobs) and not {"vwsd", "vwsd_pictures"} & set(jobs)
    jobs = dry_run(copy, "results/paper/corpora/vwsd/vwsd_fa.parquet")
    assert set(jobs) == {"download", "vwsd", "vwsd_pictures"} and jobs["download"] == 2


def test_corpora_beside_the_papers_can_be_named(copy, tmp_path):
    overlay = {
        "name": "more",
        "corpora": {
            "textual": {
                "train": ["semcor_unified/train"],
                "dev": ["xl_wsd/xl_en_dev"],
                "test": ["xl_wsd/xl_it", "xl_wsd/xl_en", "xl_wsd/xl_en_without_semeval2010"],
            },
            "visual": {"train": ["image_vwsd_kb/pictures", "babelpic/pictures"]},
            "xl_wsd": {"sense_mapping": str(tmp_path / "mapping.tsv")},
        },
    }
    (tmp_path / "mapping.tsv").write_text("bn:00000001n\twn:00001740n\n")
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(overlay))
    jobs = dry_run(copy, "--configfile", tmp_path / "more.yaml")
    assert jobs["xl_wsd"] == jobs["semcor_unified"] == jobs["babelpic"] == jobs["inventory"] == jobs["train"] == 1
    assert not {"semcor", "unified_wsd", "hard_benchmark"} & set(jobs)
    official = "results/more/predictions/main/seed-42/xl_en_without_semeval2010.key.txt"
    assert "predict" in dry_run(copy, official, "--configfile", tmp_path / "more.yaml")
    # Without the table what reads no gloss can still be had, and asks for no features.
    del overlay["corpora"]["xl_wsd"]
    overlay["corpora"]["visual"] = {"train": ["image_vwsd_kb/pictures"]}
    overlay["experiments"] = dict.fromkeys(["main", "lesk", "zero_shot"])
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(overlay))
    first_sense = "results/more/scores/first_sense/seed-42/xl_it.json"
    jobs = dry_run(copy, first_sense, "--configfile", tmp_path / "more.yaml")
    assert set(jobs) == {"download", "inventory", "xl_wsd", "baseline_textual", "semcor_unified", "score_textual"}


def test_the_named_targets_exist(copy):
    targets = "all datasets inventory corpora definitions embeddings models index predictions scores report check_setup"
    listed = run("snakemake", "--list", "--directory", copy, folder=copy)
    assert set(targets.split()) <= set((listed.stdout + listed.stderr).split())


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        (
            "training: {learning_rat: 1}",
            "training.learning_rat: unknown key (its value is 1); did you mean learning_rate?",
        ),
        ("encoder: {kind: clop}", "encoder.kind: 'clop' is not allowed; allowed: pair | clip"),
        ("training: {epochs: 1, epochs: 2}", "overlay.yaml:1: the key 'epochs' is given twice (first in line 1)"),
        ("experiments: {no: {}}", "overlay.yaml:1: the key no is not text: YAML reads it as true or false."),
        ("seeds: &a [1, *a]", "overlay.yaml:1: an anchor contains itself."),
        ("inventory: {dataset: wordnt}", "inventory.dataset: 'wordnt' is no data set; did you mean wordnet?"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(copy, tmp_path, overlay, said):
    (tmp_path / "overlay.yaml").write_text(overlay)
    done = run("snakemake", "-n", "--directory", copy, "--configfile", tmp_path / "overlay.yaml", folder=copy)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_odd_config_yaml_is_refused_before_snakemake_stumbles_over_it(tmp_path):
    copy = copy_workflow(tmp_path / "workflow")
    config = (copy / "config.yaml").read_text(encoding="utf-8")
    (copy / "config.yaml").write_text(config.replace("\nablations:", "\nablations: &a {x: *a}\n_:"), encoding="utf-8")
    done = run("snakemake", "-n", folder=copy)
    assert done.returncode != 0
    assert re.search(r"config\.yaml:\d+: an anchor contains itself", done.stdout + done.stderr)
    assert "RecursionError" not in done.stdout + done.stderr


def test_lint_and_format_are_clean(copy):
    lint = run("snakemake", "--lint", folder=ROOT)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    form = run("snakefmt", "--check", "Snakefile", "rules")
    assert form.returncode == 0, form.stdout + form.stderr


def test_a_rule_has_a_script_of_its_name_and_the_script_is_thin():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    rules = dict(
        re.findall(r'^rule (\w+):(?:(?!^rule ).)*?workflow_scripts/(\w+)\.py"$', text, re.MULTILINE | re.DOTALL)
    )
    scripts = {path.stem: path for path in (ROOT / "workflow_scripts").glob("*.py")}
    assert set(rules) == set(rules.values()) == set(scripts)
    for path in scripts.values():
        source = path.read_text(encoding="utf-8")
        assert "with rule_log(snakemake)" in source
        assert len(source.splitlines()) < 60 and "\ndef " not in source


def test_the_package_does_not_know_snakemake():
    for path in (ROOT / "polclip").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) snakemake", path.read_text(encoding="utf-8"), re.MULTILINE), path


@pytest.fixture(scope="module")
def finished(copy):
    """A run of the small preset that looks finished: every output is there and recorded as made."""
    (copy / "small.yaml").write_text(small_preset())
    presets = ("--configfile", "presets/demo.yaml", "small.yaml")
    planned = run("snakemake", "-n", "--directory", copy, *presets, folder=copy)
    outputs = re.findall(r"^    output: (.*)$", planned.stdout + planned.stderr, re.MULTILINE)
    for name in ", ".join(outputs).split(", "):
        path = copy / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    touched = run("snakemake", "--cores", 1, "--touch", "--forceall", "--directory", copy, *presets, folder=copy)
    assert touched.returncode == 0, touched.stdout + touched.stderr
    assert dry_run(copy, *presets) == {}
    return copy, presets


@pytest.fixture
def edited(finished):
    """Edit files of the finished run, and see what would run; the files are put back at the end."""
    copy, presets = finished
    kept = {}

    def edit(name, change, *arguments):
        path = copy / name
        kept.setdefault(path, (path.read_text(encoding="utf-8"), path.stat()))
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
        return set(dry_run(copy, *presets, *arguments))

    yield edit
    for path, (text, stat) in kept.items():
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


AFTER_TRAINING = {"train", "predict", "score", "tables", "costs", "provenance", "report", "all"}


def test_an_edit_of_the_learning_rate_trains_again_and_what_follows(edited):
    assert edited("small.yaml", lambda text: text + "training: {learning_rate: 0.5}\n") == AFTER_TRAINING


def test_a_comment_edit_runs_nothing(edited):
    assert edited("polclip/training/loop.py", lambda text: "# A comment.\n" + text) == set()
    assert edited("config.yaml", lambda text: text + "# A comment.\n") == set()
    assert edited("rules/train.smk", lambda text: "# A comment.\n" + text) == set()


# Without a flag Snakemake takes profiles/default. The plugin of profiles/kubernetes is not installed with the package.
PROFILES = [(), *(("--workflow-profile", f"profiles/{name}") for name in ("slurm", "generic_cluster"))]


@pytest.mark.parametrize("profile", PROFILES)
def test_only_a_real_edit_of_a_script_runs_its_rule(edited, profile):
    script = "workflow_scripts/train.py"
    assert edited(script, lambda text: text, *profile) == set()  # written again: a new date
    assert edited(script, lambda text: f'"""Another docstring."""\n# A comment.\n{text}', *profile) == set()
    assert edited(script, lambda text: text + "\nNEW = 1\n", *profile) == AFTER_TRAINING


def test_no_profile_compares_the_dates_of_scripts():
    for path in (ROOT / "profiles").glob("*/config.yaml"):
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert profile["rerun-triggers"] == ["mtime", "params", "input", "software-env"], path


def test_every_rule_with_outputs_has_the_fingerprint_of_its_script():
    for path in (ROOT / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            script = re.search(r"workflow_scripts/(\w+)\.py", rule)
            # An archive has its checksum; check_setup always runs.
            if script and script[1] not in ("download", "check_setup"):
                assert re.search(rf'code=code_of\(\s*"{script[1]}"', rule), rule


def test_every_job_asks_for_more_when_it_is_tried_again():
    # A second training goes on where the first was, so its time stays.
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    fixed = re.findall(r"^ +(?:mem_mb|runtime)=(?!growing\().*", text, re.MULTILINE)
    assert [line.split("#")[0].strip() for line in fixed] == ["runtime=2880,"]


def test_a_gpu_is_reserved_where_it_is_used():
    for path in (ROOT / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            script = (
                ROOT
                / "workflow_scripts"
                / f"{re.findall(r'workflow_scripts/(.*)[.]py', rule + ' workflow_scripts/all.py')[0]}.py"
            )
            used = script.exists() and 'config["machine"]["device"]' in script.read_text(encoding="utf-8")
            assert ("gpu=GPUS" in rule) == used, rule


def test_an_edit_of_a_template_makes_the_pages_again(edited):
    jobs = edited("polclip/reporting/templates/report.css", lambda text: text + "b {}\n")
    assert {"report", "data_page"} <= jobs and not {"tables", "train"} & jobs


def test_a_real_edit_of_a_module_runs_the_rules_that_use_it(edited):
    training = edited("polclip/training/loop.py", lambda text: text + "\nNEW = 1\n")
    assert training == AFTER_TRAINING
    words = edited("polclip/corpora/wordnet_examples.py", lambda text: text + "\nNEW = 1\n")
    assert {"wordnet_examples", "collect_texts", "baseline_textual"} <= words
    assert not {"download", "inventory", "render_pictures", "embed_pictures"} & words


def test_a_real_edit_of_the_scorer_trains_nothing(edited):
    jobs = edited("polclip/evaluation/scores.py", lambda text: text + "\nNEW = 1\n")
    assert {"score", "score_textual", "tables"} <= jobs
    assert not {"train", "align_towers", "embed_texts"} & jobs


def test_a_setting_of_rendering_does_not_touch_the_textual_side(edited):
    jobs = edited("small.yaml", lambda text: text.replace("pictures:\n", "pictures:\n  size: 96\n"))
    assert {"render_pictures", "embed_pictures", "picture_corpora"} <= jobs
    assert not {"inventory", "wordnet_examples", "baseline_textual", "score_textual"} & jobs
