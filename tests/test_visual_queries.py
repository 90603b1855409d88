import json
from collections import defaultdict
from dataclasses import replace

import pytest
from tiny_wordnet import tiny_inventory

from polclip.corpora import visual_queries
from polclip.corpora.visual_queries import CANDIDATES, QuerySettings, read_phrases, sides_of
from polclip.errors import UserError
from polclip.records import Phrase, Picture, VisualInstance, read_records, write_records

FAMILIES = {"noto": "noto", "noto-v1": "noto", "ink": "ink", "dots": "dots", "clay": "clay"}
SETTINGS = QuerySettings(
    seed=0,
    dev_families=("dots",),
    test_families=("clay",),
    ambiguous_dev=0.2,
    ambiguous_test=0.3,
    other_dev=0.1,
    other_test=0.2,
    queries_per_sense=2,
    rivals_per_query=2,
)
BENCHMARKS = ("dev_style", "dev_words", "unseen_style", "unseen_words", "hard")


def made_up_phrases(ambiguous=40, plain=80):
    """Words of two senses, and words of one; every tenth ambiguous word shares its second synset with another word."""
    found = []
    for k in range(ambiguous):
        for sense in "ab":
            found.append(Phrase(f"word{k}", f"word{k} cue{sense}", f"word{k}%{sense}", f"s{k}{sense}"))
        if k % 10 == 0:
            found.append(Phrase(f"like{k}", f"like{k} cue", f"like{k}%b", f"s{k}b"))
    return found + [Phrase(f"thing{k}", f"thing{k} cue", f"thing{k}%a", f"t{k}") for k in range(plain)]


