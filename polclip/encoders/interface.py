"""What an encoder gives: token-level states, a pooled state for the whole, and for texts where each token stands."""

from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image


class EncodedTexts(NamedTuple):
    """A batch of `n` encoded texts; text `k` has `t_k` tokens, padding removed."""

    states: list[np.ndarray]  # n arrays [t_k, width], the last hidden states
    spans: list[np.ndarray]  # n arrays [t_k, 2], characters of each token (start, end); (0, 0) for special tokens
    pooled: np.ndarray  # [n, width], the state that stands for the whole text


class EncodedImages(NamedTuple):
    """A batch of `n` encoded images with `p` tokens each."""

    states: np.ndarray  # [n, p, width]
    pooled: np.ndarray  # [n, width]
    class_probabilities: np.ndarray | None  # [n, classes], of encoders that come with a classifier


class TextEncoder(Protocol):
    width: int

    def __call__(self, texts: list[str]) -> EncodedTexts: ...


class ImageEncoder(Protocol):
    width: int

    def __call__(self, images: list[Image.Image]) -> EncodedImages: ...
