import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from polclip.model.losses import contrastive_loss, same_id

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
IDS = st.sampled_from("abcd")


@st.composite
def batches(draw):
    """(similarity [r, c], ids of the rows, ids of the columns, allowed [r, c] or None, scale)."""
    rows = draw(st.lists(st.lists(IDS, max_size=2), min_size=1, max_size=5))
    columns = draw(st.lists(IDS, min_size=1, max_size=6))
    seed = draw(st.integers(0, 2**16))
    random = torch.Generator().manual_seed(seed)
    similarity = torch.rand(len(rows), len(columns), generator=random, dtype=torch.float64) * 2 - 1
    allowed = torch.rand(len(rows), len(columns), generator=random) < 0.5 if draw(st.booleans()) else None
    return similarity, rows, columns, allowed, draw(st.floats(0.5, 100))


def by_hand(similarity, rows, columns, allowed, scale, several_positives):
    losses = []
    for k, row in enumerate(rows):
        good = [n for n, column in enumerate(columns) if column in row]
        compared = [n for n in range(len(columns)) if n in good or allowed is None or allowed[k, n]]
        if good:
            top = max(scale * float(similarity[k, n]) for n in compared)
            total = sum(math.exp(scale * float(similarity[k, n]) - top) for n in compared)
            each = [-(scale * float(similarity[k, n]) - top - math.log(total)) for n in good]
            losses.append(sum(each) / (len(good) if several_positives == "mean" else 1))
    return sum(losses) / len(losses) if losses else 0.0


@given(batches(), st.sampled_from(["mean", "sum"]))
@settings(max_examples=150, deadline=None)
def test_the_loss_is_what_a_plain_loop_computes_and_its_gradient_is_finite(batch, several_positives):
    similarity, rows, columns, allowed, scale = batch
    expected = by_hand(similarity, rows, columns, allowed, scale, several_positives)
    similarity.requires_grad_(True)
    positive = same_id(rows, columns)
    loss = contrastive_loss(similarity, positive, scale, allowed, several_positives)
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    loss.backward()
    assert torch.isfinite(similarity.grad).all()
    # Rows without a positive, and columns that are not compared, pull nothing.
    assert not similarity.grad[~positive.any(1)].any()
    if allowed is not None:
        assert not similarity.grad[~(allowed | positive)].any()


@given(st.lists(IDS, min_size=1, max_size=8))
def test_an_id_that_stands_twice_is_never_a_negative_of_itself(ids):
    positive = same_id(ids, ids)
    for k, row in enumerate(ids):
        assert positive[k].tolist() == [column == row for column in ids]


def test_a_row_may_have_several_ids_one_or_none():
    assert same_id([["a", "c"], "b", []], ["a", "b", "c", "a"]).tolist() == [
        [True, False, True, True],
        [False, True, False, False],
        [False] * 4,
    ]
    assert same_id([], ["a"]).shape == (0, 1) and same_id(["a"], []).shape == (1, 0)
    # One string is one id, not its letters.
    assert not same_id(["ab"], ["a", "b"]).any()


def test_several_positives_share_one_row_and_the_mean_is_over_rows_that_have_some():
    similarity = torch.tensor([[1.0, 1.0, -1.0], [0.3, 0.1, 0.2]], dtype=torch.float64)
    positive = torch.tensor([[True, True, False], [False, False, False]])
    # Two equally good positives: never below ln 2, and the row without any does not halve it.
    assert contrastive_loss(similarity, positive, 100.0).item() == pytest.approx(math.log(2))
    doubled = contrastive_loss(similarity.repeat(2, 1), positive.repeat(2, 1), 100.0)
    assert doubled.item() == pytest.approx(math.log(2))
    # Summed, a row with two positives weighs twice.
    assert contrastive_loss(similarity, positive, 100.0, None, "sum").item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(("count", "bound"), [(50, 2.03), (250, 3.55)])
def test_raw_cosines_without_a_temperature_cannot_go_below_the_stated_bound(count, bound):
    positive = torch.eye(count, dtype=torch.bool)
    perfect = positive.double() * 2 - 1
    lowest = contrastive_loss(perfect, positive, 1.0).item()
    assert lowest == pytest.approx(math.log(1 + (count - 1) * math.exp(-2)))
    assert lowest == pytest.approx(bound, abs=0.005)
    assert contrastive_loss(perfect, positive, 20.0).item() < 1e-3


def test_a_batch_without_any_positive_costs_nothing_and_can_be_differentiated():
    similarity = torch.zeros(2, 3, requires_grad=True)
    loss = contrastive_loss(similarity, torch.zeros(2, 3, dtype=torch.bool), 10.0, torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and not similarity.grad.any()


@pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/reference is not there")
def test_the_losses_of_the_public_code_are_found_again():
    stored = load_file(REFERENCE / "polclip_reference.safetensors")
    known = json.loads((REFERENCE / "polclip_reference.json").read_text())
    glosses = [str(k) for k in range(len(stored["out.gloss"]))]
    of_images = [str(k) for k in known["gloss_of_image"]]
    # In a sentence, gold_gloss counts from the first of its own glosses.
    places = zip(known["gold_gloss"], known["glosses_of_sentence"], strict=True)
    gold = [str(first + place) for place, (first, _) in places]

    def loss(rows, row_ids, columns, column_ids):
        positive = same_id(row_ids, column_ids)
        return contrastive_loss(stored[rows] @ stored[columns].T, positive, 1.0, None, "sum").item()

    sig = loss("out.generated_image", glosses, "out.image", of_images)
    assert sig == pytest.approx(known["losses"]["sig"], abs=1e-5)
    isg = loss("out.generated_gloss", of_images, "out.gloss", glosses)
    assert isg == pytest.approx(known["losses"]["isg"], abs=1e-5)
    w2s = loss("out.target_word", gold, "out.fused_gloss", glosses)
    assert w2s == pytest.approx(known["losses"]["w2s"], abs=1e-5)
