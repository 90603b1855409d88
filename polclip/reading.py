"""What a user gives, through the towers and the model: words of texts, phrases, glosses, pictures."""

import logging
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from polclip.answers import SkippedImage
from polclip.corpora.texts import text_id
from polclip.corpora.words import token_spans
from polclip.encoders.in_memory import BATCH, store_pictures, store_texts, store_tokens
from polclip.encoders.interface import ImageEncoder, TextEncoder
from polclip.errors import UserError
from polclip.gloss_index import encode_glosses
from polclip.model.representations import Represented, joined
from polclip.opening import Opened
from polclip.pictures import HEIC_ENDINGS, PictureFile
from polclip.training.chunks import words_in_chunks
from polclip.training.corpora import TextualCorpus, overlaps, tokens_of, whole_texts

log = logging.getLogger(__name__)

Span = tuple[int, int]
Pictures = Sequence[PictureFile | np.ndarray] | PictureFile | np.ndarray  # a path: a folder, or one file
LONGEST_READ = 5_000  # characters, far more than a text tower reads at once; Reason.PHRASE_TOO_LONG says so
WINDOW = 40  # words around a target that a text tower does not read where it stands; 77 tokens hold them


@dataclass(frozen=True)
class PictureSet:
    """Pictures with their vectors, in the order given; `vectors` is None where none can be used."""

    images: tuple[str, ...]  # names, as answers tell them
    vectors: Represented | None = field(repr=False)
    skipped: tuple[SkippedImage, ...]


