"""What an encoder gives: token-level states, a pooled state for the whole, and for texts where each token stands."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image


class EncodedTexts(NamedTuple):
    """A batch of `n` encoded texts; text `k` has `t_k` tokens, padding removed."""

    states: list[np.ndarray]  # n arrays [t_k, width], the last hidden states; or [t_k] token ids of a trained tower
    spans: list[np.ndarray]  # n arrays [t_k, 2], characters of each token (start, end); (0, 0) for special tokens
    pooled: np.ndarray  # [n, width], the state that stands for the whole text
    tokens: list[np.ndarray] | None = None  # n arrays [t_k] of token ids beside their states


class EncodedImages(NamedTuple):
    """A batch of `n` encoded images with `p` tokens each, on the encoder's device."""

    states: torch.Tensor  # [n, p, width]
    pooled: torch.Tensor  # [n, width]
    class_probabilities: torch.Tensor | None  # [n, classes], of encoders that come with a classifier


TokensOfText = tuple[np.ndarray, np.ndarray]  # token ids [t] and their characters [t, 2], as above


class TextEncoder(Protocol):
    def tokens(self, texts: Sequence[str]) -> list[TokensOfText]:
        """The tokens of each text; the tower is not run."""

    def __call__(self, texts: Sequence[TokensOfText]) -> EncodedTexts:
        """The tower over a batch of texts, each given by its tokens."""


class ImageEncoder(Protocol):
    bytes_per_picture: int  # what is stored of one

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """A picture in RGB as the encoder reads it; runs beside the encoder, in processes of its own."""

    def __call__(self, prepared: torch.Tensor) -> EncodedImages: ...


def by_length(texts: Sequence[TokensOfText]) -> list[int]:
    """Places of texts by their number of tokens: by characters a quarter of what is computed would be padding."""
    return np.argsort([len(ids) for ids, _ in texts], kind="stable").tolist()
