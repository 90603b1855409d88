"""Malformed predictions and records: a table of what is wrong and what comes of it.

What is refused ends in a UserError that names the file and, where there is one, the line. What is merely odd is read.
"""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from malformed import cut, table
from typer.testing import CliRunner

from polclip.cli import app
from polclip.errors import UserError
from polclip.evaluation.prediction_files import read_predictions
from polclip.records import SCHEMAS, TextualInstance, VisualInstance, read_records

GOLD = "d000.s000.t000 bat%1:05:00::\nd000.s000.t001 look_up%2:31:00::\n"
IMAGES = [f"image.{number}.jpg" for number in range(10)]


# --- prediction files of any system, by `polclip score`

TEN = "\t".join(IMAGES)
REFUSED_PREDICTIONS = {  # task, gold, predictions, message
    "another benchmark": ("textual", GOLD, "d9 bat%1:05:00::\n", "pred.txt answers no instance of .*gold.txt"),
    "a gold without keys": ("textual", "d000.s000.t000\n", GOLD, "gold.txt has no sense key in any line"),
    "no answer at all": ("textual", GOLD, "\n", "pred.txt holds no instance"),
    "answers in UTF-16": ("textual", GOLD, GOLD.encode("utf-16"), "pred.txt:1: byte 1 of the line is not UTF-8"),
    "a gold in Latin-1": ("textual", (GOLD + "d9 \xe9").encode("latin-1"), GOLD, "gold.txt:3: byte 4 of the line"),
    "nine pictures": ("visual", IMAGES[0], "\t".join(IMAGES[:9]), "pred.txt:1: the ranking is of 9 names"),
    "eleven pictures": ("visual", IMAGES[0], TEN + "\timage.10.jpg", "pred.txt:1: the ranking is of 11 names"),
    "ten and one again": ("visual", IMAGES[0], f"{TEN}\t{IMAGES[9]}", "pred.txt:1: the ranking is of 11 names"),
    "a picture twice": ("visual", IMAGES[0], TEN.replace("image.9", "image.8"), "pred.txt:1: .*a picture twice"),
    "without the gold": ("visual", "image.77.jpg", TEN, "pred.txt:1: the ranking .*lacks the gold image.77.jpg"),
    "spaces for tabs": ("visual", IMAGES[0], TEN.replace("\t", " "), "pred.txt:1: the ranking is of 1 names"),
    "a blank ranking": ("visual", f"{IMAGES[0]}\n{IMAGES[0]}", f"\n{TEN}", "pred.txt:1: the ranking is of 1 names"),
    "a blank gold line": ("visual", f"\n{IMAGES[0]}", f"{TEN}\n{TEN}", "gold.txt:1: a blank line"),
    "a ranking too few": ("visual", f"{IMAGES[0]}\n{IMAGES[0]}", TEN, "pred.txt has 1 lines, .*gold.txt 2"),
    "both empty": ("visual", "", "", "pred.txt has 0 lines"),
    "rankings in UTF-16": ("visual", IMAGES[0], TEN.encode("utf-16"), "pred.txt:1: byte 1 of the line is not UTF-8"),
}  # fmt: skip


def scored(folder, task, gold, predictions):
    for name, text in (("gold.txt", gold), ("pred.txt", predictions)):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return CliRunner().invoke(app, ["score", task, str(folder / "gold.txt"), str(folder / "pred.txt"), "--json"])


@table(REFUSED_PREDICTIONS)
def test_predictions_are_refused_with_file_and_line(tmp_path, case):
    *given, message = case
    result = scored(tmp_path, *given)
    assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr
    assert re.match(f"polclip: .*{message}", result.stderr), result.stderr


BAT, LOOK = GOLD.splitlines()
ODD_PREDICTIONS = {  # task, gold, predictions, figures
    "an unknown instance": ("textual", GOLD, f"d9 bat%1:05:00::\n{GOLD}", {"f1": 100, "answered": 2}),
    "an instance twice": ("textual", GOLD, f"{GOLD}{BAT}\n{LOOK}x", {"f1": 75, "answered": 2}),
    "answers on several lines": ("textual", f"{BAT}\n{BAT} cave%1:17:00::\n", BAT, {"f1": 100, "n": 1}),
    "a line without a key": ("textual", GOLD, f"{BAT}\nd000.s000.t001 \n", {"precision": 100, "recall": 50}),
    "no key at all": ("textual", GOLD, "d000.s000.t000\n", {"f1": 0, "precision": 0, "answered": 0}),
    "a gold line without a key": ("textual", f"{BAT}\nd000.s000.t001\n", GOLD, {"f1": 100, "n": 1}),
    "tabs, blanks, CR": ("textual", GOLD, GOLD.replace(" ", " \t  ").replace("\n", " \t\r"), {"f1": 100}),
    "markers": ("textual", "x all%5:00:00:all:00", "x all%5:00:00:all(a):00", {"f1": 100}),
    "a key of another lemma": ("textual", GOLD, GOLD.replace("bat%1:05:00::", "cave%1:17:00::"), {"f1": 50, "n": 2}),
    "a key of no one": ("textual", GOLD, GOLD.replace("bat%1:05:00::", "nonsense"), {"f1": 50, "answered": 2}),
    "marks and CRLF": ("textual", "\ufeff" + GOLD, "\ufeff" + GOLD.replace("\n", "\r\n\r\n"), {"f1": 100}),
    "a gold of no sense key": ("textual", "x nonsense\n", "x nonsense\n", {"f1": 100, "subsets": {}}),
    "spaces and CRLF": ("visual", IMAGES[0] + " \r\n", TEN.replace("\t", " \t") + "\r\n", {"hr@1": 100}),
}  # fmt: skip