def drawings(style, synsets, count=2):
    return [
        Picture(f"{style}:{s}.{k}", "none.png", style, FAMILIES[style], s, s, "d")
        for s in synsets
        for k in range(count)
    ]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Build the corpora of some styles and phrases; give records by name, and the counts."""

    def build(styles=tuple(FAMILIES), phrases=None, settings=SETTINGS, pictures=None, name="made"):
        phrases = made_up_phrases() if phrases is None else phrases
        monkeypatch.setattr(visual_queries, "read_phrases", lambda _: phrases)
        synsets = list(dict.fromkeys(phrase.synset_id for phrase in phrases))
        folder = tmp_path / name
        paths = []
        for style in styles:
            found = drawings(style, synsets) if pictures is None else [p for p in pictures if p.style == style]
            write_records(folder / f"{style}.parquet", Picture, found)
            paths.append(folder / f"{style}.parquet")
        outputs = {output: folder / f"out/{output}.parquet" for output in ("pictures", "phrases", *BENCHMARKS)}
        visual_queries.build(None, paths, outputs, folder / "counts.json", settings)
        kinds = {"pictures": Picture, "phrases": Phrase}
        made = {key: list(read_records(path, kinds.get(key, VisualInstance))) for key, path in outputs.items()}
        assert json.loads((folder / "counts.json").read_text()) == {key: len(items) for key, items in made.items()}
        return made

    return build


def style_of(picture_id):
    return picture_id.split(":")[0]


def synset_of(picture_id):
    return picture_id.split(":")[1].split(".")[0]


def test_a_word_stands_on_one_side_with_all_its_senses(make):
    made = make()
    words = {
        "train": {phrase.word for phrase in made["phrases"]} | {query.word for query in made["unseen_style"]},
        "dev": {query.word for query in made["dev_words"]},
        "test": {query.word for name in ("unseen_words", "hard") for query in made[name]},
    }
    assert not words["train"] & words["dev"] and not words["train"] & words["test"] and not words["dev"] & words["test"]
    assert all(len(found) > 5 for found in words.values())
    trained = {picture.synset_id for picture in made["pictures"]}
    senses = defaultdict(set)
    for phrase in made_up_phrases():
        senses[phrase.word].add(phrase.synset_id)
    for side in ("dev", "test"):
        for word in words[side]:
            assert not senses[word] & trained
    # Words that share a synset go together.
    sides = sides_of(made_up_phrases(), SETTINGS)
    assert all(sides[f"s{k}a"] == sides[f"s{k}b"] for k in range(40))


def test_no_picture_that_is_asked_about_was_trained(make):
    made = make()
    trained = {picture.picture_id for picture in made["pictures"]}
    unseen = {p for name in ("dev_words", "unseen_words", "hard") for query in made[name] for p in query.candidates}
    # Known concepts serve as nothing in the tests of unseen words.
    assert not unseen & trained
    assert not {synset_of(p) for p in unseen} & {picture.synset_id for picture in made["pictures"]}


def test_families_of_styles_stay_on_one_side(make):
    made = make()
    assert {picture.family for picture in made["pictures"]} == {"noto", "ink"}
    assert {style_of(p) for query in made["dev_style"] for p in query.candidates} == {"dots"}
    assert {style_of(p) for query in made["unseen_style"] for p in query.candidates} == {"clay"}
    assert "clay" not in {style_of(p) for query in made["dev_words"] for p in query.candidates}
    held_out = replace(SETTINGS, dev_families=("noto",))
    assert {picture.style for picture in make(settings=held_out, name="noto")["pictures"]} == {"ink", "dots"}


def test_each_query_has_ten_different_concepts_of_which_one_is_right(make):
    made = make()
    senses = defaultdict(set)
    for phrase in made_up_phrases():
        senses[phrase.word].add(phrase.synset_id)
    for name in BENCHMARKS:
        ids = [query.instance_id for query in made[name]]
        assert len(ids) == len(set(ids)) > 0
        for query in made[name]:
            assert len(query.candidates) == len(set(query.candidates)) == CANDIDATES
            assert query.gold in query.candidates and set(query.rivals) <= set(query.candidates)
            others = senses[query.word] - {synset_of(query.gold)}
            assert all(synset_of(rival) in others for rival in query.rivals)
            rest = [synset_of(p) for p in query.candidates if p not in query.rivals]
            assert len(rest) == len(set(rest)) and not set(rest) & others
            assert query.phrase.startswith(query.word)
            # The style tells nothing: every candidate's is that of the gold or of a rival.
            styles = {style_of(query.gold), *map(style_of, query.rivals)}
            counts = [sum(style_of(p) == style for p in query.candidates) for style in styles]
            assert sum(counts) == CANDIDATES and min(counts) >= 2
    assert all(query.rivals for query in made["hard"]) and not any(query.rivals for query in made["unseen_words"])
    assert {bool(query.rivals) for query in made["unseen_style"]} == {True, False}


def test_the_other_pictures_are_drawn_anew_for_each_query(make):
    queries = make()["unseen_style"]
    often = defaultdict(int)
    for query in queries:
        for picture in set(query.candidates) - {query.gold, *query.rivals}:
            often[picture] += 1
    assert len(often) > 50 and max(often.values()) < len(queries) / 3


def test_the_gold_may_stand_anywhere(make):
    places = [query.candidates.index(query.gold) for query in make()["unseen_style"]]
    assert set(places) == set(range(CANDIDATES)) and max(map(places.count, set(places))) < len(places) / 3


def test_rivals_come_from_another_style_where_the_golds_own_has_none(make):
    phrases = made_up_phrases()
    synsets = list(dict.fromkeys(phrase.synset_id for phrase in phrases))
    pictures = [
        picture
        for style in FAMILIES
        for picture in drawings(style, synsets)
        if style != "ink" or not picture.synset_id.endswith("b")  # ink draws first senses alone
    ]
    hard = make(pictures=pictures)["hard"]
    strangers = [query for query in hard if style_of(query.gold) == "ink"]
    assert strangers
    for query in strangers:
        concepts = [synset_of(p) for p in query.candidates]
        assert len(set(concepts)) >= CANDIDATES - len(query.rivals) + 1  # only the rivals may share theirs
        styles = [style_of(p) for p in query.candidates if p not in query.rivals]
        others = [styles.count(style) for style in {style_of(rival) for rival in query.rivals}]
        # Both styles share the rest of the ten, or the style would tell gold from the others.
        assert styles.count("ink") >= 3 and min(others) >= 2
    for query in hard:
        own = [style_of(rival) == style_of(query.gold) for rival in query.rivals]
        assert all(own) if query not in strangers else not any(own)


def test_a_style_more_leaves_sides_and_remaining_queries_as_they_were(make):
    """What holds when a style is added that draws the same concepts: golds of the new style replace some others;
    a query that remains (same id) is the same, since rivals and candidates come from its gold's own style."""
    without, with_more = make(("noto", "dots", "clay", "ink")), make(name="more")
    for name in BENCHMARKS:
        after = {query.instance_id: query for query in with_more[name]}
        kept = [query for query in without[name] if query.instance_id in after]
        assert len(kept) >= len(without[name]) / 4
        assert all(after[query.instance_id] == query for query in kept)
        assert all("noto-v1:" in name for name in after.keys() - {query.instance_id for query in without[name]})
    assert with_more["phrases"] == without["phrases"]


