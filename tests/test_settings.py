"""Settings are checked before anything runs, and a wrong one says what is wrong, allowed and to type."""

import copy
import datetime
import json
import re
from pathlib import Path

import pytest
import yaml

from polclip import settings
from polclip.errors import UserError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def paper():
    return yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def laid_over(base, overlay):
    base = copy.deepcopy(base)
    for key, value in overlay.items():
        base[key] = laid_over(base.get(key) or {}, value) if isinstance(value, dict) else value
    return base


def complaint(config, datasets=()):
    with pytest.raises(UserError) as caught:
        settings.check(config, datasets)
    return str(caught.value)


@pytest.mark.parametrize("preset", [None, *sorted((ROOT / "presets").glob("*.yaml"))])
def test_the_settings_of_the_repository_are_right(paper, preset):
    datasets = yaml.safe_load((ROOT / "rules" / "datasets.yaml").read_text(encoding="utf-8"))
    overlay = yaml.safe_load(preset.read_text(encoding="utf-8")) if preset else {}
    checked = settings.check(laid_over(paper, overlay), datasets)
    assert checked["name"] == (preset.stem if preset else "paper")


def test_every_key_of_the_schema_must_be_there(paper):
    del paper["training"]["epochs"], paper["seeds"], paper["machine"]["threads"]["train"]
    message = complaint(paper)
    assert "training.epochs: missing" in message
    assert "seeds: missing" in message
    assert "machine.threads.train: missing" in message


def test_every_key_is_explained_in_config_yaml_by_a_comment():
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    schema = settings.complete_schema()
    for key in schema["required"]:
        assert f"\n{key}:" in text
    for block in ("alignment", "model", "training"):
        for key in schema["properties"][block]["required"]:
            assert f"\n  {key}:" in text


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ({"training": {"lerning_rate": 1}}, ["training.lerning_rate", "unknown", "did you mean learning_rate?"]),
        ({"colour": "red"}, ["colour", "'red'", "unknown", "allowed: name, "]),
        ({"encoder": {"kind": "clop"}}, ["encoder.kind", "'clop'", "pair | clip", "kind: clip"]),
        ({"model": {"momentum": 1}}, ["model.momentum", "a number or null, at least 0, below 1", "momentum: 0.995"]),
        ({"training": {"epochs": "many"}}, ["training.epochs", "'many'", "a whole number"]),
        ({"seeds": [1, 1]}, ["seeds", "[1, 1]", "each item once"]),
        ({"seeds": []}, ["seeds", "[]"]),
        ({"name": "a b"}, ["name", "'a b'"]),
        ({"corpora": {"visual": {"dev": ["trial"]}}}, ["corpora.visual.dev.0", "'trial'"]),
        ({"experiments": {"main": {"model": {"widht": 1}}}}, ["experiments.main.model.widht", "did you mean width?"]),
        ({"experiments": {"main": {"training": {"epochs": 0}}}}, ["experiments.main.training.epochs", "at least 1"]),
        ({"experiments": {"x": {"baseline": "best"}}}, ["experiments.x.baseline", "random | first_sense"]),
        ({"experiments": {"a b": {}}}, ["'a b'", "cannot be a name"]),
        ({"definitions": {"of": ["pictures"]}}, ["definitions.of.0", "'pictures'", "visual | textual"]),
        ({"definitions": {"of": ["visual", "visual"]}}, ["definitions.of", "each item once", "- visual"]),
        ({"corpora": {"vwsd": {"missing_pictures": "hide"}}}, ["corpora.vwsd.missing_pictures", "keep | drop"]),
        ({"pictures": {"styles": {"noto": {"dataset": "x"}}}}, ["pictures.styles.noto.family: missing"]),
    ],
)
def test_a_wrong_setting_names_key_value_and_what_is_allowed(paper, overlay, said):
    message = complaint(laid_over(paper, overlay))
    for part in said:
        assert part in message


def test_a_number_that_yaml_reads_as_text_is_told_from_a_text(paper):
    config = laid_over(paper, yaml.safe_load("training: {learning_rate: 1e-3}"))
    message = complaint(config)
    assert "training.learning_rate: '1e-3'" in message and "write 0.001" in message


