"""Whether a model's probabilities mean what they say: of what it is 80 % sure of, 80 % should be right.

A model's scores of an instance are logits; their softmax over the candidates are its probabilities.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from polclip.records import Prediction


@dataclass(frozen=True)
class Calibration:
    """Instances by the probability of their best candidate, in ranges of equal width that hold at least one.

    confidence, accuracy: the means of each range, 0 to 1; count: its instances. error: the expected calibration error
    (Naeini et al., AAAI 2015), the mean over instances of the distance between the two, 0 to 1.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    error: float


def calibration(
    predictions: Iterable[Prediction], gold: Mapping[str, Collection[str]], ranges: int = 10
) -> Calibration | None:
    """Of the instances with two candidates or more and a gold; None where there is none.

    gold: the ids of the right candidates, by instance id.
    """
    sure, right = [], []
    for prediction in predictions:
        if len(prediction.candidates) > 1 and gold.get(prediction.instance_id):
            scores = np.asarray(prediction.scores)
            sure.append(1 / np.exp(scores - scores.max()).sum())
            right.append(prediction.candidates[0] in gold[prediction.instance_id])
    if not sure:
        return None
    place = np.minimum((np.array(sure) * ranges).astype(int), ranges - 1)
    count = np.bincount(place, minlength=ranges)
    used = count > 0
    confidence = np.bincount(place, sure, ranges)[used] / count[used]
    accuracy = np.bincount(place, right, ranges)[used] / count[used]
    error = float((np.abs(confidence - accuracy) * count[used]).sum() / count.sum())
    return Calibration(confidence, accuracy, count[used], error)
