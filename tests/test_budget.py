"""Steps by budget, and the labels and padding of what they are made into."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from clip_world import SETTINGS
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polclip.corpora.texts import caption_text, text_id
from polclip.encoders.feature_store import FeatureStore, shard_writer
from polclip.errors import UserError
from polclip.inventory import Inventory
from polclip.model.losses import four_losses
from polclip.model.representations import Represented
from polclip.records import Phrase, Picture, TextualInstance
from polclip.training.batches import make_step
from polclip.training.budget import Budget, epoch_order, parts_of
from polclip.training.chunks import glosses_in_chunks
from polclip.training.corpora import SenseCorpus, TextualCorpus, gloss_ids, phrase_text_id
from polclip.training.schedule import plan_epoch

often = settings(deadline=None, max_examples=100)


def synset_of(sense):
    return f"{sense:08d}-n"


def inventory_of(senses):
    """An inventory with nothing but synsets, each of a lemma and gloss of its own."""
    columns = {
        "synset_id": [synset_of(s) for s in range(senses)],
        "lexname": ["noun.animal"] * senses,
        "gloss": [f"the meaning number {s}" for s in range(senses)],
        "examples": [[] for _ in range(senses)],
        "lemmas": [[f"word{s}"] for s in range(senses)],
        "hypernyms": [[] for _ in range(senses)],
    }
    return Inventory({}, columns)


def textual_of(instances):
    """A corpus of words without features, from (senses, which are gold) of each."""
    records = [TextualInstance(str(k), str(k), ["word"], 0, 1, "word", "n", [], []) for k in range(len(instances))]
    return TextualCorpus(
        records,
        texts=None,
        text_ids=[str(k) for k in range(len(instances))],
        spans=[x.target_span for x in records],
        candidates=[np.array(senses) for senses, _ in instances],
        gold=[np.array(gold) for _, gold in instances],
        synsets=[synset_of(s) for s in range(1 + max(s for senses, _ in instances for s in senses))],
        tokens=False,
    )


def senses_of(pictures, phrases):
    """Numbers of pictures and phrases by sense -> senses with both."""
    return SenseCorpus(
        (
            Phrase(f"word{s}", f"word{s} cue{n}", f"word{s}%1:05:00::", synset_of(s))
            for s, count in enumerate(phrases)
            for n in range(count)
        ),
        (
            Picture(f"{s}.{n}", "none.png", "train", "train", f"word{s}", synset_of(s), "none")
            for s, count in enumerate(pictures)
            for n in range(count)
        ),
    )


@st.composite
def words(draw, senses, most=8):
    """(candidate senses, which are gold): two senses may be one synset."""
    own = draw(st.lists(st.integers(0, senses - 1), min_size=1, max_size=most))
    gold = draw(st.lists(st.booleans(), min_size=len(own), max_size=len(own)).filter(any))
    return own, gold


@st.composite
def corpora(draw):
    """(textual corpus, senses with pictures and phrases, number of senses)."""
    senses = draw(st.integers(1, 14))
    textual = textual_of(draw(st.lists(words(senses), min_size=1, max_size=20)))
    numbers = st.lists(st.integers(0, 5), min_size=senses, max_size=senses)
    return textual, senses_of(draw(numbers), draw(numbers)), senses


budgets = st.builds(
    lambda **sizes: replace(SETTINGS, **sizes),
    words=st.integers(1, 6),
    glosses=st.integers(2, 16),
    pictures=st.integers(4, 30),
    pictures_per_sense=st.integers(1, 4),
    phrases=st.integers(0, 4),
)


def fits(textual, visual, sizes, row):
    """Whether a step has room for an instance's gold senses and any one of the others, by a plain count."""
    shown = [min(sizes.pictures_per_sense, len(visual.pictures.get(s, ()))) for s in textual.synsets]
    golds = {s for s, is_gold in zip(textual.candidates[row], textual.gold[row], strict=True) if is_gold}
    others = {*textual.candidates[row].tolist()} - golds
    reserved = sizes.phrases if visual.synsets else 0
    glosses, pictures = len(golds) + bool(others), sum(shown[s] for s in golds)
    return (
        glosses <= sizes.glosses - reserved and pictures + max((shown[s] for s in others), default=0) <= sizes.pictures
    )


def step_of(planned, textual, visual, senses, sizes, seed=0, **how):
    given = {"own_candidates": False, "captions": False} | how
    return make_step(
        planned.parts,
        planned.phrases,
        textual,
        visual,
        inventory_of(senses),
        pictures_per_sense=sizes.pictures_per_sense,
        rng=np.random.default_rng(seed),
        **given,
    )