@pytest.mark.parametrize(
    ("definitions", "said"),
    [
        (
            {"temperature": 0.5},
            "definitions.temperature: replaced. Write definitions: {parameters: {temperature: 0.5}}",
        ),
        (
            {"max_tokens": 80},
            "definitions.max_tokens: replaced. Write definitions: {parameters: {max_completion_tokens: 80",
        ),
        ({"parameters": {"n": 3}}, "definitions.parameters.n: not allowed"),
        ({"parameters": {"stream": False}}, "definitions.parameters.stream: not allowed"),
        ({"parameters": {"model": "x"}}, "definitions.parameters.model: not allowed"),
        ({"parameters": {"max_completion_tokens": True}}, "a whole number, at least 1, or null"),
        ({"parameters": {"max_tokens": 0}}, "definitions.parameters.max_tokens: 0 is not allowed"),
        ({"parameters": {"top_p": float("nan")}}, "definitions.parameters.top_p: nan cannot be sent"),
        ({"parameters": {"service_tier": "priority"}}, "'priority' has other prices"),
        ({"parameters": {True: 1}}, "definitions.parameters: the key true is not text"),
        ({"parameters": None}, "definitions.parameters: null is not allowed"),
        ({"base_url": "localhost:8000/v1"}, "is not an address; allowed: one that begins with http://"),
        ({"base_url": "http://"}, "is not an address"),
        ({"base_url": "http://localhost/v1/chat/completions/"}, "ends in the name of an endpoint"),
        ({"model": " "}, "definitions.model: empty"),
        ({"finetuning": {"corpus": "training"}}, "OpenAI does not fine-tune 'gpt-6-luna'. Allowed: "),
    ],
)
def test_what_a_language_model_cannot_be_asked_with_is_refused(paper, definitions, said):
    assert said in complaint(laid_over(paper, {"definitions": definitions}))


def test_parameters_of_any_server_are_taken_as_they_are(paper):
    parameters = {"max_tokens": 60, "max_completion_tokens": None, "chat_template_kwargs": {"enable_thinking": False}}
    checked = settings.check(laid_over(paper, {"definitions": {"parameters": parameters, "base_url": "http://h:1/v1"}}))
    assert checked["definitions"]["parameters"] == {"reasoning_effort": "none"} | parameters


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ("training: {learning_rate: 2e-5}", "since YAML reads it as text (write 0.00002)"),
        ("training: {learning_rate: 1E-12}", "(write 0.000000000001)"),
        ("training: {weight_decay: '1.50'}", "(write 1.5)"),
        ("training: {epochs: 1E5}", "(write 100000)"),
        ("training: {epochs: 3.0}", "training.epochs: 3.0 is not allowed (write 3)"),
        ("seeds: [08]", "seeds.0: '08' is not allowed since YAML reads it as text (write 8)"),
        (
            "training: {precision: no}",
            'YAML reads no, off and false as false: put it in quotes; allowed: "no" | bf16 |',
        ),
        ("definitions: {model: 4.1}", "definitions.model: 4.1 is not allowed: put it in quotes; allowed: text"),
        ("archives_mirror: 2026-01-31", "since YAML reads it as a date: put it in quotes"),
    ],
)
def test_advice_is_read_by_yaml_as_it_is_meant(paper, overlay, said):
    message = complaint(laid_over(paper, yaml.safe_load(overlay)))
    assert said in message
    for number in re.findall(r"\(write ([^)]*)\)", message):
        assert isinstance(yaml.safe_load(number), int | float)


@pytest.mark.parametrize(
    "overlay",
    [
        *("training: {epochs: 2e-5}", "training: {learning_rate: nan}", "training: {learning_rate: 1e999}"),
        *("training: {learning_rate: -1e-5}", "training: {learning_rate: fast}", "training: {rise: 2e0}"),
    ],
)
def test_no_advice_is_given_that_would_be_refused(paper, overlay):
    message = complaint(laid_over(paper, yaml.safe_load(overlay)))
    assert "(write" not in message and "allowed: a " in message


@pytest.mark.parametrize("key", [False, True, None, 1, 1.5, datetime.date(2026, 1, 31)])
@pytest.mark.parametrize("block", ["experiments", "ablations", "training"])
def test_a_key_that_is_not_text_is_refused_with_its_block(paper, block, key):
    paper[block] = {**paper[block], key: {}}
    written = json.dumps(key, default=str).strip('"')
    assert f"- {block}: the key {written} is not text" in complaint(paper)