class Reader:
    """Runs the towers, each opened when it is first needed, and the model behind them."""

    def __init__(self, opened: Opened) -> None:
        self.model, self.inventory = opened.model, opened.inventory
        self._opened = opened
        self.window = opened.encoders.context_words or WINDOW

    @cached_property
    def text_encoder(self) -> TextEncoder:
        return self._opened.text_encoder()

    @cached_property
    def image_encoder(self) -> ImageEncoder:
        return self._opened.image_encoder()

    def words(self, asked: Sequence[tuple[str, Span] | None]) -> list[Tensor | None]:
        """e_w [d] of words, each given by its text and its characters there; None where None is asked, or not read."""
        places = [at for at, one in enumerate(asked) if one is not None]
        tokens: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        read: dict[int, tuple[str, Span]] = {}
        # As it stands; else in a window of words around it, a smaller one, and alone.
        for words in (None, self.window, self.window // 4, 0):
            left = [at for at in places if at not in read]
            tried = {at: asked[at] if words is None else window_around(*asked[at], words) for at in left}
            tried = {at: one for at, one in tried.items() if len(one[0]) <= LONGEST_READ}
            self._tokenise([text for text, _ in tried.values()], tokens)
            read |= {at: one for at, one in tried.items() if overlaps(tokens[one[0]][1], one[1]).any()}
        vectors: list[Tensor | None] = [None] * len(asked)
        if read:
            for at, vector in zip(read, self._vectors(list(read.values()), tokens), strict=True):
                vectors[at] = vector
        return vectors

    def _tokenise(self, texts: Sequence[str], known: dict) -> None:
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            known |= zip(new, self.text_encoder.tokens([readable(text) for text in new]), strict=True)

    def _vectors(self, words: list[tuple[str, Span]], tokens: dict) -> Tensor:
        """e_w [n, d] of words that are seen where they stand."""
        texts = list(dict.fromkeys(readable(text) for text, _ in words))
        if self.model.reads_tokens:
            by_text = {readable(text): tokens[text] for text, _ in words}
            store = store_tokens(by_text)
        else:
            store = store_texts(self.text_encoder, texts)
        ids, spans = [text_id(readable(text)) for text, _ in words], [span for _, span in words]
        corpus = TextualCorpus([], store, ids, spans, [], [], [], self.model.reads_tokens)
        chunks = words_in_chunks(corpus, list(range(len(words))), self.model.device)
        return torch.cat([self.model.word_in_context(*part) for part in chunks.parts])[chunks.order]

    def phrases(self, texts: Sequence[str]) -> Tensor:
        """t [n, d] of whole texts."""
        texts = [readable(text) for text in texts]
        if self._opened.encoders.kind == "clip":
            store = store_tokens(dict(zip(texts, self.text_encoder.tokens(texts), strict=True)))
        else:
            store = store_texts(self.text_encoder, texts)
        return self.model.phrase(whole_texts(store, [text_id(text) for text in texts], self.model.device))

    def glosses(self, synset_ids: Sequence[str]) -> Represented:
        """Glosses of synsets [n, d]."""
        return encode_glosses(self.model, self.text_encoder, self.inventory, synset_ids)

    @torch.inference_mode()
    def pictures(self, images: Pictures, strict: bool = False) -> PictureSet:
        """Pictures as vectors, and why some cannot be used; strict: see `load_picture`."""
        files = as_files(images)
        names, parts, skipped = [], [], []
        steps = range(0, len(files), BATCH)
        for start in tqdm(steps, desc="pictures", unit="batch", delay=2, leave=False, file=sys.stderr):
            some = files[start : start + BATCH]
            store, reasons = store_pictures(self.image_encoder, some, strict)
            skipped += [SkippedImage(name_of(some[at], start + at), reason) for at, reason in reasons.items()]
            if store is not None:
                names += [name_of(some[int(at)], start + int(at)) for at in store.place]
                parts.append(self.model.image(tokens_of(store, list(store.place), self.model.device)))
        return PictureSet(tuple(names), joined(parts) if parts else None, tuple(skipped))


def readable(text: str) -> str:
    """The text with what UTF-8 cannot hold (lone surrogates) replaced, letter by letter: places stay."""
    return text.encode("utf-8", "replace").decode("utf-8")


def window_around(text: str, span: Span, words: int) -> tuple[str, Span]:
    """The part of a text around a target, and the target's characters there: a window of about `words` tokens.

    Windows start at every half of their length, so that targets near each other share one; each has a quarter of a
    window on either side, where there is so much text. With 0 words the target stands alone.
    """
    if words < 2:
        return text[slice(*span)], (0, span[1] - span[0])
    tokens = _token_spans(text)
    at = max(bisect_right(tokens, (span[0], len(text))) - 1, 0)
    half = words // 2
    centre = (at + half // 2) // half * half
    inside = tokens[max(centre - half, 0) : centre + half]
    start = min(span[0], inside[0][0]) if inside else span[0]
    end = max(span[1], inside[-1][1]) if inside else span[1]
    return text[start:end], (span[0] - start, span[1] - start)


_token_spans = lru_cache(maxsize=4)(token_spans)  # a long text is asked for every word of it


def as_files(images: Pictures) -> list[PictureFile]:
    """The pictures of a folder, or those given; arrays become images of Pillow. Raises UserError for other arrays."""
    if isinstance(images, str | Path):
        return files_of(images)
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    return [_as_image(one) if isinstance(one, np.ndarray) else one for one in images]


def _as_image(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise UserError(
            f"An array of {array.dtype} {list(array.shape)} is not a picture. Allowed: uint8 [height, width], "
            "[height, width, 3] or [height, width, 4]. For values from 0 to 1: (array * 255).astype(np.uint8)"
        )
    return Image.fromarray(array)


def files_of(folder: str | Path) -> list[Path]:
    """The picture files of a folder and of those in it, by name; a file stands for itself.

    Files without an ending and HEIC are among them, so that whoever reads them says why they cannot be used. A warning
    counts the files that are passed over by their endings; hidden files are not counted.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [folder]
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    endings = {*Image.registered_extensions(), *HEIC_ENDINGS, ""}
    passed_over = Counter(path.suffix.lower() for path in files if path.suffix.lower() not in endings)
    if passed_over:
        counts = ", ".join(f"{ending} ({count:,})" for ending, count in passed_over.most_common(5))
        more = ", ..." if len(passed_over) > 5 else ""
        log.warning("%s: passed over %d files that are not pictures: %s%s", folder, passed_over.total(), counts, more)
    return sorted(path for path in files if path.suffix.lower() in endings)


def name_of(file: PictureFile, place: int) -> str:
    """How answers call a picture: its path, or its place in the list where it has none."""
    return str(file) if isinstance(file, str | Path) else f"picture {place + 1}"
