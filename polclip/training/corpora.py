"""What training and prediction read: instances and senses joined to their stored features.

N instances, S senses (synsets), w a tower's width.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from polclip.corpora.texts import (
    Definitions,
    context_text,
    gloss_text,
    in_windows,
    photo_text,
    query_texts,
    read_definitions,
    text_id,
)
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.inventory import Inventory
from polclip.model.representations import Tokens
from polclip.records import Phrase, Picture, TextualInstance, VisualInstance, read_records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextualCorpus:
    """Words in their sentences with their candidate senses."""

    instances: list[TextualInstance]
    texts: FeatureStore
    text_ids: list[str]  # N, of the sentences
    spans: list[tuple[int, int]]  # N, characters of the targets in these texts
    candidates: list[np.ndarray]  # N arrays of positions in `synsets`
    gold: list[np.ndarray]  # N arrays of booleans over the candidates
    synsets: list[str]  # S synset ids
    tokens: bool  # whether words are read as token ids

    def __len__(self) -> int:
        return len(self.instances)

    def gold_synsets(self) -> list[str]:
        """The synsets that some instance has as its gold."""
        golds = {s for of_instance, gold in zip(self.candidates, self.gold, strict=True) for s in of_instance[gold]}
        return [self.synsets[s] for s in sorted(golds)]

    def words(self, rows: Sequence[int], device: torch.device | str) -> tuple:
        """What `PolCLIP.word_in_context` takes of some instances.

        Of frozen features: the mean of the target's states, the text's pooled state, and the mean of the text's states,
        all [n, w]. Of token ids: the distinct texts, which tokens are the target's [n, t], and which of the texts it
        stands in [n].
        """
        if not self.tokens:
            target, of_text, of = self._states
            return target[rows].to(device).float(), *(part[of[rows]].to(device).float() for part in of_text)
        ids = list(dict.fromkeys(self.text_ids[k] for k in rows))
        place = {item: at for at, item in enumerate(ids)}
        states, real = (torch.from_numpy(array).to(device) for array in self.texts.padded(ids, tokens=True))
        inside = np.zeros((len(rows), real.shape[1]), dtype=bool)
        for at, k in enumerate(rows):
            found = inside_span(self.texts.spans(self.text_ids[k]), self.spans[k])
            inside[at, : len(found)] = found
        of = torch.tensor([place[self.text_ids[k]] for k in rows], device=device)
        return Tokens(None, states, real), torch.from_numpy(inside).to(device), of

    @cached_property
    def _states(self) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Of a frozen tower, in 16 bit: targets' states [N, w]; texts' pooled states and means of states; which text is
        whose."""
        place = {item: row for row, item in enumerate(dict.fromkeys(self.text_ids))}
        pooled = torch.from_numpy(self.texts.pooled(list(place))).half()
        mean = torch.stack([torch.from_numpy(mean_state(self.texts, item)).half() for item in place])
        target = torch.empty(len(self.text_ids), pooled.shape[1], dtype=torch.float16)
        for row, (item, span) in enumerate(zip(self.text_ids, self.spans, strict=True)):
            target[row] = torch.from_numpy(target_state(self.texts, item, span))
        self.texts.let_go()
        return target, (pooled, mean), torch.tensor([place[item] for item in self.text_ids])

    @classmethod
    def read(
        cls,
        paths: Iterable[str | Path],
        inventory: Inventory,
        texts: FeatureStore,
        definitions: Definitions = MappingProxyType({}),
        context_words: int = 0,
        tokens: bool = False,
    ) -> "TextualCorpus":
        """Read instances and gather their features; an empty corpus is a UserError.

        definitions: of those files whose targets are read behind their definition, see `context_text`.
        context_words: of the windows that the others are read in, see `in_windows`.
        tokens: read words as token ids where frozen states are stored as well.

        Candidates without a gloss (BabelNet ids that the mapping does not have) are taken off the instances: they are
        not ranked, and an instance of which none is left stays unanswered.
        """
        paths = list(paths)
        instances, read, left_out = [], [], 0
        # Each record brings its own copy of its sentence and of its candidates' names: one of equals is kept.
        one: dict[str, str] = {}
        words: list[str] = []
        for path in paths:
            known = read_definitions(definitions, path)
            for instance, window, span in in_windows(read_records(path, TextualInstance), context_words):
                keys = [one.setdefault(key, key) for key in inventory.with_synset(instance.candidates)]
                words = words if words == instance.tokens else instance.tokens
                instances.append(replace(instance, candidates=keys, tokens=words))
                # A text that is not stored is told of here, not in the middle of training.
                alone = text_id(window)
                texts.find(alone)
                definition = known.get(instance.instance_id)
                behind = _behind_definition(texts, instance, definition, alone, span) if definition else None
                read.append(behind or (alone, span))
                left_out += bool(definition) and behind is None
        if not instances:
            raise UserError(f"No textual instance in {', '.join(map(str, paths))}.")
        place: dict[str, int] = {}
        of_key: dict[str, int] = {}
        candidates, gold = [], []
        for instance in instances:
            for key in instance.candidates:
                if key not in of_key:
                    of_key[key] = place.setdefault(inventory.sense(key).synset_id, len(place))
            candidates.append(np.array([of_key[key] for key in instance.candidates], dtype=int))
            gold.append(np.array([key in instance.gold for key in instance.candidates], dtype=bool))
        if not place:
            raise UserError(
                f"No candidate sense in {', '.join(map(str, paths))} has a gloss: for a set of XL-WSD, see whether "
                "corpora.xl_wsd.sense_mapping names the right table."
            )
        ids, spans = [item for item, _ in read], [span for _, span in read]
        if left_out:
            log.info("%d of %d sentences are too long to be read behind a definition.", left_out, len(read))
        return cls(instances, texts, ids, spans, candidates, gold, list(place), tokens or texts.holds_tokens)


