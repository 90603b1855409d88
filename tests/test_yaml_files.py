"""YAML that would be read otherwise than it looks is refused, with file and line."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from polclip.errors import UserError
from polclip.yaml_files import read_yaml

ROOT = Path(__file__).parent.parent
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("path", sorted([ROOT / "config.yaml", *ROOT.glob("presets/*"), *ROOT.glob("rules/**/*.yaml")]))
def test_the_files_of_the_repository_are_read_as_they_look(path):
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nname: b\n", ":2: the key 'name' is given twice (first in line 1)"),
        ("training:\n  epochs: 1\n  rise: 0\n  epochs: 2\n", ":4: the key 'epochs' is given twice (first in line 2)"),
        ("seeds: [{a: {b: 1, b: 2}}]", ":1: the key 'b' is given twice"),
        ('{"a": 1,\n\t"a": 2}', ":2: the key 'a' is given twice"),
        (
            "experiments: {no: {}}",
            ":1: the key no is not text: YAML reads it as true or false. Choose another name, or",
        ),
        ("experiments:\n  on: {}\n", ":2: the key on is not text"),
        ("experiments: {1: {}}", ":1: the key 1 is not text: YAML reads it as a number"),
        ("experiments: {null: {}}", ":1: the key null is not text: YAML reads it as null"),
        ("experiments: {2026-01-31: {}}", ":1: the key 2026-01-31 is not text: YAML reads it as a date"),
        ("? [a]\n: 1\n", ":1: the key ... is not text"),
        ("experiments: &a {x: *a}", ":1: an anchor contains itself"),
        ("seeds: &a [1, [*a]]", ":1: an anchor contains itself"),
        (LAUGHS, ": its aliases expand to over 100,000 values"),
        ("[" * 5000, "nested too deep"),
        ("training:\n\tepochs: 1\n", ":2: not valid YAML"),
        ("training: [1\n", "not valid YAML"),
        ("name: 2024-02-30", "not valid YAML (day is out of range for month)"),
        ("seeds: [1:30]", ":1: YAML reads 1:30 as a number in base 60"),
        ("rise: 1:30.5", ":1: YAML reads 1:30.5 as a number in base 60"),
        ("seeds:\n- 010\n", ":2: YAML reads 010 as 8 (octal)"),
        ("training: {learning_rate: 2e-5}", ":1: YAML reads 2e-5 as text. Write 0.00002, or put it in quotes"),
        ("a: [-1.50E3]", ":1: YAML reads -1.50E3 as text. Write -1500, or"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a: \x01", "not valid YAML"),
        (b"a: 1\nname: caf\xe9\n", ":2: not UTF-8 (byte 0xe9)"),
    ],
)
def test_yaml_that_is_not_what_it_looks_like_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path)) and said in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: 1\na: 2\nexperiments: {no: {}, off: {}}\n")
    with pytest.raises(UserError) as caught:
        read_yaml(tmp_path / "mine.yaml")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ('"no": 1', {"no": 1}),
        ("base: &b {x: 1, y: 2}\nmore: {<<: *b, x: 3}\n", {"base": {"x": 1, "y": 2}, "more": {"x": 3, "y": 2}}),
        ("a: &a [1]\nb: *a\nc: *a\n", {"a": [1], "b": [1], "c": [1]}),
        ("a: [0, 0x1F, 1_000, '010', '1:30', 10:30am]", {"a": [0, 31, 1000, "010", "1:30", "10:30am"]}),
        ("a: [2.0e-5, '2e-5', 1e5b, e5, 2026-01-31]", {"a": [2e-5, "2e-5", "1e5b", "e5", date(2026, 1, 31)]}),
        ('{\n\t"a": "b"\n}', {"a": "b"}),
    ],
)
def test_yaml_that_says_what_it_looks_like_is_read(tmp_path, text, value):
    (tmp_path / "mine.yaml").write_text(text)
    assert read_yaml(tmp_path / "mine.yaml") == value
