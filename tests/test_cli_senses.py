"""The commands that use a model: what they read, print and end with."""

import json
import os
import subprocess
import sys

import pytest
from models_in_use import draw, make_archives, write_model
from tiny_project import CONCEPTS, ROOT
from typer.testing import CliRunner

from polclip import Disambiguator
from polclip.answers import Reason, as_plain
from polclip.cli import app
from polclip.disambiguator import LONGEST_TEXT

BAT = CONCEPTS[0].sense_key


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    archives = make_archives(folder)
    write_model(folder / "model", "frozen", archives)
    draw(folder / "pictures", 4)
    return folder


@pytest.fixture(scope="module")
def opened(place):
    return Disambiguator.from_pretrained(place / "model", archives=place / "archives", download=False)


@pytest.fixture
def run(place):
    def run(*arguments, given=None):
        named = ("--model", place / "model", "--archives", place / "archives", "--offline")
        return CliRunner().invoke(app, [str(argument) for argument in (*arguments, *named)], input=given)

    return run


def rounded(value):
    """Scores of a batch differ in their last digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def objects(result):
    assert result.exit_code in (0, 1), result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_text_is_answered_as_the_api_answers_it(run, opened):
    result = run("senses", "we saw the bat of the cave", "--target", "bat", "--json")
    (answer,) = objects(result)
    assert rounded(answer) == rounded(as_plain(opened.senses("we saw the bat of the cave", "bat")))
    assert result.exit_code == 0 and len(answer["words"][0]["senses"]) == 2
    (best,) = objects(run("senses", "we saw the bat", "--target", "bat", "--json", "--top", "1"))
    assert len(best["words"][0]["senses"]) == 1


def test_without_json_a_person_reads_it(run):
    lines = run("senses", "the gronk and the bat", "--pos", "n").stdout.splitlines()
    assert lines[0] == "the gronk and the bat" and lines[1].strip() == "bat"
    assert {line.split()[1] for line in lines[2:]} == {CONCEPTS[0].sense_key, CONCEPTS[1].sense_key}
    assert all(line.split()[0].endswith("%") for line in lines[2:])
    assert "the text is empty" in run("senses", " ").stdout


def test_lines_of_stdin_give_an_object_each_in_their_order(run):
    texts = [f"{CONCEPTS[at % 30].word} number {at}" for at in range(70)]
    answers = objects(run("senses", "--json", given="\n".join([*texts[:3], "", *texts[3:]])))
    assert [answer["text"] for answer in answers] == [*texts[:3], "", *texts[3:]]
    assert answers[3]["reason"] == "the text is empty" and not any(a["reason"] for a in answers[:3] + answers[4:])
    assert [answer["words"][0]["target"] for answer in answers if answer["words"]] == [
        text.split()[0] for text in texts
    ]


def test_json_lines_carry_what_is_asked_and_an_id(run, place):
    records = [
        {"id": 7, "text": "bats and bats", "target": [9, 13], "pos": "n"},
        {"text": "it flew", "target": "it", "lemma": "bat", "pos": "n"},
        {"text": "a mouse"},
    ]
    broken = [b'{"text": 5}', b"{", b'"text"', b'{"text": "a", "target": [1]}', b"\xff\xfe", b"[" * 100_000, b"null"]
    broken += [b"{}", b'{"text": "a", "target": 5}', b'{"text": "a", "pos": ["n"]}']
    (place / "asked.jsonl").write_bytes(b"\n".join([*(json.dumps(record).encode() for record in records), *broken]))
    answers = objects(run("senses", "--file", place / "asked.jsonl", "--json"))
    first, second, third, *rest = answers
    assert first["id"] == 7 and first["words"][0]["start"] == 9
    assert {sense["lemma"] for sense in second["words"][0]["senses"]} == {"bat"} and "id" not in second
    assert third["words"][0]["target"] == "mouse"
    assert [answer["reason"].partition(":")[0] for answer in rest] == [f"line {at}" for at in range(4, 14)]
    assert {answer["text"] for answer in rest} == {""}


def test_half_a_surrogate_pair_is_told_in_its_place_and_the_rest_is_answered(place):
    """In a process of its own, since only there stdout is what users have."""
    records = ['"a bat"', '"a \\ud83e bat", "id": "half \\udd87"', '"a bat \\ud83e\\udd87"']
    lines = "".join(f'{{"text": {record}}}\n' for record in records).encode()
    named = ["--model", str(place / "model"), "--archives", str(place / "archives"), "--offline", "--format", "jsonl"]
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [sys.executable, "-m", "polclip.cli", "senses", "--json", *named],
            cwd=ROOT, input=lines, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        first, second, third = [json.loads(line) for line in done.stdout.decode(encoding).splitlines()]
        assert done.returncode == 0 and first["words"] and third["words"] and third["text"] == "a bat \U0001f987"
        assert second["reason"].startswith("line 2: `text` has \\ud83e") and second["id"] == "half \udd87"
        assert b"1 of 3 records cannot be read, the first: line 2:" in done.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.tsv", b"text\ttarget\nThe bat flew off\tbat\n"),
        ("records.json", b'[{"text": "The bat flew off", "target": "bat"}]'),
        ("texts.json", b'["The bat flew off"]'),
    ],
)
def test_tables_and_arrays_are_read_by_the_ending_of_their_file(run, place, name, content):
    (place / name).write_bytes(content)
    (answer,) = objects(run("senses", "--file", place / name, "--json"))
    assert answer["text"] == "The bat flew off" and answer["words"][0]["target"] == "bat"


def test_a_table_in_another_encoding_is_refused_with_line_and_byte(run, place):
    (place / "latin1.csv").write_bytes(b"text,target\na bat,bat\nIn the caf\xe9 a bat,bat\n")
    result = run("senses", "--file", place / "latin1.csv", "--json")
    assert result.exit_code == 2 and "latin1.csv:3: byte 11 of the line is not UTF-8. Save" in result.stderr
    assert result.stdout == ""


def test_a_lemma_and_tags_of_other_tag_sets_are_taken(run, place):
    asked = ("senses", "it flew", "--target", "it", "--lemma", "Bat", "--json")
    for pos in ("n", "NOUN", "NN"):
        (answer,) = objects(run(*asked, "--pos", pos))
        assert {sense["lemma"] for sense in answer["words"][0]["senses"]} == {"bat"}
    (place / "tags.csv").write_text("text,target,pos\na bat,bat,NNS\nit flew,it,PROPN\n", encoding="utf-8")
    first, second = objects(run("senses", "--file", place / "tags.csv", "--lemma", "crane", "--json"))
    assert [sense["lemma"] for sense in (*first["words"][0]["senses"], *second["words"][0]["senses"])] == ["crane"] * 4
    records = [{"text": "bats", "target": "bats", "pos": "NNS"}, {"text": "bats", "target": "bats", "pos": "DET"}]
    (place / "tags.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    one, other = objects(run("senses", "--file", place / "tags.jsonl", "--json"))
    assert len(one["words"][0]["senses"]) == 2 and "the part of speech is none of n v a r, or a tag" in other["reason"]


def test_csv_has_named_columns(run, place):
    (place / "asked.csv").write_text(
        '\ufefftext,target,id\n"a bat, and a mouse",mouse,x1\na crane,,x2\n', encoding="utf-8"
    )
    one, other = objects(run("senses", "--file", place / "asked.csv", "--json"))
    assert [word["target"] for word in one["words"]] == ["mouse"] and (one["id"], other["id"]) == ("x1", "x2")
    (place / "asked.csv").write_text("sentence\na bat\n")
    result = run("senses", "--file", place / "asked.csv", "--json")
    assert result.exit_code == 2 and "no column `text`" in result.stderr


def test_a_megabyte_and_a_line_without_end_are_refused_in_their_places(run, monkeypatch):
    monkeypatch.setattr("polclip.cli.inputs.LONGEST_LINE", 2_000_000)
    given = "a bat\n" + "bat " * 300_000 + "\n" + "x" * 7_000_000 + "\na mouse\n"
    answers = objects(run("senses", "--json", given=given))
    assert [answer["reason"] for answer in answers] == [None, *[str(Reason.TEXT_TOO_LONG)] * 2, None]
    assert answers[2]["text"] == "" and f"{LONGEST_TEXT:,} characters" in Reason.TEXT_TOO_LONG
    shown = run("senses", given="bat " * 50_000).stdout
    assert len(shown) < 1000 and f"longer than {LONGEST_TEXT:,} characters" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("senses", "of the", "--json"), 1, ""),
        (("senses", "a bat", "--file", "x.txt"), 2, "Give a TEXT or --file, not both"),
        (("senses", "--file", "nowhere.txt"), 2, "nowhere.txt cannot be read"),
        (("senses", "--format", "xml"), 2, "allowed: text | jsonl | json | csv | tsv"),
        (("senses", "a bat", "--device", "tpu"), 2, "'tpu' is not allowed"),
        (("senses", "a bat", "--top", "-1"), 2, "--top"),
        (("senses", "a bat", "--pos", "x"), 2, "--pos: 'x' is not allowed; allowed: "),
        (("imagine", "bat%1:05:00::", "none.png", "-k", "0"), 2, "-k"),
        (("imagine", "bat%9:99:99::", "none.png"), 1, "there is no such sense key"),
        (("images", "bat", "bat cave", "none.png"), 1, "none.png: missing"),
    ],
)
def test_exit_codes_tell_unanswered_from_wrong(run, arguments, code, message):
    result = run(*arguments, given="")
    assert result.exit_code == code and message in result.stderr and "Traceback" not in result.stderr
    if code == 2:
        assert result.stdout == "" and result.stderr.startswith(("polclip: ", "Usage: "))


def test_a_reader_that_closes_the_pipe_has_what_it_wanted(place):
    """As in `polclip senses ... | head -1`."""
    named = ["--model", str(place / "model"), "--archives", str(place / "archives"), "--offline"]
    process = subprocess.Popen(
        [sys.executable, "-m", "polclip.cli", "senses", "--json", *named],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    process.stdin.write("a bat\n" * 200)
    process.stdin.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 0


def test_pictures_are_ranked_imagined_and_described(run, place, opened):
    pictures = sorted((place / "pictures").iterdir())
    (ranking,) = objects(run("images", "bat", "bat cave", *pictures, "--json"))
    assert rounded(ranking) == rounded(as_plain(opened.rank_images("bat", "bat cave", pictures)))
    (imagined,) = objects(run("imagine", BAT, place / "pictures", "-k", 2, "--json"))
    (marked,) = objects(run("imagine", BAT.replace("%", "(ip)%"), place / "pictures", "-k", 2, "--json"))
    assert marked["images"] == imagined["images"]
    assert rounded(imagined) == rounded(as_plain(opened.imagine(BAT, 2, pictures)))
    assert objects(run("describe", pictures[0], "--json"))[0]["reason"] == "the glosses of this model are not indexed"
    result = run("index", "--output", place / "model" / "cache" / "index")
    assert result.exit_code == 0 and result.stdout.strip().endswith("index")
    described = objects(run("describe", *pictures, place / "none.png", "-k", 3, "--json"))
    assert [len(answer["glosses"]) for answer in described] == [3, 3, 3, 3, 0] and described[-1]["reason"] == "missing"


def test_check_tells_what_is_here_and_never_the_key(place, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    arguments = ["check", "--model", str(place / "model"), "--archives"]
    here = CliRunner().invoke(app, [*arguments, str(place / "archives"), "--json"])
    told = json.loads(here.stdout)
    assert here.exit_code == 0 and "sk-secret" not in here.output and told["openai_api_key"] == "set"
    assert [one["present"] for one in told["archives"]] == [True] * 3 and "cpu" in told["devices"]
    assert told["archives"][1]["licence"] == "Apache-2.0" and told["disk_free_gb"] > 0
    monkeypatch.delenv("OPENAI_API_KEY")
    missing = CliRunner().invoke(app, [*arguments, str(place)])
    assert missing.exit_code == 1 and "missing   minilm" in missing.stdout and "not set" in missing.stdout


@pytest.mark.parametrize("command", ["senses", "images", "imagine", "describe", "index", "serve", "check"])
def test_help_teaches_by_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0 and "--model" in result.stdout
    assert f"polclip {command}" in result.stdout or "snakemake" in result.stdout
