import io
import re
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny_wordnet import tiny_inventory

from polclip.corpora import semcor_tags, unified_wsd, wordnet_examples
from polclip.corpora.key_files import read_keys
from polclip.corpora.wordnet_examples import ExampleSettings
from polclip.corpora.words import base_forms, find_lemma, tokenise
from polclip.errors import UserError
from polclip.records import TextualInstance, read_records
from polclip.selection import fraction

ARCHIVES = Path(__file__).parents[2] / "shared" / "data" / "archives"


@pytest.fixture
def inventory(tmp_path):
    return tiny_inventory(tmp_path)


# --- words


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't stop!", ["Don't", "stop", "!"]),
        ("it\u2019s Bill's, isn\u2019t it?", ["it\u2019s", "Bill", "'s", ",", "isn\u2019t", "it", "?"]),
        ("I ca n't, they\u2019ll've", ["I", "ca n't", ",", "they\u2019ll've"]),
        ("at https://bank.com/a?b=c. or bank.co.uk", ["at", "https://bank.com/a?b=c", ".", "or", "bank.co.uk"]),
        ("(river.bank@uni.edu, www.bat.org)", ["(", "river.bank@uni.edu", ",", "www.bat.org", ")"]),
        ("a Ph.D. or Ph.D in the U.S.", ["a", "Ph.D.", "or", "Ph.D", "in", "the", "U.S."]),
        ("He said no. It flew.It fell", ["He", "said", "no", ".", "It", "flew", ".", "It", "fell"]),
        ("bank/shore, w/o 24/7", ["bank", "/", "shore", ",", "w/o", "24/7"]),
        ("cafe\u0301 co\u00adop well\u2011known", ["cafe\u0301", "co\u00adop", "well\u2011known"]),
        ("the U.S.A. at 10:30 a.m.", ["the", "U.S.A.", "at", "10:30", "a.m."]),
        ("a well-known 1,000-year rule", ["a", "well-known", "1,000", "-", "year", "rule"]),
        ("five o'clock (`now')", ["five", "o'clock", "(", "`", "now", "'", ")"]),
        ("", []),
    ],
)
def test_sentences_are_cut_into_tokens(text, tokens):
    assert tokenise(text) == tokens


@pytest.mark.parametrize(
    ("word", "pos", "base"),
    [
        ("Mice", "n", "mouse"), ("boxes", "n", "box"), ("wolves", "n", "wolf"), ("cities", "n", "city"),
        ("stopped", "v", "stop"), ("hoping", "v", "hope"), ("tried", "v", "try"), ("lying", "v", "lie"),
        ("misunderstood", "v", "misunderstand"), ("rewrote", "v", "rewrite"), ("went", "v", "go"),
        ("bigger", "a", "big"), ("happiest", "a", "happy"), ("better", "r", "well"), ("is", "n", "is"),
        ("can\u2019t", "v", "can"), ("won't", "v", "will"), ("we\u2019re", "v", "be"), ("ain't", "v", "be"),
        ("cortices", "n", "cortex"), ("wrought", "v", "work"), ("clad", "v", "clothe"), ("dormice", "n", "dormouse"),
    ],
)  # fmt: skip
def test_inflected_words_find_their_base(word, pos, base):
    assert base in base_forms(word, pos)


def test_nouns_in_ss_are_no_plurals():
    for word in ("boss", "class", "pass", "mattress"):
        assert base_forms(word, "n") == base_forms(word, "v") == {word}


