"""What would be asked and paid, before anything is: planned without a key and without a network."""

import asyncio
import itertools

import pandas as pd
import pytest
from test_definitions import SETTINGS
from test_dgpt_corpus import TUNABLE
from tiny_wordnet import tiny_inventory

from polclip.definitions.client import Pace
from polclip.definitions.cost import GLOSS_TOKENS, most_tokens_in, tokens_in
from polclip.definitions.glosses import gloss_of
from polclip.definitions.languages import in_language
from polclip.definitions.plan import plan_definitions, write_plan_table
from polclip.definitions.prompts import definition_in, request_of
from polclip.definitions.released import key_of
from polclip.errors import UserError
from polclip.files import read_json, read_json_lines
from polclip.records import TextualInstance, VisualInstance, write_records

SENTENCE = ["The", "bat", "saw", "another", "bat", "."]


def visual(number, word, phrase):
    return VisualInstance(f"q.{number}", "en", word, phrase, [f"p:{k}" for k in range(10)], "p:0")


def textual(target, candidates=(), gold=()):
    return TextualInstance("t.0", "s.0", SENTENCE, target, target + 1, "bat", "n", list(candidates), list(gold))


def plan(folder, instances, kind=VisualInstance, corpus="vwsd", **settings):
    source = folder / corpus / "en.parquet"
    write_records(source, kind, instances)
    outputs = folder / f"{corpus}.requests.jsonl", folder / f"{corpus}.plan.json"
    plan_definitions(source, kind, *outputs, SETTINGS | settings)
    return list(read_json_lines(outputs[0])), read_json(outputs[1])


