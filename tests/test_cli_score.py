import json
import re

import pytest
from typer.testing import CliRunner

from polclip.cli import app
from polclip.records import TextualInstance, write_records

GOLD = "d000.s000.t000 bat%1:05:00::\nd000.s000.t001 look_up%2:31:00:: look_up%2:35:01::\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "gold.txt").write_text(GOLD)
    (tmp_path / "right.txt").write_text("d000.s000.t001 look_up%2:35:01::\r\nd000.s000.t000 bat%1:05:00::\r\n")
    (tmp_path / "half.txt").write_text("d000.s000.t000 bat%1:05:00::\n")
    (tmp_path / "astray.txt").write_text("d000.s000.t000 bat%1:05:00::\nd000.s000.t009 bat%1:05:00::\n")
    (tmp_path / "other.txt").write_text("d000.s000.t009 bat%1:05:00::\n")
    pictures = [f"{letter}.jpg" for letter in "abcdefghij"]
    for folder in ("gold", "system"):
        (tmp_path / folder).mkdir()
    for language, gold in (("en", "a.jpg"), ("fa", "b.jpg")):
        (tmp_path / "gold" / f"{language}.test.gold.txt").write_text(f"{gold}\n")
        (tmp_path / "system" / f"prediction.{language}.txt").write_text("\t".join(pictures) + "\n")
    return tmp_path


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_textual_json_is_an_object_a_prediction_file(files):
    result = _run("score", "textual", files / "gold.txt", files / "right.txt", files / "half.txt", "--json")
    right, half = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 0
    assert (right["f1"], right["n"], right["answered"]) == (100, 2, 2)
    assert (half["precision"], half["recall"], half["answered"]) == (100, 50, 1)
    assert half["f1"] == pytest.approx(200 / 3, abs=1e-4)
    assert half["file"].endswith("half.txt") and half["subsets"]["v"]["recall"] == 0


ALL = """senseval2.d000.s000.t000 all%5:00:00:all:00
senseval2.d000.s000.t001 bat%1:05:00:: bat%1:06:00::
senseval3.d000.s000.t000 bid%1:10:00::
"""


@pytest.mark.parametrize(
    ("answers", "checks", "said"),
    [
        (ALL, {}, []),
        (ALL + "d9 bat%1:05:00::\n", {"outside_gold": 1}, ["1 of 4 answered .* such as d9. They are"]),
        ("senseval2.d000.s000.t000\n", {"lines_without_key": 1}, ["no key: 1. They", "no instance .* answered"]),
        (ALL + ALL, {"repeated_lines": 3}, ["earlier line: 3. Their keys are joined"]),
        (ALL.replace("%5", "%3"), {"other_notation": 1}, ["1 of 4 keys are not sense keys, such as all%3"]),
        (ALL.replace("all:00\n", "\n").replace("all%5", "all%3"), {"other_notation": 1}, ["all%3:00:00:"]),
        (ALL.replace("bat%", "Bat%"), {"other_notation": 2}, ["such as Bat%1:05:00::.*in lower case"]),
        (ALL.replace("all%5:00:00:all:00", "all.s.01"), {"other_notation": 1}, ["1 of 4 .* such as all.s.01"]),
        (ALL.replace("bid%1:10:00::", "06540702-n"), {"other_notation": 1}, ["such as 06540702-n"]),
        (ALL.replace("bid%1:10:00::", "bn:00010370n"), {"other_notation": 1}, ["such as bn:00010370n"]),
        (ALL.replace("bid%1:10", "bid%2:40"), {"other_lemma": 1}, ["such as bid%2:40:00:: of .* is bid%1:10:00::"]),
        (ALL.replace("bid%", "Bid%").splitlines()[2], {"other_notation": 1}, ["not sense keys", "none of 1 answers"]),
    ],
)  # fmt: skip
def test_what_is_odd_about_answers_is_counted_and_said_on_stderr(files, answers, checks, said):
    (files / "ALL.gold.key.txt").write_text(ALL)
    (files / "answers.txt").write_text(answers)
    result = _run(
        "score", "textual", files / "ALL.gold.key.txt", files / "answers.txt", files / "answers.txt", "--json"
    )
    assert result.exit_code == 0
    scored = json.loads(result.stdout.splitlines()[0])
    assert {name: count for name, count in scored["checks"].items() if count} == checks
    warnings = result.stderr.splitlines()
    assert [f"polclip: {sentence}" for sentence in scored["warnings"]] == warnings  # each once, not once per file
    assert len(warnings) == len(said)
    for sentence, words in zip(warnings, said, strict=True):
        assert re.search(f"answers.txt: .*{words}", sentence)


