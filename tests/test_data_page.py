"""The page of the data: counts, ranges and coverage are those of the files."""

from collections import Counter

import pytest
from tiny_wordnet import tiny_inventory

from polclip.records import Picture, TextualInstance, VisualInstance, write_records
from polclip.reporting.corpus_statistics import CORPORA_COLUMNS, corpus_statistics, mean, quantile
from polclip.reporting.data_page import in_ranges, statistics_table, write_data_page

ANIMAL, CLUB = "bat%1:05:00::", "bat%1:06:00::"


def word(instance_id, sentence, gold, candidates=(ANIMAL, CLUB), lemma="bat"):
    tokens = sentence.split()
    return TextualInstance(instance_id, sentence, tokens, 0, 1, lemma, "n", list(candidates), gold)


@pytest.fixture
def statistics(tmp_path):
    inventory = tiny_inventory(tmp_path)
    animal = inventory.sense(ANIMAL).synset_id
    train = [word("a", "bat flies", [ANIMAL]), word("b", "bat flies", [ANIMAL], lemma="baseball_bat")]
    test = [
        word("c", "a bat", [ANIMAL]),
        word("d", "one wooden bat here", [CLUB, ANIMAL]),
        word("e", "one wooden bat here", [CLUB]),
        word("f", "a ball", ["ball%1:06:00::"], candidates=[], lemma="ball"),
    ]
    pictures = [
        Picture(f"p:{k}", f"{k}.png", "p", "p", str(k), synset_id, "p")
        for k, synset_id in enumerate([animal, animal, animal, None])
    ]
    queries = [
        VisualInstance("q", "it", "bat", "bat mammal", ["p:0", "p:9"], "p:0", rivals=["p:9"]),
        VisualInstance("r", "it", "bat", "bat mammal", ["p:0", "p:1"], "p:7"),
    ]
    for kind, name, records in (
        (TextualInstance, "text/train", train),
        (TextualInstance, "text/test", test),
        (Picture, "set/pictures", pictures),
        (VisualInstance, "visual/visual_it", queries),
    ):
        write_records(tmp_path / f"{name}.parquet", kind, records)
    textual = {"train": [tmp_path / "text/train.parquet"], "dev": [], "test": [tmp_path / "text/test.parquet"]}
    visual = {"train": [tmp_path / "set/pictures.parquet"], "dev": [], "test": [tmp_path / "visual/visual_it.parquet"]}
    return corpus_statistics(textual, visual, [tmp_path / "set/pictures.parquet"], inventory)


def test_sentences_are_counted(statistics):
    train, test = statistics.textual
    assert (train.side, train.instances, train.lengths, train.lemmas, train.synsets) == ("train", 2, {2: 1}, 2, 1)
    assert (test.side, test.instances, test.lengths, test.candidates) == ("test", 4, {2: 2, 4: 1}, {2: 3, 0: 1})
    assert (test.gold_missing, test.several_gold, test.first_sense) == (1, 1, 2)


def test_what_training_meets_is_told_by_word_by_sense_and_by_picture(statistics):
    test = statistics.textual[1]
    assert (test.lemma_seen, test.sense_seen, test.sense_shown) == (3, 2, 2)
    every, nouns, *others = statistics.coverage
    assert (every.synsets, every.in_text, every.in_pictures, every.in_both) == (14, 1, 1, 1)
    assert (nouns.part, nouns.in_text) == ("n", 1)
    assert [(row.part, row.in_text) for row in others] == [("v", 0), ("a", 0), ("r", 0)]
    assert others[1].synsets == 2  # one of them a satellite
    assert every.synsets == nouns.synsets + sum(row.synsets for row in others)


def test_queries_and_pictures_are_counted(statistics):
    (queries,) = statistics.visual
    assert (queries.languages, queries.pictures, queries.missing, queries.with_rivals) == ({"it": 2}, 3, 1, 1)
    assert (queries.instances, queries.lengths, queries.gold_missing) == (2, {2: 1}, 1)
    (pictures,) = statistics.pictures
    assert (pictures.pictures, pictures.synsets, pictures.of_no_sense, pictures.per_sense) == (4, 1, 1, {3: 1})


def test_ranges_hold_everything_from_their_lower_end_on():
    assert in_ranges(Counter({1: 1, 3: 1, 4: 1, 99: 1}), (1, 2, 3, 5)) == {"1": 25, "2": 0, "3\u20134": 50, "5+": 25}
    assert mean(Counter({2: 3, 6: 1})) == 3
    assert [quantile(Counter({2: 3, 6: 1}), share) for share in (0.5, 0.75, 0.76, 1)] == [2, 2, 6, 6]
    assert mean(Counter()) == quantile(Counter(), 0.5) == 0


def test_page_and_table_show_the_same_numbers(statistics, tmp_path):
    files = [tmp_path / name for name in ("data.html", "statistics.tsv", "corpora.tsv")]
    write_data_page("tiny <run>", statistics, *files)
    page = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert "tiny &lt;run&gt;" in page and "<script" not in page
    assert page.count("<svg") == 6  # candidates and lengths of two files, phrases, pictures of a sense
    assert "Sentences: those with a marked word." in page
    assert "meets 1 of the inventory's 14 synsets in sentences and 1 in pictures" in page
    table = statistics_table(statistics)
    values = {(row.corpus, row.split, row.statistic): row.value for row in table.itertuples()}
    assert values["text", "test", "lemma_seen"] == 3 and values["text", "test", "pos_n"] == 4
    assert values["text", "test", "candidates_mean"] == 1.5 and values["text", "test", "candidates_max"] == 2
    assert values["inventory", "all", "in_both"] == 1
    assert files[1].read_text(encoding="utf-8").count("\n") == len(table) + 1
    assert files[2].read_text(encoding="utf-8").splitlines() == [
        "\t".join(CORPORA_COLUMNS),
        "text\ttrain\t1\t2\t2.0\t0\t0",
        "text\ttest\t3\t4\t1.5\t1\t0",
        "set\tpictures\t0\t0\t0.0\t0\t4",
        "visual\tvisual_it\t1\t2\t2.0\t1\t3",
    ]
