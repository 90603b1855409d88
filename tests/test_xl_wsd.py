"""XL-WSD: sets with BabelNet's senses and an inventory of their own, and the table that ties them to WordNet."""

import zipfile
from dataclasses import replace

import pytest
from tiny_wordnet import COUNTS, FOLDER

from polclip.babelnet import _synset, pos_of
from polclip.corpora import xl_wsd
from polclip.corpora.texts import collect
from polclip.errors import UserError
from polclip.evaluation.baselines import first_sense, predict_baseline, random_order
from polclip.evaluation.lesk import lesk
from polclip.evaluation.score_files import score_textual_file
from polclip.evaluation.scores import compare_experiments, score_predictions
from polclip.inventory import Inventory, build_inventory
from polclip.records import TextualInstance, read_records
from polclip.reporting.corpus_statistics import corpus_statistics
from polclip.reporting.failures import BY_ORDER, textual_failures
from polclip.reporting.outcomes import FIRST, LATER, Learned, first_answers, meanings
from polclip.training.corpora import TextualCorpus

XML = """<?xml version='1.0' encoding='UTF-8'?>
<corpus lang="en" source="senseval2_semeval2010"><text id="senseval2.d000">
<sentence id="senseval2.d000.s000">
<wf lemma="the" pos="DET">The</wf>
<instance id="senseval2.d000.s000.t000" lemma="Bat" pos="NOUN">bats</instance>
<instance id="senseval2.d000.s000.t001" lemma="look_up" pos="VERB">looked up</instance>
</sentence></text><text id="semeval2010.d001">
<sentence id="semeval2010.d001.s000"><wf lemma="no" pos="DET">No</wf></sentence>
<sentence id="semeval2010.d001.s001">
<instance id="semeval2010.d001.s001.t000" lemma="zorb" pos="NOUN">zorbs</instance>
</sentence></text></corpus>
"""
GOLD = """senseval2.d000.s000.t000 bn:00000002n
senseval2.d000.s000.t001 bn:00000009v bn:00000008v
semeval2010.d001.s001.t000 bn:00000077n
"""
INVENTORY = """bat#NOUN\tbn:00000003n\tbn:00000001n\tbn:00000002n
Bat#NOUN\tbn:00000004n\tbn:00000001n
look_up#VERB\tbn:00000008v\tbn:00000009v
that#PRON\tbn:00000099n
bare#ADJ
"""