@pytest.mark.parametrize("seed", [10**20, 2**31, -1, 1.5, 1.0, True, "1", None, float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["seeds", "corpora.wordnet_examples.seed", "pictures.split.seed", "evaluation.seed"])
def test_a_seed_is_a_whole_number_that_torch_takes(paper, place, seed):
    *above, last = place.split(".")
    block = paper
    for key in above:
        block = block[key]
    block[last] = [seed] if place == "seeds" else seed
    message = complaint(paper)
    assert f"- {place}" in message and "a whole number, at least 0, at most 2147483647" in message


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), True])
def test_a_number_is_finite(paper, number):
    assert "training.learning_rate: " in complaint(laid_over(paper, {"training": {"learning_rate": number}}))


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "1", "a.b", "é", "x" * 65, "x" * 300, "ab" * 25, "a\n"])
def test_a_name_that_cannot_be_a_folder_is_refused(paper, name):
    style = {"dataset": "a", "family": "a", "vocabulary": "emoji"}
    for overlay in (
        *({"experiments": {name: {}}}, {"ablations": {name: {}}}, {"experiments": {"x": {"seeds": [1]}, name: {}}}),
        *({"pictures": {"styles": {name: style}}}, {"corpora": {"own": {name: "."}}}),
    ):
        message = complaint(laid_over(paper, overlay))
        assert "name" in message and len(message) < 1000
    if name != "ab" * 25:  # which is no wildcard
        assert "- name: " in complaint(laid_over(paper, {"name": name}))
    settings.check(laid_over(paper, {"experiments": {"x1-_" * 16: {}, "no": {}}}))


def test_settings_that_contain_themselves_or_are_huge_are_refused(paper):
    recursive = {}
    recursive["x"] = recursive
    endless = [1]
    endless.append(endless)
    laughs = "x"
    for _ in range(9):
        laughs = [laughs] * 10
    for value in ({"experiments": recursive}, {"seeds": endless}, {"seeds": laughs}, {"name": [[recursive] * 9] * 9}):
        message = complaint({**paper, **value})
        assert "holds more than 100,000 values or 50 levels" in message and len(message) < 400
    assert len(complaint({**paper, "name": ["long"] * 50_000})) < 1000


def test_contradictions_are_refused(paper):
    style = {"dataset": "noto", "family": "noto", "vocabulary": "emoji"}
    overlay = {
        "corpora": {"textual": {"test": ["a/test", "b/a"]}},
        "pictures": {"styles": {"noto": style}, "dev_families": ["noto"], "test_families": ["noto", "mdi"]},
        "experiments": {
            "lesk": {"baseline": "lesk", "model": {"width": 8}},
            "bare": {"model": {"isg": False}},
            "ready": {"checkpoint": "models/mine", "training": {"epochs": 1}},
        },
        "ablations": {"main": {}},
    }
    message = complaint(laid_over(paper, overlay), ["wordnet", "clip_vit_l_14"])
    assert "second benchmark `a`" in message
    assert "'mdi' is the family of no style" in message
    assert "'noto' is among the dev_families too" in message
    assert "pictures.styles.noto.dataset: 'noto' is no data set" in message
    assert "experiments.lesk: a baseline trains nothing" in message
    assert "experiments.bare: fusion attends to what SIG and ISG generate" in message
    assert "experiments.ready: a checkpoint is only evaluated; take its keys training away" in message
    assert "ablations.main: the name is among the experiments too" in message


@pytest.mark.parametrize(
    ("start", "refused"),
    [
        ({"tower": "frozn"}, "experiments.tower.training.start_from: 'frozn' is no experiment"),
        ({"tower": "tower"}, "experiments.tower.training.start_from: 'tower' is no experiment"),
        ({"tower": "first_sense"}, "experiments.tower.training.start_from: 'first_sense' is no experiment"),
        ({"tower": "frozen", "frozen": "tower"}, "experiments.frozen.training.start_from: 'frozen' is no experiment"),
        ({"tower": "frozen", "frozen": "main"}, None),
        ({"tower": "ready"}, None),
    ],
)
def test_a_training_starts_from_an_experiment_that_can_be_there_before(paper, start, refused):
    experiments = {
        "frozen": {},
        "tower": {},
        "first_sense": {"baseline": "first_sense"},
        "ready": {"checkpoint": "models/mine"},
    }
    for name, other in start.items():
        experiments[name] = {"training": {"start_from": other}}
    overlay = laid_over(paper, {"experiments": experiments})
    if refused is None:
        settings.check(overlay)
    else:
        assert refused in (message := complaint(overlay)) and "allowed: " in message


def test_a_folder_of_ones_own_must_be_there(paper, tmp_path):
    own = {"corpora": {"own": {"kitchen": str(tmp_path / "kitchen")}}}
    assert "corpora.own.kitchen: the folder" in complaint(laid_over(paper, own))
    (tmp_path / "kitchen").mkdir()
    settings.check(laid_over(paper, own))
    assert "cannot be a name" in complaint(laid_over(paper, {"corpora": {"own": {"a b": "x"}}}))


def test_paid_definitions_that_no_text_carries_are_refused(paper):
    listed = {"query_forms": ["listed"]}
    message = complaint(laid_over(paper, {"definitions": listed}))
    assert message.count("\n- ") == 1 and "definitions.query_forms: only photo carries the definition" in message
    for harmless in ({"source": "none"}, {"of": ["textual"]}, {"of": []}):
        settings.check(laid_over(paper, {"definitions": {**listed, **harmless}}))
    settings.check(laid_over(paper, {"definitions": {"source": "released", "of": ["textual", "visual"]}}))


