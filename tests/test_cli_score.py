import json

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
        (
            ("textual", "gold.txt", "astray.txt"),
            "astray.txt:2: d000.s000.t009 is not an instance of the gold",
        ),
        (("textual", "gold.txt", "none.txt"), "none.txt cannot be read"),
        (("visual", "gold", "system/prediction.en.txt"), "give two files, or two folders"),
        (("visual", "gold/en.test.gold.txt", "gold.txt"), "2 lines"),
        (("visual", "gold/en.test.gold.txt", "gold/fa.test.gold.txt"), "fa.test.gold.txt:1: the ranking"),
        (("visual", "system", "gold"), "no file named like en.test.gold"),
        (("textual", "gold.txt", "right.txt", "--compare"), "give two or more"),
        (("textual", "gold.txt", "right.txt", "--train", "none.txt"), "none.txt cannot be read"),
        (("textual", "gold.txt", "right.txt", "--train", "none.parquet"), "none.parquet is no Parquet file"),
        (("textual", "gold.txt", "right.txt", "--first-sense", "none.txt"), "none.txt cannot be read"),
        (("textual", "half.txt", "half.txt", "--corrected", "gold.txt"), "gold.txt:2: d000.s000.t001 is not an"),
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