@pytest.mark.parametrize("text", ["a.", "a@", "x.y@", "www.", "n't", "it're", "a/", "a-", "co.uk/", "\u0301", "Ab."])
def test_hostile_texts_are_cut_in_time_that_grows_with_their_length(text):
    start = time.process_time()
    tokenise(text * (100_000 // len(text)))
    assert time.process_time() - start < 5


def test_a_lemma_is_found_whole_inflected_and_apart():
    assert find_lemma(tokenise("she looked up the word"), "look_up", "v") == (1, 3)
    assert find_lemma(tokenise("she looked the word up"), "look_up", "v") == (1, 2)
    assert find_lemma(tokenise("she looked"), "look_up", "v") is None
    assert find_lemma(tokenise("The combat began"), "bat", "n") is None  # a token, not a part of one


# --- WordNet's examples


SEED = 2  # with it neither side is empty, and nothing is shared


def _examples(inventory, folder, **settings):
    paths = [folder / f"{side}.parquet" for side in ("train", "dev", "test")]
    counts = wordnet_examples.build(inventory, *paths, ExampleSettings(**settings))
    return counts, [list(read_records(path, TextualInstance)) for path in paths]


def test_examples_become_instances_with_target_candidates_and_gold(inventory, tmp_path):
    counts, sides = _examples(inventory, tmp_path, seed=SEED, dev_fraction=0.0, test_fraction=0.3)
    found = {instance.instance_id: instance for side in sides for instance in side}
    assert set(found) == {
        "bat%1:05:00::.0", "bat%1:05:00::.1", "bat%1:06:00::.0", "mouse%1:05:00::.0", "mouse%1:06:01::.0",
        "look_up%2:31:00::.0", "look_up%2:31:00::.1", "look_up%2:35:01::.0", "ample%3:00:00::.0",
        "ample%5:00:01:many:00.1", "well%4:02:01::.0",
    }  # fmt: skip
    bats = found["bat%1:05:00::.0"]
    assert bats.tokens[bats.target_start : bats.target_end] == ["bats"]
    assert (bats.lemma, bats.pos, bats.gold) == ("bat", "n", ["bat%1:05:00::"])
    assert bats.candidates == ["bat%1:05:00::", "bat%1:06:00::"]
    assert bats.text[slice(*bats.target_span)] == "bats"
    apart = found["look_up%2:31:00::.0"]
    assert apart.tokens[apart.target_start : apart.target_end] == ["looked"]
    assert counts["sentences"] == 14
    assert counts["target_not_found"] == 1  # "the club broke" names the club otherwise
    assert counts["monosemous"] == 2  # the verb bat; galore
    assert counts["instances"] == 11 == counts["train"] + counts["dev"] + counts["test"] and counts["shared"] == 0


def test_no_sentence_and_no_synset_stands_on_two_sides(inventory, tmp_path):
    splits = set()
    for seed in range(12):
        try:
            _, sides = _examples(inventory, tmp_path, seed=seed, dev_fraction=0.2, test_fraction=0.4)
        except UserError:  # so small a corpus may leave a side empty
            continue
        seen = [{inventory.sense(i.gold[0]).synset_id for i in side} for side in sides]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
        lemmas = [{(i.lemma, i.pos) for i in side} for side in sides]
        assert not (lemmas[0] & lemmas[1] or lemmas[0] & lemmas[2] or lemmas[1] & lemmas[2])
        texts = [{i.text.strip(" !") for i in side} for side in sides]  # "ample time" is in two synsets
        assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])
        splits.add(tuple(len(side) for side in sides))
    assert len(splits) > 1  # the seed matters


def test_train_can_be_cut_short_by_a_rank_that_does_not_change(inventory, tmp_path):
    settings = {"seed": SEED, "dev_fraction": 0.0, "test_fraction": 0.3}
    _, (train, _, test) = _examples(inventory, tmp_path, **settings)
    counts, (three, _, same_test) = _examples(inventory, tmp_path, max_train_instances=3, **settings)
    _, (four, _, _) = _examples(inventory, tmp_path, max_train_instances=4, **settings)
    assert len(three) == 3 and counts["left_out"] == len(train) - 3 and same_test == test
    assert {i.instance_id for i in three} < {i.instance_id for i in four} < {i.instance_id for i in train}
    # Lemma by lemma: only the last one is not whole.
    whole = Counter((i.lemma, i.pos) for i in train)
    for kept in (three, four):
        cut = [lemma for lemma, count in Counter((i.lemma, i.pos) for i in kept).items() if count < whole[lemma]]
        assert len(cut) <= 1