@pytest.mark.parametrize("option", ["--first-sense", "--corrected", "--train"])
def test_other_files_in_another_notation_are_told_too(files, option):
    (files / "new.txt").write_text(GOLD.replace("bat", "Bat") + "d9 x%1:05:00::\n")
    result = _run("score", "textual", files / "gold.txt", files / "right.txt", option, files / "new.txt")
    assert result.exit_code == 0 and "keys are not sense keys, such as Bat%1:05:00::" in result.stderr
    assert ("not in" in result.stderr) == (option != "--train")


def test_babelnet_ids_are_a_notation_of_their_own(files):
    (files / "bn.txt").write_text("x bn:00000001n\n")
    (files / "keys.txt").write_text("x bat%1:05:00::\n")
    assert _run("score", "textual", files / "bn.txt", files / "bn.txt").stderr == ""
    said = _run("score", "textual", files / "bn.txt", files / "keys.txt").stderr
    assert "1 of 1 keys are not BabelNet ids" in said and "such as bn:00037030n" in said


def test_answers_to_all_are_scored_on_a_single_set_and_the_reverse(files):
    (files / "ALL.gold.key.txt").write_text(ALL)
    (files / "ALL.key.txt").write_text(ALL.replace("bat%1:06:00::", "bat%1:06:01::"))
    (files / "senseval2.gold.key.txt").write_text("".join(ALL.replace("senseval2.", "").splitlines(True)[:2]))
    one = json.loads(_run("score", "textual", files / "senseval2.gold.key.txt", files / "ALL.key.txt", "--json").stdout)
    assert (one["recall"], one["n"], one["checks"]["outside_gold"]) == (75, 2, 1)
    back = _run("score", "textual", files / "ALL.gold.key.txt", files / "senseval2.gold.key.txt", "--json")
    back = json.loads(back.stdout)
    assert (back["precision"], back["answered"], back["n"]) == (100, 2, 3)


def test_visual_json_of_a_file_and_of_folders(files):
    one = _run("score", "visual", files / "gold/fa.test.gold.txt", files / "system/prediction.fa.txt", "--json")
    assert json.loads(one.stdout)["mrr"] == 50 and json.loads(one.stdout)["hr@1"] == 0
    both = json.loads(_run("score", "visual", files / "gold", files / "system", "--json").stdout)
    assert (both["hr@1"], both["mrr"], both["n"]) == (50, 75, 2)
    assert both["languages"]["en"]["hr@1"] == 100


def test_without_json_a_table_is_printed(files):
    lines = _run("score", "textual", files / "gold.txt", files / "half.txt").stdout.splitlines()
    assert lines[0].split() == ["file", "f1", "precision", "recall", "macro_f1", "n"]
    assert lines[1].split()[1:] == ["66.67", "100.00", "50.00", "33.33", "2"]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("textual", "gold.txt", "none.txt"), "none.txt cannot be read"),
        (("visual", "gold", "system/prediction.en.txt"), "give two files, or two folders"),
        (("visual", "gold/en.test.gold.txt", "gold.txt"), "2 lines"),
        (("visual", "gold/en.test.gold.txt", "gold/fa.test.gold.txt"), "fa.test.gold.txt:1: the ranking"),
        (("visual", "system", "gold"), "no file named like en.test.gold"),
        (("textual", "gold.txt", "right.txt", "--compare"), "give two or more"),
        (("textual", "gold.txt", "right.txt", "--train", "none.txt"), "none.txt cannot be read"),
        (("textual", "gold.txt", "right.txt", "--train", "none.parquet"), "none.parquet is no Parquet file"),
        (("textual", "gold.txt", "right.txt", "--first-sense", "none.txt"), "none.txt cannot be read"),
        (("textual", "half.txt", "half.txt", "--corrected", "other.txt"), "other.txt answers no instance of"),
        (("textual", "half.txt", "other.txt"), "other.txt answers no instance of"),
    ],
)
def test_what_the_user_can_mend_ends_with_code_2_and_one_sentence(files, arguments, message):
    command, *paths = arguments
    result = _run("score", command, *(path if path.startswith("--") else files / path for path in paths))
    assert result.exit_code == 2 and result.stdout == ""
    assert message in result.stderr and result.stderr.startswith("polclip: ") and "Traceback" not in result.stderr


