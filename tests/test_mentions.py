"""Which words of a running text are looked up, and as which lemmas."""

import pytest
from tiny_wordnet import tiny_inventory

from polclip.corpora.mentions import FUNCTION_WORDS, LemmaFinder
from polclip.corpora.words import token_spans, tokenise
from polclip.inventory import Inventory


def inventory_of(*lemmas):
    """An inventory of nothing but these lemmas, given as "look_up.v"."""
    rows = [lemma.rpartition(".") for lemma in sorted(lemmas)]
    senses = {
        "sense_key": [f"{lemma}%{pos}" for lemma, _, pos in rows],
        "lemma": [lemma for lemma, _, _ in rows],
        "pos": [pos for _, _, pos in rows],
        "ss_type": [pos for _, _, pos in rows],
        "sense_number": [1] * len(rows),
        "tag_count": [0] * len(rows),
        "synset_id": [f"{at:08d}-{pos}" for at, (_, _, pos) in enumerate(rows)],
    }
    return Inventory(senses, {})


@pytest.fixture(scope="module")
def finder():
    return LemmaFinder(
        inventory_of(
            "bat.n", "bat.v", "fly.v", "fly.n", "leave.v", "left.a", "left.n", "look.v", "look.n", "look_up.v",
            "word.n",
            "a.n", "in.n", "be.v", "time.n", "part.n", "part-time.a", "united_states.n", "united_states_of_america.n",
            "state.n", "unite.v", "mouse.n", "well.r", "well.n", "u.s.n", "hot_dog.n",
        )
    )  # fmt: skip


def found(finder, text, pos=None):
    return [(text[m.start : m.end], sorted(f"{lemma}.{part}" for lemma, part in m.lemmas)) for m in
            finder.content_words(text, pos)]  # fmt: skip


def test_content_words_are_found_in_any_form_and_function_words_are_not(finder):
    assert found(finder, "A bat was flying in; the Mice left.") == [
        ("bat", ["bat.n", "bat.v"]), ("flying", ["fly.v"]), ("Mice", ["mouse.n"]),
        ("left", ["leave.v", "left.a", "left.n"]),
    ]  # fmt: skip
    assert found(finder, "the flies left", "n") == [("flies", ["fly.n"]), ("left", ["left.n"])]
    assert found(finder, "") == found(finder, "...!") == []
    assert {"the", "of", "was", "n't"} <= FUNCTION_WORDS and not {"well", "bat"} & FUNCTION_WORDS


def test_the_longest_lemma_of_several_words_is_taken(finder):
    assert found(finder, "the United States of America looked up words") == [
        ("United States of America", ["united_states_of_america.n"]), ("looked up", ["look_up.v"]),
        ("words", ["word.n"]),
    ]  # fmt: skip
    assert found(finder, "United States , hot   dogs") == [
        ("United States", ["united_states.n"]), ("hot   dogs", ["hot_dog.n"]),
    ]  # fmt: skip
    assert [text for text, _ in found(finder, "looks up", "n")] == ["looks"]  # look_up is no noun
    assert found(finder, "a part-time look") == [("part-time", ["part-time.a"]), ("look", ["look.n", "look.v"])]


def test_a_target_is_found_as_it_stands_before_as_a_lemma(finder):
    def place(text, target, pos=None):
        mention = finder.find(text, target, pos)
        return mention and (text[mention.start : mention.end], mention.start, sorted(mention.lemmas))

    assert place("BAT bat", "bat") == ("bat", 4, [("bat", "n"), ("bat", "v")])
    assert place("the BAT", "bat") == ("BAT", 4, [("bat", "n"), ("bat", "v")])
    assert place("two bats", "bat", "n") == ("bats", 4, [("bat", "n")])
    assert place("it flew", "fly") == ("flew", 3, [("fly", "v")])
    assert place("looked the word up", "look_up", "v") == ("looked", 0, [("look_up", "v")])
    assert place("we looked up", "look up") == ("looked up", 3, [("look_up", "v")])
    assert place("in it", "in") == ("in", 0, [("in", "n")])  # asked for, a function word is answered
    assert place("combat", "bat") is None and place("bat", "") is None and place("a gronk", "mouse") is None
    assert place("a gronk", "gronk") == ("gronk", 2, [])


def test_candidates_of_real_lemmas_are_those_of_the_inventory(tmp_path):
    inventory = tiny_inventory(tmp_path)
    finder = LemmaFinder(inventory)
    for lemma, pos in inventory.lemmas():
        assert (lemma, pos) in finder.lemmas_of(lemma.replace("_", " "))
        assert finder.lemmas_of(lemma, pos) == ((lemma, pos),)


def test_spans_are_those_of_the_tokens():
    text = "He said: \"don't\", in the U.S.A. at 10:30\t(o'clock)!"
    assert [text[start:end] for start, end in token_spans(text)] == tokenise(text)