def test_babelnet_senses_need_a_mapping_where_glosses_are_read(paper, tmp_path):
    corpora = {
        "textual": {"test": ["xl_wsd/xl_it", "unified_wsd/ALL"]},
        "visual": {"train": ["babelpic/pictures"]},
    }
    message = complaint(laid_over(paper, {"corpora": corpora}))
    assert message.count("\n- ") == 1
    assert "the senses of xl_wsd/xl_it, babelpic/pictures are BabelNet's" in message
    assert "main, lesk, zero_shot" in message.replace("lesk, main", "main, lesk") and "first_sense" not in message
    assert "corpora.xl_wsd.sense_mapping" in message

    table = tmp_path / "mapping.tsv"
    corpora["xl_wsd"] = {"sense_mapping": str(table)}
    assert f"the file '{table}' is not there" in complaint(laid_over(paper, {"corpora": corpora}))
    table.touch()
    settings.check(laid_over(paper, {"corpora": corpora}))

    corpora["xl_wsd"] = {"sense_mapping": ""}
    settings.check(laid_over(paper, {"corpora": corpora, "experiments": dict.fromkeys(["main", "lesk", "zero_shot"])}))


@pytest.mark.parametrize("place", ["textual.train", "textual.dev", "visual.train", "visual.dev"])
@pytest.mark.parametrize("kind", ["pair", "clip"])
@pytest.mark.parametrize("tasks", [["textual"], ["visual"], ["textual", "visual"]])
def test_a_training_without_a_set_that_it_needs_is_refused(paper, place, kind, tasks):
    task, side = place.split(".")
    needed = task == "visual" if kind == "pair" else False
    needed |= task in tasks and (side == "train" or task == "visual" or tasks == ["textual"])
    ablations = dict.fromkeys(paper["ablations"])
    overlay = {"corpora": {task: {side: []}}, "encoder": {"kind": kind}, "training": {"tasks": tasks}}
    config = laid_over(paper, overlay | {"ablations": ablations})
    if needed:
        assert f"- corpora.{place}: [] is empty, and the " in complaint(config)
    else:
        settings.check(config)
    config |= {"ablations": paper["ablations"]}  # which nobody trains alone
    settings.check(config | {"experiments": {"lesk": {"baseline": "lesk"}, "mine": {"checkpoint": "models/mine"}}})


def test_fp16_on_a_cpu_is_refused(paper):
    ablations = dict.fromkeys(paper["ablations"])
    common = laid_over(paper, {"training": {"precision": "fp16"}, "ablations": ablations})
    settings.check(common)  # on a GPU
    own = laid_over(paper, {"experiments": {"quick": {"training": {"precision": "fp16"}}}})
    for config, name in ((common, "main"), (own, "quick")):
        message = complaint(laid_over(config, {"machine": {"device": "cpu"}}))
        assert f"experiments.{name}.training.precision: fp16 needs a GPU" in message


def test_null_switches_an_experiment_and_a_style_off(paper):
    overlay = {"experiments": {"lesk": None}, "pictures": {"styles": {"noto": None}}}
    checked = settings.check(laid_over(paper, overlay))
    assert "lesk" not in checked["experiments"] and "main" in checked["experiments"]
    assert checked["pictures"]["styles"] == {}


def test_an_experiment_lies_over_the_common_block(paper):
    config = laid_over(paper, {"experiments": {"narrow": {"model": {"width": 8}, "seeds": [7]}}})
    block = settings.experiment_block(config, "narrow", "model")
    assert block == {**paper["model"], "width": 8}
    assert settings.experiment_block(config, "narrow", "training") == paper["training"]
    assert settings.experiment_seeds(config, "narrow") == [7]
    assert settings.experiment_seeds(config, "main") == paper["seeds"]


def test_the_digest_knows_values_and_not_the_order_of_keys():
    assert settings.digest({"a": 1, "b": [1, 2]}) == settings.digest({"b": [1, 2], "a": 1})
    assert settings.digest({"a": 1, "b": [1, 2]}) != settings.digest({"a": 1, "b": [2, 1]})
    assert settings.digest({"a": 1}) != settings.digest({"a": "1"})


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("wordnet_examples/test", "wordnet_examples"),
        ("unified_wsd/ALL", "ALL"),
        ("dev_style/dev", "dev_style"),
        ("kitchen/texts", "kitchen"),
        ("kitchen/queries", "kitchen_queries"),
    ],
)
def test_the_name_of_a_benchmark(entry, name):
    assert settings.benchmark_of(entry) == name