def _behind_definition(
    texts: FeatureStore, instance: TextualInstance, definition: str, alone: str, span: tuple[int, int]
) -> tuple[str, tuple[int, int]] | None:
    """The id of the text in which an instance stands behind its definition, and its target's characters there.

    None where the tower, which cuts long texts, would lose some of the target that it sees in the text `alone`.
    """

    def seen(item: str, span: tuple[int, int]) -> int:
        return int(overlaps(texts.spans(item), span).sum())

    text, moved = context_text(instance, definition)
    defined = text_id(text)
    return (defined, moved) if seen(defined, moved) >= seen(alone, span) else None


def overlaps(spans: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Which tokens [t] overlap the characters of a span."""
    return (spans[:, 0] < span[1]) & (spans[:, 1] > span[0])


def inside_span(spans: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Which tokens [t] overlap the characters of a span; all where the text was cut before it."""
    inside = overlaps(spans, span)
    return inside if inside.any() else np.ones_like(inside)


def target_state(texts: FeatureStore, text: str, span: tuple[int, int]) -> np.ndarray:
    """Mean [w] of the token states whose characters overlap the span; of all where the text was cut before it."""
    return texts.states(text)[inside_span(texts.spans(text), span)].astype(np.float32).mean(0)


def mean_state(texts: FeatureStore, text: str) -> np.ndarray:
    """Mean [w] of all token states of a text."""
    return texts.states(text).astype(np.float32).mean(0)


class SenseCorpus:
    """Senses with pictures, and phrases that mean them: what SIG, ISG and W2I learn from."""

    def __init__(self, phrases: Iterable[Phrase], pictures: Iterable[Picture]) -> None:
        self.pictures: dict[str, list[str]] = {}
        for picture in pictures:
            self.pictures.setdefault(picture.synset_id, []).append(picture.picture_id)
        self.phrases: dict[str, list[Phrase]] = {}
        for phrase in phrases:
            if phrase.synset_id in self.pictures:
                self.phrases.setdefault(phrase.synset_id, []).append(phrase)
        self.synsets = sorted(self.phrases)  # those that a phrase asks for

    @classmethod
    def read(cls, phrases: Sequence[str | Path], pictures: Sequence[str | Path], stored: FeatureStore) -> "SenseCorpus":
        """Read both; a picture without features is left out, and no picture at all is a UserError."""
        senses = cls(
            (phrase for path in phrases for phrase in read_records(path, Phrase)),
            (p for path in pictures for p in read_records(path, Picture) if p.picture_id in stored),
        )
        if not senses.pictures:
            raise UserError(
                f"No picture with features in {', '.join(map(str, pictures))}: check corpora.visual.train, "
                "or set training.tasks: [textual]."
            )
        return senses


def gloss_ids(inventory: Inventory, synsets: Iterable[str]) -> list[str]:
    """Text ids of the synsets' glosses."""
    return [text_id(gloss_text(inventory.synset(synset_id))) for synset_id in synsets]


def phrase_text_id(phrase: Phrase) -> str:
    return text_id(photo_text(phrase.phrase))


def tokens_of(store: FeatureStore, ids: Sequence[str], device: torch.device | str) -> Tokens:
    """Texts or pictures padded to the longest: frozen features (with class probabilities where there are some), or
    token ids."""
    states, real = (torch.from_numpy(array).to(device) for array in store.padded(ids))
    if store.holds_tokens:
        return Tokens(None, states, real)
    states = states.float()  # on the device: half as much is moved there
    classes = torch.from_numpy(store.class_probabilities(ids)).to(device) if store.has_classes else None
    return Tokens(torch.from_numpy(store.pooled(ids)).to(device), states, real, classes)


def whole_texts(store: FeatureStore, ids: Sequence[str], device: torch.device | str) -> Tokens | Tensor:
    """What `PolCLIP.phrase` takes: pooled states [n, w] of a frozen tower, or token ids."""
    if store.holds_tokens:
        return tokens_of(store, ids, device)
    return torch.from_numpy(store.pooled(ids)).to(device)


def read_queries(
    paths: Iterable[str | Path], definitions: Definitions, forms: Sequence[str] = ("photo",)
) -> list[tuple[VisualInstance, list[str]]]:
    """Visual instances with the text ids of their query, one a form; definitions are of those files that have some."""
    queries = []
    for path in paths:
        known = read_definitions(definitions, path)
        for query in read_records(path, VisualInstance):
            texts = query_texts(query, known.get(query.instance_id), forms)
            queries.append((query, [text_id(text) for text in texts]))
    return queries