def test_settings_that_leave_nothing_are_refused(inventory, tmp_path):
    with pytest.raises(UserError, match="dev_fraction"):
        ExampleSettings(dev_fraction=0.5, test_fraction=0.5)
    with pytest.raises(UserError, match="max_train_instances"):
        ExampleSettings(max_train_instances=0)
    with pytest.raises(UserError, match="0 to test on"):
        _examples(inventory, tmp_path, dev_fraction=0.0, test_fraction=0.0)
    assert not (tmp_path / "train.parquet").exists()


# --- the unified XML

XML = """<?xml version="1.0"?>
<corpus lang="en" source="tiny"><text id="d000">
<sentence id="d000.s000">
<wf lemma="the" pos="DET">The</wf>
<instance id="d000.s000.t000" lemma="bat" pos="NOUN">bats</instance>
<instance id="d000.s000.t001" lemma="look_up" pos="VERB">looked up</instance>
</sentence>
<sentence id="d000.s001">
<instance id="d000.s001.t000" lemma="ample" pos="ADJ">Ample</instance>
<instance id="d000.s001.t001" lemma="zorb" pos="NOUN">zorbs</instance>
</sentence>
</text></corpus>
"""
GOLD = """d000.s000.t000 bat%1:05:00::
d000.s000.t001 look_up%2:31:00:: look_up%2:35:01::
d000.s001.t000 ample%5:00:01:many(a):00
d000.s001.t001 zorb%1:06:00::
"""


def _set(folder, xml=XML, gold=GOLD, name="tiny"):
    path = folder / "sets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"Sets/{name}/{name}.data.xml", xml)
        if gold is not None:
            archive.writestr(f"Sets/{name}/{name}.gold.key.txt", gold.replace("\n", "\r\n"))
    return path


def test_unified_xml_becomes_instances(inventory, tmp_path):
    counts = unified_wsd.build(_set(tmp_path), "TINY", inventory, tmp_path / "out.parquet")
    assert {name: n for name, n in counts.items() if n} == {
        "sentences": 2,
        "instances": 4,
        "gold_missing": 1,
        "no_candidates": 1,
    }
    bat, look, ample, zorb = read_records(tmp_path / "out.parquet", TextualInstance)
    assert (bat.instance_id, bat.sentence_id) == ("d000.s000.t000", "d000.s000")
    assert bat.tokens == ["The", "bats", "looked", "up"]
    assert (look.target_start, look.target_end, look.pos) == (2, 4, "v")
    assert look.gold == ["look_up%2:31:00::", "look_up%2:35:01::"]
    assert ample.gold == ["ample%5:00:01:many:00"] and ample.gold[0] in ample.candidates  # the marker is gone
    assert (zorb.candidates, zorb.gold) == ([], ["zorb%1:06:00::"])  # kept: the official score counts it