# --- the budget


@often
@given(corpora(), budgets)
def test_no_step_is_over_its_budget_and_an_instance_that_cannot_fit_is_refused(world, sizes):
    textual, visual, senses = world
    if not all(fits(textual, visual, sizes, row) for row in range(len(textual))):
        with pytest.raises(UserError, match=r"raise training\.glosses and training\.pictures"):
            list(plan_epoch(textual, visual, sizes, 1, 0))
        return
    for planned in plan_epoch(textual, visual, sizes, 1, 0):
        step = step_of(planned, textual, visual, senses, sizes)
        assert 0 < len(step.words) <= sizes.words and len(step.phrases) <= sizes.phrases
        # A sense that several words and phrases share stands in the step once, with its pictures.
        distinct = {textual.synsets[s] for part in planned.parts for s in part.senses}
        distinct |= {phrase.synset_id for phrase in planned.phrases}
        assert len(set(step.glosses)) == len(step.glosses) == len(distinct) <= sizes.glosses
        assert len(set(step.pictures)) == len(step.pictures) <= sizes.pictures
        wanted = sum(min(sizes.pictures_per_sense, len(visual.pictures.get(s, ()))) for s in distinct)
        assert len(step.pictures) == wanted


@often
@given(corpora(), budgets, st.integers(0, 3), st.integers(0, 3))
def test_every_instance_comes_once_an_epoch_whole_or_in_parts_that_cover_it(world, sizes, seed, epoch):
    textual, visual, _ = world
    assume(all(fits(textual, visual, sizes, row) for row in range(len(textual))))
    plan = list(plan_epoch(textual, visual, sizes, seed, epoch))
    by_row = {}
    for part in (part for planned in plan for part in planned.parts):
        by_row.setdefault(part.row, []).append(part)
    assert by_row.keys() == set(range(len(textual)))
    for row, parts in by_row.items():
        senses = textual.candidates[row].tolist()
        golds = {s for s, is_gold in zip(senses, textual.gold[row], strict=True) if is_gold}
        others = [s for part in parts for s in part.senses if s not in golds]
        # The gold senses stand in each part, and each other sense in just one.
        assert all(golds <= {*part.senses} and len({*part.senses}) == len(part.senses) for part in parts)
        assert Counter(others) == Counter({*senses} - golds)
        assert len(parts) == 1 or all({*part.senses} > golds for part in parts)
    done = [planned.done for planned in plan]
    assert done == sorted({*done}) and done[0] > 0 and done[-1] == 1


def test_an_instance_is_split_only_where_the_budget_does_not_suffice():
    budget = Budget(words=4, glosses=4, pictures=10, pictures_per_sense=2)
    pictures = np.array([2, 2, 2, 2, 2, 0])
    assert [p.senses for p in parts_of(7, [0, 1, 2, 3], [0, 1, 0, 0], pictures, budget)] == [(1, 0, 2, 3)]
    # Room for three glosses beside the gold one.
    parts = parts_of(7, [0, 1, 2, 3, 4], [0, 1, 0, 0, 0], pictures, budget)
    assert [p.senses for p in parts] == [(1, 0, 2, 3), (1, 4)] and {p.row for p in parts} == {7}
    # Room for two pictures beside the gold sense's: the sense without any comes along.
    parts = parts_of(7, [0, 1, 2, 5], [0, 1, 0, 0], pictures, replace(budget, pictures=4))
    assert [p.senses for p in parts] == [(1, 0), (1, 2, 5)]
    # Two keys of one synset are one sense.
    assert [p.senses for p in parts_of(7, [0, 1, 0, 1], [0, 1, 0, 0], pictures, budget)] == [(1, 0)]


