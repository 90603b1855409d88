"""The index of all glosses: of one model, complete or absent, read from disk row by row."""

import numpy as np
import pytest
import torch
from filelock import FileLock
from models_in_use import make_archives, write_model

from polclip import Disambiguator
from polclip.answers import Reason
from polclip.errors import UserError
from polclip.gloss_index import GlossIndex, model_digest
from polclip.opening import run_of


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return make_archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture
def model(tmp_path, archives):
    """A folder as a run has it; what is learned of senses makes other vectors of the glosses."""
    return write_model(tmp_path / "results" / "models" / "main" / "seed-1", "trained", archives)


def opened(model, archives, **given):
    return Disambiguator.from_pretrained(model, archives=archives, download=False, **given)


@torch.inference_mode()
def test_the_index_holds_every_gloss_and_what_words_are_compared_with(model, archives, tmp_path):
    used = opened(model, archives)
    folder = used.build_index(tmp_path / "index")
    index = GlossIndex.read(folder, model_digest(model))
    ids = used.inventory.synset_ids()
    assert index.synset_ids == ids and isinstance(index.plain, np.memmap)
    some = [ids[at] for at in (30, 0, 11)]  # of senses with an offset, and without
    gloss = used.reader.glosses(some)
    rows = [ids.index(synset_id) for synset_id in some]
    np.testing.assert_allclose(index.plain[rows], gloss.plain, atol=1e-4)
    np.testing.assert_allclose(index.matched[rows], gloss.matched, atol=1e-4)
    senses = used.model.senses(gloss.vectors, [used.inventory.lineage(synset_id) for synset_id in some])
    np.testing.assert_allclose(index.senses_of(some), senses, atol=1e-4)
    assert np.abs(index.senses[rows] - index.matched[rows]).max() > 0.01
    nearest = index.nearest_glosses(np.array(index.plain[7]), 3)
    assert nearest[0][0] == ids[7] and nearest[0][1] == pytest.approx(1, abs=1e-4)


def test_a_run_s_index_is_found_and_one_of_other_weights_is_not_used(model, archives):
    results, behind = run_of(model)
    assert behind.parts == ("main", "seed-1")
    used = opened(model, archives)
    used.build_index(results / "index" / behind)
    assert opened(model, archives).index is not None
    used.model.log_scale.data += 1  # other weights in the same place
    used.model.write(model)
    again = opened(model, archives)
    assert again.index is None and again.describe("any.png").reason is Reason.NO_INDEX
    with pytest.raises(UserError, match="is the index of another model"):
        opened(model, archives, index=results / "index" / behind)


def test_a_broken_index_is_named_where_it_is_asked_for_and_else_passed_over(model, archives, tmp_path):
    used = opened(model, archives)
    folder = used.build_index()
    assert folder == model / "cache" / "index"
    (folder / "plain.npy").write_bytes((folder / "plain.npy").read_bytes()[:200])
    assert opened(model, archives).index is None
    with pytest.raises(UserError, match="no index of glosses that can be read"):
        opened(model, archives, index=folder)
    with pytest.raises(UserError, match="no index of glosses that can be read"):
        opened(model, archives, index=tmp_path / "nowhere")


def test_an_index_that_was_cut_short_is_absent_and_resumes(model, archives, tmp_path, monkeypatch):
    whole = opened(model, archives)
    expected = GlossIndex.read(whole.build_index(tmp_path / "whole"), model_digest(model))
    monkeypatch.setattr("polclip.gloss_index.AT_ONCE", 8)
    monkeypatch.setattr("polclip.gloss_index.SAVE_EVERY", 1)
    used = opened(model, archives)
    encode, encoded = used.reader.model.gloss, []

    def fails(tokens, with_target=False):
        if len(encoded) == 16:
            raise KeyboardInterrupt
        encoded.extend(range(len(tokens.states)))
        return encode(tokens, with_target)

    used.model.gloss = fails
    with pytest.raises(KeyboardInterrupt):
        used.build_index()
    cache = model / "cache"
    assert not (cache / "index").exists() and opened(model, archives).index is None

    again, rows = opened(model, archives), []
    encode = again.model.gloss
    again.model.gloss = lambda tokens, **options: rows.extend(tokens.states) or encode(tokens, **options)
    again.build_index()
    assert len(rows) == len(expected.synset_ids) - 16 and not (cache / "index.partial").exists()
    for name in ("plain", "matched", "senses"):
        np.testing.assert_allclose(getattr(again.index, name), getattr(expected, name), atol=1e-5)


def test_what_was_kept_of_another_model_s_index_is_not_taken(model, archives, monkeypatch):
    used = opened(model, archives)
    partial = model / "cache" / "index.partial"
    partial.mkdir(parents=True)
    (partial / "progress.json").write_text('{"model": "another", "glosses": 44, "embed": 16, "rows_done": 44}')
    used.build_index()
    assert np.abs(used.index.plain).sum(1).all()


def test_two_builds_of_one_index_do_not_meet(model, archives):
    used = opened(model, archives)
    (model / "cache").mkdir(exist_ok=True)
    with FileLock(model / "cache" / ".index.lock"), pytest.raises(UserError, match="Another process is building"):
        used.build_index()
