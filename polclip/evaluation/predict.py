"""Predictions of a trained model: candidates with their scores, best first (MODEL.md step 10)."""

from collections.abc import Sequence

import numpy as np
import torch

from polclip.encoders.feature_store import FeatureStore
from polclip.inventory import Inventory
from polclip.model.polclip import PolCLIP
from polclip.records import Prediction, VisualInstance
from polclip.training.batches import represent_glosses
from polclip.training.corpora import TextualCorpus, gloss_ids, image_tokens

PICTURES_AT_ONCE = 64


def ranked(instance_id: str, candidates: Sequence[str], scores: np.ndarray) -> Prediction:
    """Candidates by falling score; equal scores keep the order of the candidates."""
    order = np.argsort(-scores, kind="stable")
    return Prediction(instance_id, [candidates[k] for k in order], [float(scores[k]) for k in order])


@torch.inference_mode()
def rank_words(
    model: PolCLIP,
    corpus: TextualCorpus,
    inventory: Inventory,
    texts: FeatureStore,
    rows: np.ndarray | None = None,
) -> list[Prediction]:
    """Rank the candidate senses of textual instances by e_w . (g + m_g); each distinct gloss is run once."""
    rows = np.arange(len(corpus)) if rows is None else rows
    used = np.unique(np.concatenate([corpus.candidates[k] for k in rows]))
    place = np.full(len(corpus.synsets), -1)
    place[used] = np.arange(len(used))
    glosses = represent_glosses(model, texts, gloss_ids(inventory, [corpus.synsets[k] for k in used])).matched
    words = model.word_in_context(corpus.target[rows], corpus.sentence[rows])
    predictions = []
    for word, k in zip(words, rows, strict=True):
        scores = (glosses[place[corpus.candidates[k]]] @ word).numpy()
        predictions.append(ranked(corpus.instances[k].instance_id, corpus.instances[k].candidates, scores))
    return predictions


@torch.inference_mode()
def rank_queries(
    model: PolCLIP, queries: list[tuple[VisualInstance, str]], texts: FeatureStore, pictures: FeatureStore
) -> list[Prediction]:
    """Rank the pictures of visual instances by t . (i + m_i); each distinct picture is run once.

    A candidate without features (missing or broken picture) is ranked last, with score -inf written as -4.
    """
    ids = sorted({p for query, _ in queries for p in query.candidates if p in pictures})
    place = {picture_id: k for k, picture_id in enumerate(ids)}
    images = torch.cat(
        [
            model.image(image_tokens(pictures, ids[k : k + PICTURES_AT_ONCE], pictures.has_classes)).matched
            for k in range(0, len(ids), PICTURES_AT_ONCE)
        ]
    )
    phrases = model.phrase(torch.from_numpy(texts.pooled([text for _, text in queries])))
    predictions = []
    for phrase, (query, _) in zip(phrases, queries, strict=True):
        scores = np.array(
            [float(images[place[p]] @ phrase) if p in place else LOWEST for p in query.candidates]
        )
        predictions.append(ranked(query.instance_id, query.candidates, scores))
    return predictions


LOWEST = -4.0  # below any sum of two cosines
