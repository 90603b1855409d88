"""Files of texts as users have them: how each is read, and what is said of what cannot be read."""

import io
import json

import pytest
from malformed import table

from polclip.cli.inputs import Asked, format_of, read_asked
from polclip.errors import UserError


def read(content, form, target=None, pos=None):
    content = content.encode() if isinstance(content, str) else content
    return list(read_asked(io.BytesIO(content), "asked", form, target, pos))


BAT, CRANE = Asked("a bat", "bat"), Asked("a crane, flying", "crane")
READ = {
    "CSV": ("csv", 'text,target\na bat,bat\n"a crane, flying",crane\n'),
    "CSV with a byte order mark": ("csv", '\ufefftext,target\na bat,bat\n"a crane, flying",crane\n'),
    "CSV with CRLF": ("csv", 'text,target\r\na bat,bat\r\n"a crane, flying",crane\r\n'),
    "CSV with CR": ("csv", 'text,target\ra bat,bat\r"a crane, flying",crane\r'),
    "CSV with semicolons": ("csv", "text;target\na bat;bat\na crane, flying;crane\n"),
    "CSV with capitals and blanks": ("csv", 'Target, "Text"\nbat,a bat\ncrane,"a crane, flying"\n'),
    "CSV with blank lines": ("csv", 'text,target\n\na bat,bat\n\n"a crane, flying",crane\n\n'),
    "TSV": ("tsv", "text\ttarget\na bat\tbat\na crane, flying\tcrane\n"),
    "TSV of Excel": ("tsv", 'text\ttarget\r\na bat\tbat\r\n"a crane, flying"\tcrane\r\n'),
    "JSON": ("json", json.dumps([{"text": "a bat", "target": "bat"}, {"text": "a crane, flying", "target": "crane"}])),
    "JSON on many lines": (
        "json",
        "\ufeff" + json.dumps([vars(one) for one in (BAT, CRANE)], indent=1).replace("\n", "\r\n"),
    ),
    "JSON that is JSON Lines": (
        "json",
        '{"text": "a bat", "target": "bat"}\n{"text": "a crane, flying", "target": "crane"}\n',
    ),
    "JSON Lines with CRLF": (
        "jsonl",
        '\ufeff{"text": "a bat", "target": "bat"}\r\n{"text": "a crane, flying", "target": "crane"}\r\n',
    ),
}


@table(READ)
def test_what_programs_write_is_read(case):
    form, content = case
    assert read(content, form) == [BAT, CRANE]


def test_what_a_record_does_not_say_is_what_was_asked_of_all():
    assert read("a bat\r\na crane\rthe end", "text", "bat", "n") == [
        Asked(text, "bat", "n") for text in ("a bat", "a crane", "the end")
    ]
    assert read('["a bat", {"text": "b", "target": null, "pos": "v"}]', "json", "bat", "n") == [
        Asked("a bat", "bat", "n"),
        Asked("b", "bat", "v"),
    ]
    assert read("text\tpos\nb\n\nc\tv", "tsv", "bat", "n") == [Asked("b", "bat", "n"), Asked("c", "bat", "v")]
    assert read('{"text": "a bat", "pos": "n"}', "json") == [Asked("a bat", None, "n")]


def test_quotes_of_sentences_stay():
    sentences = ['"Go," he said, "now."', 'He said "go"', '5" pipe', '"']
    written = "text\n" + "".join(f"{sentence}\n" for sentence in sentences) + '"He said ""go"""\n'
    assert [one.text for one in read(written, "tsv")] == [*sentences, 'He said "go"']
    assert [one.text for one in read('text\n5" pipe\n"He said ""go"",\nand went"\n', "csv")] == [
        '5" pipe',
        'He said "go",\nand went',
    ]


