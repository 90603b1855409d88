from collections import Counter

from tiny_wordnet import tiny_inventory

from polclip.evaluation import baselines
from polclip.records import TextualInstance, VisualInstance


def _instance(inventory, text, lemma="bat", pos="n", name="1"):
    tokens = text.split()
    return TextualInstance(name, "s", tokens, 0, 1, lemma, pos, inventory.sense_keys(lemma, pos), [])


def test_random_depends_on_seed_and_ids_alone_and_covers_every_candidate(tmp_path):
    inventory = tiny_inventory(tmp_path)
    instances = [_instance(inventory, "bats", name=str(number)) for number in range(400)]
    forward = list(baselines.random_order(instances, seed=1))
    backward = list(baselines.random_order(instances[::-1], seed=1))[::-1]
    assert forward == backward != list(baselines.random_order(instances, seed=2))
    for prediction in forward:
        assert sorted(prediction.candidates) == ["bat%1:05:00::", "bat%1:06:00::"]
        assert prediction.scores == sorted(prediction.scores, reverse=True)
    assert 150 < Counter(prediction.candidates[0] for prediction in forward)["bat%1:05:00::"] < 250


def test_random_ranks_pictures_too():
    visual = VisualInstance("v", "en", "bat", "winged bat", [f"noto:{n}" for n in range(10)], "noto:3")
    (prediction,) = baselines.random_order([visual])
    assert sorted(prediction.candidates) == sorted(visual.candidates)


def test_first_sense_keeps_wordnets_order(tmp_path):
    (prediction,) = baselines.first_sense([_instance(tiny_inventory(tmp_path), "a bat")])
    assert prediction.candidates == ["bat%1:05:00::", "bat%1:06:00::"] and prediction.scores == [1, 0.5]


def test_lesk_prefers_the_gloss_that_shares_words(tmp_path):
    inventory = tiny_inventory(tmp_path)
    sentences = {
        "that club is for a ball": (["bat%1:06:00::", "bat%1:05:00::"], [4, 1]),  # club for a ball; a
        "a bat is an animal of the night": (["bat%1:05:00::", "bat%1:06:00::"], [5, 1]),
        "bat bat bat": (["bat%1:05:00::", "bat%1:06:00::"], [0, 0]),  # nothing shared: WordNet's order
    }
    found = baselines.lesk([_instance(inventory, text) for text in sentences], inventory)
    for (ranking, scores), prediction in zip(sentences.values(), found, strict=True):
        assert (prediction.candidates, prediction.scores) == (ranking, scores)


def test_an_instance_without_candidates_is_left_unanswered(tmp_path):
    inventory = tiny_inventory(tmp_path)
    unknown = [_instance(inventory, "zorb", lemma="zorb")]
    for system in (
        baselines.random_order(unknown),
        baselines.first_sense(unknown),
        baselines.lesk(unknown, inventory),
    ):
        (prediction,) = system
        assert (prediction.candidates, prediction.scores) == ([], [])