def test_a_language_that_one_side_lacks_is_named(files):
    (files / "system" / "prediction.fa.txt").unlink()
    result = _run("score", "visual", files / "gold", files / "system")
    assert result.exit_code == 2 and "a file for fa" in result.stderr


def test_training_files_tell_the_seen_lemmas_and_senses(files):
    (files / "train.txt").write_text("x.1 bat%1:05:00::\nx.2 look_up%2:31:01::\n")
    result = _run("score", "textual", files / "gold.txt", files / "half.txt", "--train", files / "train.txt", "--json")
    subsets = json.loads(result.stdout)["subsets"]
    assert {name: (part["recall"], part["n"]) for name, part in subsets.items() if "seen" in name} == {
        "seen_lemma": (50, 2), "seen_sense": (100, 1), "unseen_sense": (0, 1),
    }  # fmt: skip
    bat = TextualInstance("t.1", "s", ["bat"], 0, 1, "bat", "n", ["bat%1:05:00::"], ["bat%1:05:00::"])
    write_records(files / "train.parquet", TextualInstance, [bat])
    more = _run(
        "score", "textual", files / "gold.txt", files / "half.txt", "--train", files / "train.parquet", "--json"
    )
    subsets = json.loads(more.stdout)["subsets"]
    assert subsets["seen_lemma"]["n"] == subsets["unseen_lemma"]["n"] == 1
    # Of a line with keys of several lemmas the first one counts.
    (files / "two.txt").write_text("d000.s000.t000 bat%1:05:00:: look_up%2:31:00::\n")
    (files / "one.txt").write_text("d000.s000.t000 bat%1:05:00::\n")
    two = _run("score", "textual", files / "two.txt", files / "one.txt", "--train", files / "train.parquet", "--json")
    assert json.loads(two.stdout)["subsets"].keys() == {"n", "seen_lemma", "seen_sense"}
    both = ("--train", files / "train.parquet", "--train", files / "train.txt")
    lines = _run("score", "textual", files / "gold.txt", files / "half.txt", *both).stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["n", "v", "seen_lemma", "seen_sense", "unseen_sense"]


def test_first_sense_and_corrected_labels_make_parts_of_their_own(files):
    (files / "first.txt").write_text("d000.s000.t000 bat%1:05:00::\nd000.s000.t001 look_up%2:39:00::\n")
    (files / "new.txt").write_text("d000.s000.t001 look_up%2:39:00::\n")
    more = ("--first-sense", files / "first.txt", "--corrected", files / "new.txt")
    result = _run("score", "textual", files / "gold.txt", files / "right.txt", files / "first.txt", *more, "--json")
    names = ("first_sense", "other_sense", "amended", "corrected")
    for line, recall in zip(result.stdout.splitlines(), ([100, 100, 100, 0], [100, 0, 0, 100]), strict=True):
        parts = json.loads(line)["subsets"]
        assert [parts[name]["recall"] for name in names] == recall
        assert [parts[name]["n"] for name in names] == [1, 1, 1, 1]
    # An instance that the first sense does not answer is none that it has right; unanswered ones count.
    (files / "first.txt").write_text("d000.s000.t001 look_up%2:31:00::\n")
    result = _run("score", "textual", files / "gold.txt", files / "half.txt", *more, "--json")
    parts = json.loads(result.stdout)["subsets"]
    assert [parts[name]["recall"] for name in names] == [0, 100, 0, 0]
    lines = _run("score", "textual", files / "gold.txt", files / "half.txt", *more).stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["n", "v", *names]