@often
@given(corpora(), budgets, st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_planned_twice_is_the_same(world, sizes, seed, epoch):
    textual, visual, _ = world
    assume(all(fits(textual, visual, sizes, row) for row in range(len(textual))))
    assert list(plan_epoch(textual, visual, sizes, seed, epoch)) == list(
        plan_epoch(textual, visual, sizes, seed, epoch)
    )


def test_seed_and_epoch_each_change_the_order_of_words_and_of_phrases():
    textual = textual_of([([s, (s + 1) % 12], [True, False]) for s in range(12)] * 4)
    visual = senses_of([3] * 12, [3] * 12)
    sizes = replace(SETTINGS, words=4, glosses=12, pictures=40, pictures_per_sense=2, phrases=3)

    def order(seed, epoch):
        plan = list(plan_epoch(textual, visual, sizes, seed, epoch))
        return (
            tuple(part.row for planned in plan for part in planned.parts),
            tuple(phrase.phrase for planned in plan for phrase in planned.phrases),
        )

    orders = [order(seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    for of_one_kind in zip(*orders, strict=True):
        assert len(set(of_one_kind)) == len(orders)
    # Numbers of one use know nothing of those of another.
    assert epoch_order(48, 1, 0, 0).tolist() != epoch_order(48, 1, 0, 1).tolist()


# --- phrases


@often
@given(corpora(), budgets)
def test_phrases_fill_what_room_is_left_and_each_sense_comes_once_before_any_comes_twice(world, sizes):
    textual, visual, senses = world
    assume(visual.synsets and all(fits(textual, visual, sizes, row) for row in range(len(textual))))
    plan = list(plan_epoch(textual, visual, sizes, 3, 1))
    for planned in plan:
        shown = len(step_of(planned, textual, visual, senses, sizes).pictures)
        # All that there is room for; else the pictures of one more sense might not fit.
        assert len(planned.phrases) == sizes.phrases or shown + sizes.pictures_per_sense > sizes.pictures
    asked = [phrase.synset_id for planned in plan for phrase in planned.phrases]
    for start in range(0, len(asked), len(visual.synsets)):
        turn = asked[start : start + len(visual.synsets)]
        assert len(set(turn)) == len(turn)
    assert set(asked) <= set(visual.synsets)


@often
@given(corpora(), budgets, st.integers(0, 3))
def test_pictures_alone_go_over_all_senses_once_and_never_over_the_budget(world, sizes, epoch):
    _, visual, senses = world
    assume(visual.synsets)
    plan = list(plan_epoch(None, visual, sizes, 5, epoch))
    assert not any(planned.parts for planned in plan)
    assert sorted(phrase.synset_id for planned in plan for phrase in planned.phrases) == visual.synsets
    assert [planned.done for planned in plan][-1] == 1
    textual = textual_of([([senses - 1], [True])])
    for planned in plan:
        step = step_of(planned, textual, visual, senses, sizes)
        assert 0 < len(step.glosses) <= sizes.glosses and len(step.pictures) <= sizes.pictures


def test_pictures_alone_are_refused_where_one_sense_is_over_the_budget():
    visual = senses_of([6, 6], [1, 1])
    with pytest.raises(UserError, match=r"training\.pictures"):
        list(plan_epoch(None, visual, replace(SETTINGS, pictures=4, pictures_per_sense=5), 1, 0))


# --- labels


@st.composite
def steps(draw):
    """(textual corpus, senses, planned parts and phrases, the step they make), without a budget in between."""
    textual, visual, senses = draw(corpora())
    sizes = replace(SETTINGS, words=50, glosses=500, pictures=500, pictures_per_sense=draw(st.integers(1, 3)))
    sizes = replace(sizes, phrases=draw(st.integers(0, 6)))
    planned = next(iter(plan_epoch(textual, visual, sizes, draw(st.integers(0, 50)), 0)))
    how = {"own_candidates": draw(st.booleans()), "captions": draw(st.booleans())}
    step = step_of(planned, textual, visual, senses, sizes, seed=draw(st.integers(0, 50)), **how)
    return textual, visual, senses, planned, step, how


@often
@given(steps())
def test_a_pair_is_positive_just_where_both_carry_the_same_synset(drawn):
    textual, visual, senses, planned, step, how = drawn
    of_gloss = dict(zip(gloss_ids(inventory_of(senses), map(synset_of, range(senses))), range(senses), strict=True))
    glosses = [synset_of(of_gloss[gloss]) for gloss in step.glosses]
    of_picture = {picture: synset for synset, own in visual.pictures.items() for picture in own}
    pictures = [of_picture[picture] for picture in step.pictures]
    assert step.words == [part.row for part in planned.parts]
    assert step.phrases == [phrase_text_id(phrase) for phrase in planned.phrases]
    golds = [
        {textual.synsets[s] for s, is_gold in zip(textual.candidates[k], textual.gold[k], strict=True) if is_gold}
        for k in step.words
    ] + [{phrase.synset_id} for phrase in planned.phrases]
    options = [{textual.synsets[s] for s in part.senses} for part in planned.parts]

    labels = step.labels
    assert labels.gloss_of_image.tolist() == [[g == p for p in pictures] for g in glosses]
    assert labels.gloss_of_context.tolist() == [[g in gold for g in glosses] for gold in golds]
    assert labels.image_of_context.tolist() == [[p in gold for p in pictures] for gold in golds]
    # No sense and no picture stands twice, where it could be compared with itself.
    assert len(set(glosses)) == len(glosses) and len(set(step.pictures)) == len(step.pictures)
    compared = [[not how["own_candidates"] or g in own for g in glosses] for own in options]
    assert labels.candidates.tolist() == compared + [[True] * len(glosses)] * len(planned.phrases)
    assert not (labels.gloss_of_context & ~labels.candidates).any()

    assert (step.captions is None) == (not (how["captions"] and pictures))
    if step.captions is not None:
        assert len(set(step.captions)) == len(step.captions) == len(labels.image_of_caption)
        inventory = inventory_of(senses)
        told = caption_synsets(inventory, textual, planned)
        assert set(step.captions) == set(told)
        assert labels.image_of_caption.tolist() == [[told[c] == p for p in pictures] for c in step.captions]


def caption_synsets(inventory, textual, planned):
    """Text ids of the captions of each word's senses and of each phrase -> the synset each tells of."""
    pairs = [("word", textual.synsets[s]) for part in planned.parts for s in part.senses]
    pairs += [(phrase.word, phrase.synset_id) for phrase in planned.phrases]
    return {text_id(caption_text(word, inventory.synset(synset))): synset for word, synset in pairs}


@often
@given(steps(), st.sampled_from(["mean", "sum"]), st.integers(0, 50))
def test_what_has_no_picture_adds_nothing_to_the_losses_about_pictures(drawn, several, seed):
    labels, step = drawn[-2].labels, drawn[-2]
    assume(step.pictures)
    random = torch.Generator().manual_seed(seed)

    def vectors(count):
        return torch.nn.functional.normalize(torch.randn(count, 6, generator=random, dtype=torch.float64), dim=-1)

    contexts = vectors(len(labels.gloss_of_context))
    captions = None if step.captions is None else vectors(len(step.captions))
    gloss, image = (Represented(*(vectors(len(items)) for _ in range(4))) for items in (step.glosses, step.pictures))
    whole = four_losses(contexts, captions, gloss, image, labels, torch.tensor(7.0), several)

    seen = labels.gloss_of_image.any(1)
    meant = labels.image_of_context.any(1)
    told = None if captions is None else labels.image_of_caption.any(1)
    pictured = labels._replace(
        gloss_of_image=labels.gloss_of_image[seen],
        gloss_of_context=labels.gloss_of_context[meant][:, seen],
        candidates=labels.candidates[meant][:, seen],
        image_of_context=labels.image_of_context[meant],
        image_of_caption=None if captions is None else labels.image_of_caption[told],
    )
    fewer = four_losses(
        contexts[meant],
        None if captions is None else captions[told],
        Represented(*(None if part is None else part[seen] for part in gloss)),
        image,
        pictured,
        torch.tensor(7.0),
        several,
    )
    assert whole.sig.item() == pytest.approx(fewer.sig.item(), abs=1e-9)
    assert whole.w2i.item() == pytest.approx(fewer.w2i.item(), abs=1e-9)
    # One picture alone has nothing to be told from.
    assert (whole.sig.item() > 0) == (len(step.pictures) > 1)


# --- padding


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Texts of 2,000 lengths between 5 and 60 tokens, most of them short, as of glosses."""
    folder = tmp_path_factory.mktemp("texts") / "texts"
    lengths = np.random.default_rng(0).lognormal(3, 0.5, 2000).clip(5, 60).astype(int)
    assert lengths.min() == 5 and lengths.max() == 60 and 18 < np.median(lengths) < 22
    with shard_writer(folder) as writer:
        for k, length in enumerate(lengths):
            writer.add([str(k)], [np.full(length, k)], np.zeros((1, 2)))
    return FeatureStore([folder])


def waste(reals):
    """Share of the computed positions that is padding."""
    return 1 - sum(real.sum().item() for real in reals) / sum(real.numel() for real in reals)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 800), st.integers(0, 1000))
def test_less_than_15_percent_of_what_is_computed_of_texts_is_padding(stored, count, seed):
    ids = np.random.default_rng(seed).permutation(2000)[:count].astype(str).tolist()
    chunks, order = glosses_in_chunks(stored, ids, "cpu")
    assert waste([tokens.real for tokens in chunks]) <= 0.15
    # As they come, half of it would be; and more of them are not computed one by one.
    if count > 100:
        assert waste([torch.from_numpy(stored.padded(ids[k : k + 32])[1]) for k in range(0, count, 32)]) > 0.4
        assert len(chunks) < count / 5
    # The order brings each text back to its place.
    rows = torch.cat([tokens.states[:, 0] for tokens in chunks])[order]
    assert rows.tolist() == [int(item) for item in ids]