@pytest.mark.parametrize(
    ("xml", "gold", "message"),
    [
        (XML, GOLD + "d000.s009.t000 bat%1:05:00::\n", "1 gold lines have no instance.*d000.s009.t000"),
        (XML, GOLD.split("\n", 1)[1], "d000.s000.t000.*no gold line"),
        (
            XML,
            GOLD + "d000.s000.t000 bat%1:06:00::\n",
            r"gold.key.txt:5: d000.s000.t000 stands in the file twice",
        ),
        (XML, GOLD + "d000.s000.t009\n", r"gold.key.txt:5: d000.s000.t009 has no sense key"),
        (XML, None, "no gold file"),
        (XML[:300], GOLD, "not the XML of the unified framework"),
        (XML.replace("?>", '?><!DOCTYPE c [<!ENTITY a "aa">]>', 1), GOLD, "without DTD or entities"),
    ],
)
def test_broken_sets_are_refused_and_nothing_is_written(inventory, tmp_path, xml, gold, message):
    with pytest.raises(UserError, match=message):
        unified_wsd.build(_set(tmp_path, xml, gold), "tiny", inventory, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_an_unknown_set_and_a_broken_zip_are_refused(inventory, tmp_path):
    with pytest.raises(UserError, match=r"no set 'ALL'. Allowed: tiny"):
        unified_wsd.build(_set(tmp_path), "ALL", inventory, tmp_path / "out.parquet")
    (tmp_path / "broken.zip").write_text("<html>")
    with pytest.raises(UserError, match=r"broken.zip is broken or no zip"):
        unified_wsd.build(tmp_path / "broken.zip", "ALL", inventory, tmp_path / "out.parquet")


def test_keys_are_read_without_markers_each_once():
    assert read_keys(["\ufeffx k k(p) j\n", "\n"], "a.txt") == {"x": ["k", "j"]}


# --- SemCor's tag files

TAGS = """<contextfile concordance=brown>
<context filename=br-x01 paras=yes>
<p pnum=1>
<s snum=7>
<wf cmd=ignore pos=DT>The</wf>
<wf cmd=done rdf=bat pos=NN lemma=bat wnsn=1 lexsn=1:05:00::>big_bat</wf>
<punc>``</punc>
<wf cmd=done pos=VB lemma=look_up wnsn=0;2 lexsn=2:31:00::;2:35:01::>looked_up</wf>
<wf cmd=done pos=NN lemma=cave wnsn=0 lexsn=1:17:00::>cave</wf>
<wf cmd=done pos=JJ lemma=ample wnsn=2 lexsn=5:00:01:many(a):00>ampl\xe9</wf>
<punc>.</punc>
</s>
</p>
</context>
</contextfile>
"""


def _semcor(folder, name="semcor3.0/brown1/tagfiles/br-x01"):
    path = folder / "semcor.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        content = TAGS.encode("latin-1")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


def test_semcor_tag_files_become_instances(inventory, tmp_path):
    counts = semcor_tags.build(_semcor(tmp_path), inventory, tmp_path / "out.parquet", tmp_path / "dev.parquet")
    assert {name: n for name, n in counts.items() if n} == {"sentences": 1, "instances": 3}
    bat, look, ample = read_records(tmp_path / "out.parquet", TextualInstance)
    assert bat.tokens == ["The", "big", "bat", '"', "looked", "up", "cave", "ampl\xe9", "."]
    assert (bat.instance_id, bat.target_start, bat.target_end) == ("br-x01.s7.t0", 1, 3)
    assert look.gold == ["look_up%2:31:00::", "look_up%2:35:01::"]
    assert (ample.pos, ample.gold) == ("a", ["ample%5:00:01:many:00"])


def test_dev_has_whole_documents_of_semcor_and_train_the_others(inventory, tmp_path):
    archive, out, dev = _semcor(tmp_path), tmp_path / "out.parquet", tmp_path / "dev.parquet"
    at = fraction("br-x01", 0)
    for share, sizes in ((0.0, (3, 0)), (at, (3, 0)), (at + 1e-9, (0, 3))):
        assert semcor_tags.build(archive, inventory, out, dev, share)["instances"] == 3
        assert tuple(len(list(read_records(path, TextualInstance))) for path in (out, dev)) == sizes


def test_an_archive_without_tag_files_is_refused(inventory, tmp_path):
    with pytest.raises(UserError, match="no SemCor tag file"):
        semcor_tags.build(
            _semcor(tmp_path, "readme/br-x01"), inventory, tmp_path / "out.parquet", tmp_path / "dev.parquet"
        )
    (tmp_path / "broken.tar.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(UserError, match=r"broken.tar.gz is broken or no zip or tar"):
        semcor_tags.build(tmp_path / "broken.tar.gz", inventory, tmp_path / "out.parquet", tmp_path / "dev.parquet")
    assert not (tmp_path / "out.parquet").exists()


# --- the public archives, where they are at hand

needs_archives = pytest.mark.skipif(not ARCHIVES.is_dir(), reason="the public archives are not at ../shared")


@needs_archives
@pytest.mark.parametrize(
    ("file", "name", "sentences", "by_pos"),
    [
        ("WSD_Unified_Evaluation_Datasets.zip", "ALL", 1173, {"n": 4300, "v": 1652, "a": 955, "r": 346}),
        ("WSD_Unified_Evaluation_Datasets.zip", "senseval2", 242, {"n": 1066, "v": 517, "a": 445, "r": 254}),
        ("WSD_Unified_Evaluation_Datasets.zip", "senseval3", 352, {"n": 900, "v": 588, "a": 350, "r": 12}),
        ("WSD_Unified_Evaluation_Datasets.zip", "semeval2007", 135, {"n": 159, "v": 296}),
        ("WSD_Unified_Evaluation_Datasets.zip", "semeval2013", 306, {"n": 1644}),
        ("WSD_Unified_Evaluation_Datasets.zip", "semeval2015", 138, {"n": 531, "v": 251, "a": 160, "r": 80}),
        ("wsd_hard_benchmark.zip", "ALLamended", 1038, {"n": 2921, "v": 1130, "a": 670, "r": 196}),
        ("wsd_hard_benchmark.zip", "S10amended", 287, {"n": 747, "v": 207, "a": 1}),
        ("wsd_hard_benchmark.zip", "softEN", 1557, {"n": 3659, "v": 1255, "a": 671, "r": 181}),
        ("wsd_hard_benchmark.zip", "hardEN", 1557, {"n": 251, "v": 148, "a": 49, "r": 28}),
        ("wsd_hard_benchmark.zip", "42D", 232, {"n": 242, "v": 66, "a": 49, "r": 13}),
    ],
)
def test_public_sets_have_their_published_sizes(inventory, tmp_path, file, name, sentences, by_pos):
    counts = unified_wsd.build(ARCHIVES / file, name, inventory, tmp_path / "out.parquet")
    assert (counts["sentences"], counts["instances"]) == (sentences, sum(by_pos.values()))
    assert Counter(i.pos for i in read_records(tmp_path / "out.parquet", TextualInstance)) == by_pos


@needs_archives
@pytest.mark.parametrize("file", ["WSD_Unified_Evaluation_Datasets.zip", "wsd_hard_benchmark.zip"])
def test_targets_stand_where_the_public_sets_have_them(inventory, tmp_path, file):
    with zipfile.ZipFile(ARCHIVES / file) as archive:
        members = [name for name in archive.namelist() if name.endswith(".data.xml")]
        assert len(members) in (5, 6)
        for member in members:
            written = {
                word.get("id"): word.text.replace("_", " ")
                for word in ElementTree.fromstring(archive.read(member)).iter("instance")
            }
            name = Path(member).name.removesuffix(".data.xml")
            unified_wsd.build(ARCHIVES / file, name, inventory, tmp_path / "out.parquet")
            assert targets(read_records(tmp_path / "out.parquet", TextualInstance)) == written


def targets(instances):
    """The target of each instance by its tokens, which must be what its span in the text says."""
    found = {}
    for instance in instances:
        words = " ".join(instance.tokens[instance.target_start : instance.target_end])
        assert instance.text[slice(*instance.target_span)] == words
        found[instance.instance_id] = words
    return found


@needs_archives
def test_semcor_has_its_published_size_and_its_targets_stand_where_they_are_tagged(inventory):
    counts, found, written = Counter(sentences=0), [], []
    with tarfile.open(ARCHIVES / "semcor3.0.tar.gz") as archive:
        for member in archive:
            if member.isfile() and "/tagfiles/" in member.name:
                text = archive.extractfile(member).read().decode("latin-1")
                found += targets(semcor_tags.read_instances(text.split("\n"), member.name, inventory, counts)).values()
                tagged = re.findall(r"<wf\b[^>]*\bwnsn=([^ >]+)[^>]*>([^<]*)</wf>", text)
                written += [word.replace("_", " ") for senses, word in tagged if set(senses.split(";")) != {"0"}]
    assert (counts["sentences"], len(found)) == (37_176, 226_036)
    assert found == written