def archive(folder, xml=XML, gold=GOLD, inventory=INVENTORY, top="xl-wsd/"):
    path = folder / "xl-wsd-data.zip"
    members = {
        f"{top}evaluation_datasets/test-en/test-en.data.xml": xml,
        f"{top}evaluation_datasets/test-en/test-en.gold.key.txt": gold,
        f"{top}evaluation_datasets/dev-it/dev-it.data.xml": XML,
        f"{top}evaluation_datasets/dev-it/dev-it.gold.key.txt": GOLD,
        f"{top}training_datasets/semcor_en/semcor_en.data.xml": "<corpus/>",
        f"__MACOSX/{top}inventories/._inventory.en.txt": "\x00",
        f"{top}inventories/inventory.en.txt": inventory,
        f"{top}inventories/inventory.it.txt": "bat#NOUN\tbn:00000002n\n",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            if content is not None:
                file.writestr(name, content)
    return path


def read(folder, split, wordnet=None, **parts):
    counts = xl_wsd.build(archive(folder, **parts), split, folder / f"{split}.parquet", wordnet)
    return counts, list(read_records(folder / f"{split}.parquet", TextualInstance))


@pytest.mark.parametrize("top", ["xl-wsd/", "", "some/where/"])
def test_candidates_are_those_of_the_sets_own_inventory_in_its_order(tmp_path, top):
    counts, (bat, look, zorb) = read(tmp_path, "xl_en", top=top)
    assert {name: n for name, n in counts.items() if n} == {
        "sentences": 3, "instances": 3, "gold_missing": 1, "no_candidates": 1, "first_sense_unknown": 2,
    }  # fmt: skip
    assert (bat.lemma, bat.pos, bat.gold) == ("bat", "n", ["bn:00000002n"])
    assert bat.candidates == ["bn:00000003n", "bn:00000001n", "bn:00000002n", "bn:00000004n"]
    assert bat.text[slice(*bat.target_span)] == "bats"
    assert look.candidates == ["bn:00000008v", "bn:00000009v"] and look.gold == ["bn:00000009v", "bn:00000008v"]
    assert zorb.candidates == []  # kept: the official score counts it


def test_english_comes_without_semeval_2010_too(tmp_path):
    counts, instances = read(tmp_path, "xl_en_without_semeval2010")
    assert {name: n for name, n in counts.items() if n} == {
        "sentences": 1, "instances": 2, "first_sense_unknown": 2,
    }  # fmt: skip
    assert {instance.instance_id.split(".")[0] for instance in instances} == {"senseval2"}


def test_a_dev_set_has_its_languages_inventory(tmp_path):
    counts, (bat, look, _) = read(tmp_path, "xl_it_dev")
    assert counts["no_candidates"] == 2
    assert bat.candidates == ["bn:00000002n"] and look.candidates == []


@pytest.mark.parametrize(
    ("split", "parts", "message"),
    [
        ("xl_xx", {}, "no split 'xl_xx'. Allowed: xl_ and a language .*zh"),
        ("xl_it_without_semeval2010", {}, "no split"),
        ("xl_it", {}, "no set 'test-it'. Allowed: dev-it, semcor_en, test-en"),
        ("xl_en", {"inventory": None}, r"no inventories/inventory.en.txt"),
        ("xl_en", {"gold": None}, "no gold file"),
        ("xl_en", {"xml": XML[:400]}, "not the XML of the unified framework"),
        ("xl_en", {"gold": GOLD.split("\n", 1)[1]}, "t000.*has no gold line"),
        ("xl_en", {"inventory": INVENTORY + "bat NOUN\tbn:00000001n\n"}, r"inventory.en.txt:6: 'bat NOUN' where"),
        ("xl_en", {"inventory": "bat#NOUN\tbn:00000001n\twn:00000002n\n"}, r"inventory.en.txt:1: 'wn:00000002n'"),
        ("xl_en", {"inventory": b"bat#NOUN\t\xff\xfe\n"}, "inventory.en.txt is not a text file in UTF-8"),
    ],
)  # fmt: skip
def test_broken_and_unknown_sets_are_refused_and_nothing_is_written(tmp_path, split, parts, message):
    with pytest.raises(UserError, match=message):
        xl_wsd.build(archive(tmp_path, **parts), split, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


# --- the table of BabelNet ids

MAPPING = """# a table
bn:00000001n\t00000101-n
bn:00000002n\twn:00000102n
bn:00000003n\twn:99999999n\tmouse%1:05:00::
bn:00000004n\twn:99999999n
bn:00000005a\twn:00000302a
bn:00000008v\tlook_up%2:31:00::
bn:00000001n\t00000104-n
"""


def inventory_with(folder, mapping=MAPPING):
    path = None
    if mapping is not None:
        path = folder / "mapping.tsv"
        path.write_text(mapping, encoding="utf-8")
    tables = folder / "senses.parquet", folder / "synsets.parquet"
    build_inventory(FOLDER, *tables, counts=COUNTS, mapping=path)
    return Inventory.read(*tables)


def test_a_mapping_ties_babelnet_ids_to_synsets_in_each_form(tmp_path):
    inventory = inventory_with(tmp_path)
    tied = {key: inventory.sense(key).synset_id for key in inventory.sense_columns["sense_key"] if key[:3] == "bn:"}
    assert tied == {
        "bn:00000001n": "00000101-n",
        "bn:00000002n": "00000102-n",
        "bn:00000003n": "00000104-n",
        "bn:00000005a": "00000302-s",
        "bn:00000008v": "00000202-v",
    }
    assert inventory.synset_of("bn:00000002n").gloss == "a club for hitting a ball"
    assert inventory.senses("", "n") == []  # found by id alone
    assert [sense.sense_key for sense in inventory.senses("bat", "n")] == ["bat%1:05:00::", "bat%1:06:00::"]


@pytest.mark.parametrize(
    "senses",
    [
        "wn:99999999n\twn:00000101n", "wn:99999999n wn:00000101n", "wn:00000101n,wn:00000102n",
        "wn:99999999n; wn:00000101n", "['wn:00000101n', 'wn:00000102n']", '["00000101-n"]', "wn30:00000101n",
        "wn30:00000101-n", "wn3.0:00000101n", "wn-30-00000101-n", "eng-30-00000101-n", "WN:00000101N", "n00000101",
        "bat%1:05:00::", "bat(p)%1:05:00:: x", "wn31:00000102n\twn:00000101n", "{wn:00000101n | wn:00000102n}",
    ],
)  # fmt: skip
def test_a_mapping_is_read_as_public_scripts_print_it(tmp_path, senses):
    inventory = inventory_with(tmp_path, f"# ids\r\nbn:00000001n\t{senses}\r\n")
    assert inventory.sense("bn:00000001n").synset_id == "00000101-n"


@pytest.mark.parametrize("sense", ["'hood%1:15:00::", '"\'hood%1:15:00::"', "o'clock%4:02:00::"])
def test_apostrophes_of_keys_stay(sense):
    keys = {"'hood%1:15:00::": "00000101-n", "o'clock%4:02:00::": "00000101-n", "hood%1:06:00::": "00000102-n"}
    assert _synset(sense, keys, set(keys.values())) == "00000101-n"


def test_satellites_are_found_as_adjectives(tmp_path):
    senses = inventory_with(tmp_path).sense_columns
    of_key = dict(zip(senses["sense_key"], senses["synset_id"], strict=True))
    key = next(key for key, synset_id in of_key.items() if "%5:" in key and synset_id == "00000302-s")
    forms = (key, key.replace("%5:", "%3:"), "wn:00000302a", "00000302-s")
    for form in forms:
        inventory = inventory_with(tmp_path, f"bn:00000005a {form}\n")
        assert inventory.sense("bn:00000005a").synset_id == "00000302-s"


def test_lines_that_are_lost_are_told_on_the_terminal(tmp_path, capsys):
    inventory_with(tmp_path, "bn:00000001n\t00000101-n\nbn:00000002n\twn31:00000102n\nbn:00000003n\tx%1:99:99::\n")
    told = capsys.readouterr().err
    assert "mapping.tsv: 2 of 3 lines name no sense of WordNet 3.0 and are left out: line 2, 'bn:00000002n" in told
    inventory_with(tmp_path, "bn:00000001n\t00000101-n\n")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("bn:00000001n\n", r"mapping.tsv:1: 'bn:00000001n' is not a line"),
        ("00000101-n bn:00000001n\n", r"mapping.tsv:1: '00000101-n bn:00000001n' is not a line"),
        (
            "bn:00000001n\t00000101-n\nwn:00000101n\tbn:00000001n\n",
            r"mapping.tsv:2: .* is not a line of a sense mapping",
        ),
        ("bn:00000001n\t\n", r"mapping.tsv:1"),
        ("bn:00000001n\t77777777-n\n", "ties no BabelNet id to WordNet 3.0"),
        ("", "ties no BabelNet id"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path, mapping, message):
    with pytest.raises(UserError, match=message):
        inventory_with(tmp_path, mapping)
    assert not (tmp_path / "senses.parquet").exists()


def test_only_what_reads_no_gloss_answers_without_a_mapping(tmp_path):
    inventory = inventory_with(tmp_path, None)
    _, instances = read(tmp_path, "xl_en")
    assert [p.candidates for p in first_sense(instances)] == [[], [], []]  # no order is known
    assert [len(p.candidates) for p in random_order(instances)] == [4, 2, 0]
    with pytest.raises(UserError, match=r"corpora.xl_wsd.sense_mapping"):
        list(lesk(instances, inventory))
    with pytest.raises(UserError, match=r"bn:00000003n is a sense of BabelNet.*corpora.xl_wsd.sense_mapping"):
        collect(tmp_path / "texts.parquet", inventory, [tmp_path / "xl_en.parquet"], [], [], {})
    with pytest.raises(UserError, match=r"corpora.xl_wsd.sense_mapping"):
        TextualCorpus.read([tmp_path / "xl_en.parquet"], inventory, Stored())


def test_a_mapping_gives_english_candidates_wordnets_order(tmp_path):
    wordnet = inventory_with(tmp_path)
    counts, (bat, look, zorb) = read(tmp_path, "xl_en", wordnet)
    # 1 and 2 are WordNet's senses of bat; 3 is tied to another lemma's synset, 4 to none: they keep the file's order.
    assert bat.candidates == ["bn:00000001n", "bn:00000002n", "bn:00000003n", "bn:00000004n"]
    assert look.candidates == ["bn:00000008v", "bn:00000009v"] and zorb.candidates == []
    assert [instance.first_sense for instance in (bat, look, zorb)] == ["bn:00000001n", "bn:00000008v", None]
    assert (bat.by_frequency, look.by_frequency, zorb.by_frequency) == (True, True, False)
    assert counts["first_sense_unknown"] == 0
    assert next(first_sense([bat])).candidates == bat.candidates
    assert next(lesk([replace(bat, tokens=["zzz"])], wordnet)).candidates == bat.candidates[:3]  # ties


def test_without_the_first_sense_in_the_mapping_none_is_claimed(tmp_path):
    wordnet = inventory_with(tmp_path, MAPPING.replace("bn:00000001n", "bn:00000077n"))
    counts, (bat, *_) = read(tmp_path, "xl_en", wordnet)
    assert bat.candidates[0] == "bn:00000002n" and bat.first_sense is None
    assert counts["first_sense_unknown"] == 1


def test_other_languages_have_no_first_sense_with_a_mapping_either(tmp_path):
    _, (bat, *_) = read(tmp_path, "xl_it_dev", inventory_with(tmp_path))
    assert bat.candidates and not bat.by_frequency and bat.first_sense is None


def test_what_has_no_order_has_no_score_of_the_first_sense(tmp_path):
    wordnet = inventory_with(tmp_path)
    read(tmp_path, "xl_en")
    paths = [tmp_path / "xl_en.parquet"], [tmp_path / "p.jsonl"]
    predict_baseline("first_sense", wordnet, tasks=["textual"], instances=paths[0], predictions=paths[1])
    assert score_predictions("textual", "xl_en", *paths, "first_sense", 1, resamples=10)["rows"] == []
    predict_baseline("random", wordnet, tasks=["textual"], instances=paths[0], predictions=[tmp_path / "r.jsonl"])
    rows = score_predictions("textual", "xl_en", paths[0], [tmp_path / "r.jsonl"], "random", 1, resamples=10)["rows"]
    assert {row["subset"] for row in rows} & {"all", "first_sense", "other_sense"} == {"all"}
    arguments = ("textual", "xl_en", paths[0][0], "random", [tmp_path / "r.jsonl"], "first_sense", paths[1])
    assert compare_experiments(*arguments, resamples=10) == []
    failures = textual_failures("xl_en", paths[0][0], [first_answers(tmp_path / "r.jsonl")], Learned())
    assert BY_ORDER not in failures.tables and not {FIRST, LATER} & set(failures.reasons)
    statistics = corpus_statistics(
        {"train": [], "dev": [], "test": paths[0]}, {side: [] for side in ("train", "dev", "test")}, [], wordnet
    )
    assert (statistics.textual[0].by_frequency, statistics.textual[0].first_sense) == (0, 0)


class Stored:
    """A store of features that has all texts."""

    holds_tokens = True

    def find(self, text_id):
        return 0, 0, 0, 1


def test_candidates_resolve_to_synsets_and_those_without_one_are_not_ranked(tmp_path):
    inventory = inventory_with(tmp_path)
    _, instances = read(tmp_path, "xl_en")
    corpus = TextualCorpus.read([tmp_path / "xl_en.parquet"], inventory, Stored())
    bat, look, zorb = corpus.instances
    assert bat.candidates == ["bn:00000003n", "bn:00000001n", "bn:00000002n"]  # the fourth has no synset
    assert [corpus.synsets[place] for place in corpus.candidates[0]] == ["00000104-n", "00000101-n", "00000102-n"]
    assert corpus.gold[0].tolist() == [False, False, True]
    assert look.candidates == ["bn:00000008v"] and zorb.candidates == []
    assert next(lesk(instances, inventory)).candidates == ["bn:00000003n", "bn:00000001n", "bn:00000002n"]
    # The glosses are among the texts to embed.
    sentences = len({instance.text for instance in instances})
    assert collect(tmp_path / "t.parquet", inventory, [tmp_path / "xl_en.parquet"], [], [], {}) == sentences + 4


def test_a_mapping_of_other_ids_is_told(tmp_path):
    inventory = inventory_with(tmp_path, "bn:00055555n\t00000101-n\n")
    read(tmp_path, "xl_en")
    with pytest.raises(UserError, match=r"No candidate sense in .*xl_en.parquet has a gloss"):
        TextualCorpus.read([tmp_path / "xl_en.parquet"], inventory, Stored())


def test_the_report_knows_what_a_babelnet_id_means(tmp_path):
    inventory_with(tmp_path)
    found = meanings(tmp_path / "senses.parquet", tmp_path / "synsets.parquet", {"bn:00000001n", "bn:00000009v"})
    assert found.keys() == {"bn:00000001n"}
    assert (found["bn:00000001n"].lemma, found["bn:00000001n"].gloss[:15]) == ("bat", "a winged animal")


# --- scores


def test_babelnet_ids_are_scored_and_grouped_by_their_last_letter(tmp_path):
    assert [pos_of(key) for key in ("bn:00000005a", "bn:00000007r", "bat%1:05:00::", "bn:12x", "")] == [
        "a", "r", None, None, None,
    ]  # fmt: skip
    (tmp_path / "gold.txt").write_text(GOLD)
    (tmp_path / "key.txt").write_text(
        "senseval2.d000.s000.t000 bn:00000001n\nsenseval2.d000.s000.t001 bn:00000008v\n"
        "semeval2010.d001.s001.t000 bn:00000077n\n"
    )
    scores = score_textual_file(tmp_path / "gold.txt", tmp_path / "key.txt")
    assert scores["f1"] == pytest.approx(200 / 3, abs=1e-3)
    assert {name: (part["f1"], part["n"]) for name, part in scores["subsets"].items()} == {
        "n": (50, 2), "v": (100, 1), "senseval2": (50, 2), "semeval2010": (100, 1),
    }  # fmt: skip
