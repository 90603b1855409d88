"""Texts and pictures through their frozen towers into stores in memory, rounded as those on disk.

So whatever reads stored features reads these, and what a user asks is computed as the workflow computes it.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from polclip.answers import Reason
from polclip.corpora.texts import text_id
from polclip.encoders.feature_store import FeatureStore
from polclip.encoders.interface import ImageEncoder, TextEncoder, by_length
from polclip.pictures import PictureFile, load_picture

log = logging.getLogger(__name__)
BATCH = 16  # what fits a CPU's cache is fastest there


def store_texts(encoder: TextEncoder, texts: Sequence[str]) -> FeatureStore:
    """Features of the distinct texts under their `text_id`; those of like length are encoded together."""
    texts = list(dict.fromkeys(texts))
    read = encoder.tokens(texts)
    order = by_length(read)
    states, spans, pooled, tokens = [], [], [], []
    for start in range(0, len(order), BATCH):
        encoded = encoder([read[at] for at in order[start : start + BATCH]])
        states += encoded.states
        spans += encoded.spans
        pooled.append(encoded.pooled)
        tokens += encoded.tokens or []
    ids = [text_id(texts[at]) for at in order]
    return FeatureStore.of(ids, states, np.concatenate(pooled), spans=spans, tokens=tokens or None)


def store_tokens(read: dict[str, tuple[np.ndarray, np.ndarray]]) -> FeatureStore:
    """Token ids [t] and their characters [t, 2] by text, for towers that are trained: no tower is run here."""
    ids, spans = zip(*read.values(), strict=True)
    return FeatureStore.of([text_id(text) for text in read], ids, np.zeros((len(read), 0)), spans=spans)


def store_pictures(
    encoder: ImageEncoder, files: Sequence[PictureFile], strict: bool = False
) -> tuple[FeatureStore | None, dict[int, Reason]]:
    """Features of pictures under their place among `files` ("0", "1" ...), and why the others have none.

    strict: read them as pictures that strangers send, see `load_picture`.
    """
    reasons: dict[int, Reason] = {}
    places, prepared = [], []
    for place, file in enumerate(files):
        read = load_picture(file, strict)
        if read.image is None:
            reasons[place] = Reason(read.reason)
        else:
            places.append(str(place))
            prepared.append(encoder.prepare(read.image))
        for note in read.notes:
            log.warning("%s: %s", file if isinstance(file, str | Path) else "a picture", note)
    if not places:
        return None, reasons
    states, pooled, classes = encoder(torch.stack(prepared))
    optional = {} if classes is None else {"class_probabilities": classes.cpu().numpy()}
    return FeatureStore.of(places, states.cpu().numpy(), pooled.cpu().numpy(), **optional), reasons
