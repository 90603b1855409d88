"""What D-GPT is fine-tuned on: glosses of the training corpora alone, chosen by a seed, checked and priced."""

import json
from collections import Counter

import pytest
from test_definitions import SETTINGS
from tiny_wordnet import tiny_inventory

from polclip.definitions.dgpt_corpus import build_dgpt_corpus, check_dgpt_corpus
from polclip.definitions.prompts import messages_of
from polclip.errors import UserError
from polclip.files import read_json, read_json_lines
from polclip.records import TextualInstance, VisualInstance, write_records

KEYS = ["bat%1:05:00::", "bat%1:06:00::", "cave%1:17:00::"]
TUNABLE = "gpt-4o-mini-2024-07-18"
FINETUNING = {"corpus": "training", "lines": 15000, "epochs": 3, "seed": 42, "suffix": "dgpt", "max_usd": 60}


def sentence(name, text, gold, target=1):
    tokens = text.split()
    return TextualInstance(name, f"s.{name}", tokens, target, target + 1, "bat", "n", KEYS[:2], gold)


def sentences(start, count, key, what="flies"):
    return [sentence(f"{what}.{at}", f"The bat {what} {at}", [key]) for at in range(start, start + count)]


@pytest.fixture
def build(tmp_path):
    """Build a corpus of files of instances: its lines, and what is told of it."""
    inventory = tiny_inventory(tmp_path)

    def built(*train, textual=(), visual=(), reverse=False, **finetuning):
        files = []
        for at, instances in enumerate(train):
            files.append(tmp_path / f"train-{at}.parquet")
            write_records(files[-1], TextualInstance, instances)
        held_out = tmp_path / "textual.parquet", tmp_path / "visual.parquet"
        write_records(held_out[0], TextualInstance, textual)
        write_records(held_out[1], VisualInstance, visual)
        corpus, about = tmp_path / "corpus.jsonl", tmp_path / "corpus.json"
        settings = SETTINGS | {"model": TUNABLE, "finetuning": FINETUNING | finetuning}
        files = files[::-1] if reverse else files
        build_dgpt_corpus(files, held_out[:1], held_out[1:], inventory, corpus, about, settings)
        return list(read_json_lines(corpus)), read_json(about)

    return built


def test_a_line_is_the_question_about_an_instance_and_the_gloss_of_its_sense(build, tmp_path):
    lines, about = build(sentences(0, 12, KEYS[0]))
    instance = sentences(0, 1, KEYS[0])[0]
    assert lines[0]["messages"][:2] == messages_of(instance, SETTINGS)
    assert lines[0]["messages"][1]["content"] == 'Define "bat" in "The *bat* flies 0".'
    gloss = 'a winged animal of the night (some say "a mouse with wings")'
    assert {json.dumps(line["messages"][2]) for line in lines} == {json.dumps({"role": "assistant", "content": gloss})}
    # By the rule of four bytes a token, and four around each message.
    tokens = sum(-(-len(m["content"].encode()) // 4) + 4 for line in lines for m in line["messages"])
    expected = {"lines": 12, "duplicates": 0, "tokens": tokens, "epochs": 3, "model": TUNABLE}
    assert expected.items() <= about.items() and about["usd"] == pytest.approx(tokens * 3 * 8 / 1e6, abs=1e-4)
    assert (about["instances"], about["senses"], about["left_out"]) == (12, 1, {})


def test_every_sense_once_before_any_twice(build):
    corpora = sentences(0, 40, KEYS[0]), sentences(0, 3, KEYS[1], "hits"), sentences(0, 2, KEYS[2], "yawns")
    lines, about = build(*corpora, lines=11)
    glosses = Counter(line["messages"][2]["content"] for line in lines)
    assert sorted(glosses.values()) == [2, 3, 6] and about["lines"] == 11 and about["senses"] == 3
    lines, _ = build(*corpora, lines=10)
    assert sorted(Counter(line["messages"][2]["content"] for line in lines).values()) == [2, 3, 5]


def test_what_is_chosen_is_the_seeds_and_not_that_of_the_order_of_the_files(build, tmp_path):
    corpora = sentences(0, 40, KEYS[0]), sentences(0, 30, KEYS[1], "hits")
    first, _ = build(*corpora, lines=20)
    content = (tmp_path / "corpus.jsonl").read_bytes()
    build(*corpora, lines=20, reverse=True)
    assert (tmp_path / "corpus.jsonl").read_bytes() == content
    # The same lines of the same instances in another order, and one of them twice.
    again, about = build(corpora[1][::-1] + corpora[1][:1], corpora[0][::-1], lines=20)
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, first)) and about["duplicates"] == 0
    other, _ = build(*corpora, lines=20, seed=43)
    assert sorted(map(json.dumps, other)) != sorted(map(json.dumps, first))