REFUSED = {
    "CSV in cp1252": ("csv", "text\na bat\ncaf\xe9\n".encode("cp1252"), "asked:3: byte 4 of the line is not UTF-8"),
    "TSV in cp1252": ("tsv", "text\ncaf\xe9\n".encode("cp1252"), "asked:2: byte 4 of the line is not UTF-8"),
    "a head in cp1252": ("csv", "text,caf\xe9\n".encode("cp1252"), "asked:1: byte 9 of the line is not UTF-8"),
    "JSON in cp1252": ("json", '[\n"caf\xe9"]'.encode("cp1252"), "asked:2: byte 5 of the line is not UTF-8"),
    "zero bytes in CSV": ("csv", b"text\na bat\na \0bat\n", "asked:3: byte 3 of the line is a zero byte"),
    "zero bytes in JSON": ("json", b'["a bat",\n"a \0bat"]', "asked:2: byte 4 of the line is a zero byte"),
    "no column": ("csv", "sentence\na bat\n", "The CSV asked has no column `text` .found: sentence"),
    "commas in TSV": ("tsv", "text,target\na bat,bat\n", "The TSV asked has no column `text` .found: text,target"),
    "an empty CSV": ("csv", "", "The CSV asked has no column `text` .found: nothing"),
    "a column twice": ("csv", "text,target,Text\na bat,bat,b\n", "asked:1: the column `text` occurs twice"),
    "a quote without end": ("csv", 'text\na bat\n"a crane\n', "asked:3: not CSV"),
    "JSON cut off": ("json", '[{"text": "a bat"},\n{"text"', "asked:2: not JSON"),
    "very deep JSON": ("json", "[" * 100_000 + "]" * 100_000, "asked is nested too deeply"),
} | {
    f"{form} in {encoding}": (form, content.encode(encoding), "asked:1: .*(byte 1 of the line is not UTF-8|zero bytes)")
    for form, content in (
        ("text", "the bat\nflew\n"), ("jsonl", '{"text": "bat"}\n'), ("json", '["bat"]'), ("csv", "text\nbat\n"),
        ("tsv", "text\nbat\n"),
    )
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")
}  # fmt: skip


@table(REFUSED)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(case):
    form, content, message = case
    with pytest.raises(UserError, match=message):
        read(content, form)


REASONS = {  # format, second of three records, reason
    "text in cp1252": ("text", b"caf\xe9", "line 2: byte 4 of the line is not UTF-8"),
    "text with a zero byte": ("text", b"caf\0", "line 2: byte 4 of the line is a zero byte"),
    "JSON Lines in cp1252": ("jsonl", b'{"text": "caf\xe9"}', "line 2: byte 14 of the line is not UTF-8"),
    "no JSON": ("jsonl", b"a bat", "line 2: not JSON (Expecting value at character 1)"),
    "an empty line": ("jsonl", b"", "line 2: an empty line"),
    "nested": ("jsonl", b"[" * 100_000, "line 2: not JSON that can be read"),
    "no object": ("jsonl", b"[1]", "line 2: not a JSON object"),
    "no text": ("jsonl", b'{"target": "bat"}', "line 2: there is no `text`"),
    "a number": ("jsonl", b'{"text": 5}', "line 2: `text` is not a text"),
    "a target of one number": ("jsonl", b'{"text": "a", "target": [1]}', "line 2: `target` is not a word"),
    "a target of fractions": ("jsonl", b'{"text": "a", "target": [0.0, 1.5]}', "line 2: `target` is not a word"),
    "a target of bools": ("jsonl", b'{"text": "a", "target": [false, true]}', "line 2: `target` is not a word"),
    "a list of parts of speech": ("jsonl", b'{"text": "a", "pos": ["n"]}', "line 2: `pos` is not a text"),
    "half a pair": ("jsonl", b'{"text": "\\ud83e"}', "line 2: `text` has \\ud83e, half of a surrogate pair"),
    "half a pair in the target": ("jsonl", b'{"text": "a", "target": "\\udd87"}', "line 2: `target` has \\udd87"),
    "too many fields": ("csv", b"a bat, a club", "line 3: 2 fields for 1 columns"),
    "too many fields of TSV": ("tsv", b"a bat\ta club", "line 3: 2 fields for 1 columns"),
}


@table(REASONS)
def test_a_record_that_cannot_be_read_says_why_and_the_rest_is_read(case):
    form, second, reason = case
    good = b'{"text": "a mouse"}' if form == "jsonl" else b"a mouse"
    first, bad, third = read(b"\n".join([*([b"text"] if form in ("csv", "tsv") else []), good, second, good]), form)
    assert first == third == Asked("a mouse") and bad.text == "" and bad.reason.startswith(reason)


def test_the_id_of_a_record_that_cannot_be_read_is_given_back():
    assert [one.id for one in read('{"text": 5, "id": "x"}\n{"id": 7}\n[]', "jsonl")] == ["x", 7, None]
    first, second = read('[{"text": 5, "id": "x"}, 3]', "json")
    assert (first.id, first.reason) == ("x", "record 1: `text` is not a text")
    assert second.reason == "record 2: not a JSON object with a `text`"


def test_formats_are_told_by_the_ending():
    names = ["a.TXT", "a", "a.jsonl", "a.ndjson", "a.json", "a.CSV", "a.tsv", "a.tab"]
    assert [format_of(name, None) for name in names] == [
        "text", "text", "jsonl", "jsonl", "json", "csv", "tsv", "tsv",
    ]  # fmt: skip
    assert format_of("a.csv", "tsv") == "tsv"