@table(ODD_PREDICTIONS)
def test_odd_predictions_are_scored(tmp_path, case):
    *given, figures = case
    result = scored(tmp_path, *given)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert {name: found[name] for name in figures} == figures


INSTANCE = VisualInstance("q", "en", "bat", "winged bat", [f"p{n}" for n in range(10)], "p0")
GOOD_ROW = {"instance_id": "q", "candidates": ["p0", "p1"], "scores": [2.0, 1.0]}
REFUSED_ROWS = {
    "cut off": (json.dumps(GOOD_ROW)[:-5], ":1: not a JSON value"),
    "Latin-1": (b'{"instance_id": "\xe9"}', ":1: not a JSON value in UTF-8"),
    "no map": ("[1]", ":1: a line needs instance_id, candidates and scores"),
    "no scores": ('{"instance_id": "q", "candidates": []}', ":1: a line needs"),
    "null for the candidates": (json.dumps(GOOD_ROW | {"candidates": None}), ":1: a line needs"),
    "a text for a score": (json.dumps(GOOD_ROW | {"scores": ["high", 1]}), ":1: a line needs"),
    "a list for the id": (json.dumps(GOOD_ROW | {"instance_id": ["q"]}), ":1: a line needs"),
    "NaN": (json.dumps(GOOD_ROW | {"scores": [float("nan"), 1]}), ":1: .*scores that do not go down"),
    "an unknown picture": (json.dumps(GOOD_ROW | {"candidates": ["p0", "x"]}), ":1: .*that it does not have"),
    "an instance twice": (f"{json.dumps(GOOD_ROW)}\n{json.dumps(GOOD_ROW)}", ":2: instance 'q' comes twice"),
    "an unknown instance": (json.dumps(GOOD_ROW | {"instance_id": "x"}), ":1: instance 'x' is not in the benchmark"),
}  # fmt: skip


@table(REFUSED_ROWS)
def test_rows_of_predictions_are_refused_with_file_and_line(tmp_path, case):
    text, message = case
    (tmp_path / "pred.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"pred.jsonl{message}"):
        read_predictions(tmp_path / "pred.jsonl", [INSTANCE])


# --- records

TEXTUAL = {
    "instance_id": "x", "sentence_id": "s", "tokens": ["bat"], "target_start": 0, "target_end": 1,
    "lemma": "bat", "pos": "n", "candidates": ["bat%1:05:00::"], "gold": ["bat%1:05:00::"],
    "by_frequency": True,
}  # fmt: skip
REFUSED_RECORDS = {
    "other records": (pa.table({"name": ["p"]}), "no TextualInstance records: instance_id, .* Found: name"),
    "a text for a list": (pa.Table.from_pylist([TEXTUAL | {"gold": "x"}]), "no TextualInstance records: gold is not"),
    "a text for a number": (pa.Table.from_pylist([TEXTUAL | {"target_start": "0"}]), "records: target_start is not"),
    "null for a list": (
        pa.Table.from_pylist([TEXTUAL, TEXTUAL | {"candidates": None}], SCHEMAS[TextualInstance]),
        "a TextualInstance record has no candidates",
    ),
    "no Parquet": (b"PAR1 and nothing more", "is no Parquet file, or broken"),
    "empty": (b"", "is no Parquet file, or broken"),
    "not there": (None, "There is no file .*records.parquet"),
}  # fmt: skip


@table(REFUSED_RECORDS)
def test_records_are_refused_with_their_file(tmp_path, case):
    given, message = case
    path = tmp_path / "records.parquet"
    if isinstance(given, bytes):
        path.write_bytes(given)
    elif given is not None:
        pq.write_table(given, path)
    with pytest.raises(UserError, match=message):
        list(read_records(path, TextualInstance))


def test_cut_records_are_refused_and_more_columns_are_left_out(tmp_path):
    path = tmp_path / "records.parquet"
    pq.write_table(pa.Table.from_pylist([TEXTUAL | {"more": 1}]), path)
    assert [vars(record) for record in read_records(path, TextualInstance)] == [TEXTUAL]
    with pytest.raises(UserError, match=r"records.parquet is no Parquet file, or broken"):
        list(read_records(cut(path), TextualInstance))