def test_nothing_of_the_dev_and_test_sets_gets_in(build):
    train = [
        *sentences(0, 20, KEYS[0]),
        sentence("x", "the bat , FLIES 3", [KEYS[0]]),  # the same words, written otherwise
        sentence("y", "bat rodent", [KEYS[0]], target=0),
        sentence("z", "a bat of another dictionary", ["bat%1:99:99::"]),
        sentence("long", "the bat " + "x" * 70_000, [KEYS[0]]),
    ]
    tested = [sentence("test", "The bat flies 3 .", [KEYS[1]])]
    query = VisualInstance("q", "en", "bat", "Bat rodent", ["p:1"], "p:1")
    lines, about = build(train, textual=tested, visual=[query])
    said = " ".join(line["messages"][1]["content"] for line in lines)
    assert len(lines) == 19 and 'flies 3"' not in said and "rodent" not in said
    assert about["left_out"] == {"gold_not_in_wordnet": 1, "in_dev_or_test": 3, "too_long": 1}
    assert about["instances"] == 24


def test_too_few_lines_are_refused_and_nothing_is_left(build, tmp_path):
    with pytest.raises(UserError, match=r"corpus.jsonl has 9 lines; at least 10 are needed"):
        build(sentences(0, 9, KEYS[0]))
    assert not (tmp_path / "corpus.jsonl").exists() and not (tmp_path / "corpus.json").exists()


def line(*messages):
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


GOOD = ("system", "s"), ("user", "u"), ("assistant", "a")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (line(*GOOD[:2]), "line 12: not a chat to learn from. Allowed: .* system, user, assistant"),
        (line(GOOD[0], GOOD[2], GOOD[1]), "line 12: not a chat"),
        (line(*GOOD, GOOD[1]), "line 12: not a chat"),
        ({"prompt": "u", "completion": "a"}, "line 12: not a chat"),
        ([1], "line 12: not a chat"),
        (line(*GOOD[:2], ("assistant", " ")), "line 12: the message of assistant is empty"),
        (line(GOOD[0], ("user", None), GOOD[2]), "line 12: the message of user is empty"),
        (line(GOOD[0], ("user", "x" * 64_000), GOOD[2]), r"line 12: more than 16,000 tokens"),
    ],
)
def test_a_corpus_is_checked_line_by_line(tmp_path, wrong, message):
    corpus = tmp_path / "released.jsonl"
    good = [line(GOOD[0], ("user", str(at)), GOOD[2]) for at in range(11)]
    corpus.write_text("".join(json.dumps(one) + "\n" for one in [*good, wrong]))
    settings = SETTINGS | {"model": TUNABLE, "finetuning": FINETUNING}
    with pytest.raises(UserError, match=message):
        check_dgpt_corpus(corpus, settings)
    corpus.write_text("".join(json.dumps(one) + "\n" for one in [*good, good[0]]))
    about = check_dgpt_corpus(corpus, settings)
    assert (about["lines"], about["duplicates"]) == (12, 1)
    with pytest.raises(UserError, match=r"no price of training 'ft:gpt-4o-mini-2024-07-18:x'"):
        check_dgpt_corpus(corpus, settings | {"model": "ft:gpt-4o-mini-2024-07-18:x"})
    own = settings | {"model": "own", "base_url": "http://localhost:8000/v1"}
    assert check_dgpt_corpus(corpus, own)["usd"] == 0