def test_a_plan_counts_each_question_once_and_prices_it_by_every_model(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    lines, planned = plan(
        tmp_path, [visual(0, "bat", "bat club"), visual(1, "bat", "bat animal"), visual(2, "bat", "bat club")]
    )
    assert [line["instance_id"] for line in lines] == ["q.0", "q.1", "q.2"]
    asked = [line["request"] for line in lines]
    assert asked[0] == asked[2] != asked[1] and asked[0]["messages"][1]["content"] == 'Define "bat" in "bat club".'
    # "You define words." is 17 bytes, the questions are 27 and 29: 5, 7 and 8 tokens, and 4 around each message.
    assert (tokens_in(asked[0]), tokens_in(asked[1])) == (5 + 4 + 7 + 4, 5 + 4 + 8 + 4)
    assert (planned["instances"], planned["requests"]) == (3, 2)
    assert (planned["tokens_in"], planned["tokens_out"]) == (41, 2 * GLOSS_TOKENS)
    assert planned["most_tokens_in"] == sum(map(most_tokens_in, asked[:2])) == 17 + 27 + 17 + 29 + 4 * 16
    assert planned["most_tokens_out"] == 2 * 60
    about, most = 41 * 1 + 32 * 2, 154 * 1 + 120 * 2
    assert planned["usd"]["gpt-6-luna"] == {
        "about": about / 1e6,
        "most": most / 1e6,
        "batch": round(about / 2e6, 6),
    }
    assert planned["usd"]["ft:gpt-4o-mini-2024-07-18"]["about"] == (41 * 3 + 32 * 6) / 1e6


def test_a_model_to_be_fine_tuned_is_planned_at_its_price(tmp_path):
    lines, planned = plan(tmp_path, [visual(0, "bat", "bat club")], model=TUNABLE, finetuning={"corpus": "training"})
    assert lines[0]["request"]["model"] == planned["model"] == f"ft:{TUNABLE}"
    with pytest.raises(UserError, match="the price of 'unheard-of' is not known"):
        plan(tmp_path, [visual(0, "bat", "bat club")], model="unheard-of")
    _, own = plan(tmp_path, [visual(0, "bat", "bat club")], model="unheard-of", base_url="http://localhost:1/v1")
    assert own["usd"]["unheard-of"] == {"about": 0, "most": 0, "batch": 0}


def test_the_plans_of_all_corpora_make_a_table_and_a_sentence(tmp_path):
    for corpus, count in (("vwsd", 1000), ("trial", 500)):
        plan(tmp_path, [visual(k, "bat", f"bat {k:04}") for k in range(count)], corpus=corpus)
    text = write_plan_table(
        [tmp_path / "vwsd.plan.json", tmp_path / "trial.plan.json"], tmp_path / "t.tsv", tmp_path / "t.txt"
    )
    table = pd.read_csv(tmp_path / "t.tsv", sep="\t")
    models = table[table["corpus"] == "trial"]["model"]
    assert list(table["model"]) == [*models] * 2 and {"ft:gpt-4o-mini-2024-07-18", "gpt-6-luna"} < set(models)
    assert list(table[table["asked"]]["corpus"]) == ["vwsd", "trial"]
    asked = table[table["asked"]]
    about, most = asked["usd"].sum(), asked["usd_most"].sum()
    assert about == pytest.approx((1500 * 20 * 1 + 1500 * 16 * 2) / 1e6) and 0 < about < most
    assert text.startswith(
        f"1,500 questions for gpt-6-luna, about 30,000 tokens in and 24,000 out: about {about:.2f} USD, "
        f"{about / 2:.2f} by batch, {most:.2f} at most, reasoning included. Price: 1 USD for a "
        "million tokens in, 2 out. "
    )
    assert (tmp_path / "t.txt").read_text(encoding="utf-8") == text + "\n" and "ft:gpt-4o-mini-2024-07-18 " in text
    assert write_plan_table([], tmp_path / "none.tsv", tmp_path / "none.txt") == "no definitions are asked for."


def test_the_question_about_a_sentence_marks_the_target(tmp_path):
    first, second = (request_of(textual(at), SETTINGS)["messages"][1]["content"] for at in (1, 4))
    assert first == 'Define "bat" in "The *bat* saw another bat .".'
    assert second == 'Define "bat" in "The bat saw another *bat* .".'
    lines, _ = plan(tmp_path, [textual(1)], TextualInstance)
    assert lines[0]["request"]["messages"][1]["content"] == first
    assert key_of(textual(4)) == (("bat",), tuple(word.lower() for word in SENTENCE))


def test_wordnet_defines_a_target_as_lesk_does_whatever_the_gold(tmp_path):
    inventory = tiny_inventory(tmp_path)
    club, animal = _bats(inventory)
    instance = TextualInstance(
        "t", "s", ["a", "bat", "for", "hitting", "a", "ball"], 1, 2, "bat", "n", [animal, club], [animal]
    )
    assert gloss_of(instance, inventory) == ("a club for hitting a ball", None)
    instance = TextualInstance("t", "s", ["bat", "!"], 0, 1, "bat", "n", [animal, club], [animal])
    assert gloss_of(instance, inventory) == (None, "no_overlap")
    instance = TextualInstance("t", "s", ["bat", "!"], 0, 1, "bat", "n", [], [])
    assert gloss_of(instance, inventory) == (None, "no_gloss")


def _bats(inventory):
    by_gloss = {inventory.synset(s.synset_id).gloss: s.sense_key for s in inventory.senses("bat", "n")}
    return by_gloss["a club for hitting a ball"], next(key for gloss, key in by_gloss.items() if "animal" in gloss)


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("a small animal that flies at night", None),
        ("un piccolo animale che vola di notte", "wrong_language"),
        ("یک جانور کوچک که شب پرواز می کند", "wrong_language"),
        ("a reef", None),  # too short to say
        (" ".join(["word"] * 61), "overlong"),
    ],
)
def test_answers_in_another_language_or_too_long_are_flagged(text, flag):
    answer = {"text": text, "refusal": None, "finish_reason": "stop"}
    assert definition_in(answer, SETTINGS) == ((None, flag) if flag else (text, None))


def test_the_language_that_is_asked_for_is_a_setting():
    assert in_language("un piccolo animale che vola di notte", "it")
    assert not in_language("a small animal that flies at night", "it")


def test_requests_go_out_evenly_whoever_asks():
    async def times(count):
        pace, loop = Pace(6000), asyncio.get_running_loop()

        async def ask():
            await pace.turn()
            return loop.time()

        return sorted(await asyncio.gather(*(ask() for _ in range(count))))

    at = asyncio.run(times(30))
    assert at[-1] - at[0] >= 29 * 0.01 - 0.005
    # In no tenth of a second more than ten, and the one that may fall on its edge.
    assert all(late - early > 0.085 for early, late in zip(at, itertools.islice(at, 10, None), strict=False))