def test_corrected_keys_of_another_lemma_are_told_and_scored_apart(files):
    (files / "all.txt").write_text(ALL)
    (files / "amended.txt").write_text(ALL.replace("bid%1:10:00::", "bid%2:40:00::").replace("all%5", "whole%5"))
    result = _run(
        "score", "textual", files / "all.txt", files / "all.txt", "--corrected", files / "amended.txt", "--json"
    )
    parts = json.loads(result.stdout)["subsets"]
    names = ("amended", "corrected", "corrected_same_lemma")
    assert [(round(parts[name]["f1"], 2), parts[name]["n"]) for name in names] == [(100, 3), (33.33, 3), (100, 1)]
    assert "2 of 3 instances have keys of another lemma or part of speech" in result.stderr


def test_systems_are_compared_with_the_first_one(files):
    gold = "".join(f"d000.s000.t{at:03d} bat%1:05:00::\n" for at in range(40))
    (files / "many.txt").write_text(gold)
    # The second system is right where the first is, and ten times more.
    (files / "a.txt").write_text(gold.replace("%1:05", "%1:06"))
    wrong = "".join(line.replace("%1:05", "%1:06") for line in gold.splitlines(keepends=True)[10:])
    (files / "b.txt").write_text("".join(gold.splitlines(keepends=True)[:10]) + wrong)
    arguments = ("score", "textual", files / "many.txt", files / "a.txt", files / "b.txt", "--compare")
    first, second = map(json.loads, _run(*arguments, "--json").stdout.splitlines())
    assert first["compared"] is None
    test = second["compared"]
    assert test["file"].endswith("a.txt") and test["n"] == 40
    assert test["f1"]["difference"] == test["recall"]["difference"] == 25
    assert 0 < test["f1"]["ci_low"] < 25 < test["f1"]["ci_high"] < 50
    assert test["f1"]["p_bootstrap"] < 0.01 and test["p_mcnemar"] == pytest.approx(2 / 2**10)
    lines = _run(*arguments).stdout.splitlines()
    assert [line.split()[1:3] for line in lines[-2:]] == [["f1", "+25.00"], ["recall", "+25.00"]]
    assert all(line.split()[0].endswith("b.txt") for line in lines[-2:])


def test_visual_systems_are_compared_over_languages_that_count_the_same(files):
    (files / "other").mkdir()
    for language in ("en", "fa"):
        pictures = (files / "system" / f"prediction.{language}.txt").read_text().strip().split("\t")
        (files / "other" / f"prediction.{language}.txt").write_text("\t".join(["b.jpg", "a.jpg", *pictures[2:]]) + "\n")
    result = _run("score", "visual", files / "gold", files / "system", files / "other", "--compare", "--json")
    test = json.loads(result.stdout.splitlines()[1])["compared"]
    assert test["hr@1"]["difference"] == test["mrr"]["difference"] == 0  # one language gained what the other lost
    assert (test["p_mcnemar"], test["n"]) == (1, 2)
    one = ("gold/fa.test.gold.txt", "system/prediction.fa.txt", "other/prediction.fa.txt")
    result = _run("score", "visual", *(files / path for path in one), "--compare", "--json")
    assert json.loads(result.stdout.splitlines()[1])["compared"]["hr@1"]["difference"] == 100


def test_help_shows_the_forms(files):
    text = _run("score", "textual", "--help").stdout
    assert "instance_id sense_key [sense_key ...]" in " ".join(text.split())
    options = ("--train", "--first-sense", "--corrected", "--compare", "--json")
    assert all(told in text for told in (*options, "McNemar", "unseen_sense", "other_sense", "amended", "macro F1"))
    assert "GOLD" in text and "PRED" in text and "Example: polclip score textual" in text
    assert "textual" in _run("score", "--help").stdout