def test_a_word_more_moves_no_other_word():
    phrases = made_up_phrases()
    before = sides_of(phrases, SETTINGS)
    after = sides_of([Phrase("new", "new cue", "new%a", "n1"), *phrases[::-1]], SETTINGS)
    assert before.items() <= after.items()
    assert sides_of(phrases, replace(SETTINGS, seed=1)) != before


def test_fractions_of_words_are_kept_out_by_kind():
    phrases = made_up_phrases(ambiguous=400, plain=400)
    sides = sides_of(phrases, SETTINGS)
    for prefix, wanted in (("s", (0.2, 0.3)), ("t", (0.1, 0.2))):
        of_kind = [side for synset, side in sides.items() if synset.startswith(prefix)]
        for side, share in zip(("dev", "test"), wanted, strict=True):
            assert of_kind.count(side) / len(of_kind) == pytest.approx(share, abs=0.07)


def test_a_concept_drawn_in_held_out_styles_alone_is_neither_trained_nor_asked_about_as_known(make):
    phrases = made_up_phrases()
    known = next(k for k in range(80) if sides_of(phrases, SETTINGS)[f"t{k}"] == "train")
    synsets = list(dict.fromkeys(phrase.synset_id for phrase in phrases))
    pictures = [
        picture
        for style in FAMILIES
        for picture in drawings(style, synsets)
        if picture.synset_id != f"t{known}" or style in ("dots", "clay")
    ]
    made = make(pictures=pictures)
    assert f"t{known}" not in {phrase.synset_id for phrase in made["phrases"]}
    for name in ("dev_style", "unseen_style"):
        assert f"t{known}" not in {synset_of(p) for query in made[name] for p in query.candidates}


def test_too_few_pictures_end_as_one_error_that_names_the_corpus_and_writes_nothing(make, tmp_path):
    with pytest.raises(UserError, match=r"'unseen_style' came out empty.*families held out"):
        make(settings=replace(SETTINGS, test_families=("none",)))
    assert not (tmp_path / "made" / "out").exists() and not (tmp_path / "made" / "counts.json").exists()


def test_phrases_join_word_and_cue_and_name_the_line_of_an_unknown_sense(tmp_path):
    inventory, path = tiny_inventory(tmp_path), tmp_path / "phrases.tsv"
    path.write_text("word\tsense_key\tcue\nbat\tbat%1:05:00::\twing\nMighty_Mouse\tmighty_mouse%1:05:00::\tcape\n")
    assert read_phrases(inventory, path) == [
        Phrase("bat", "bat wing", "bat%1:05:00::", "00000101-n"),
        Phrase("Mighty Mouse", "Mighty Mouse cape", "mighty_mouse%1:05:00::", "00000106-n"),
    ]
    path.write_text("word\tsense_key\tcue\nbat\tbat%1:05:00::\twing\nbat\tbat%1:99:00::\tx\n")
    with pytest.raises(UserError, match=r"phrases\.tsv:3: unknown sense key 'bat%1:99:00::'"):
        read_phrases(inventory, path)
