"""What one step computes with: words in context with their candidate senses, phrases, glosses and pictures.

A step is made of ids, the same in every process; a batch is one process's share of it with its features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from polclip.corpora.texts import caption_text, text_id
from polclip.encoders.feature_store import FeatureStore
from polclip.inventory import Inventory
from polclip.model.losses import same_id
from polclip.model.parallel import share
from polclip.model.representations import Batch, Labels
from polclip.records import Phrase
from polclip.training.budget import Part
from polclip.training.chunks import glosses_in_chunks, whole_texts_in_chunks, words_in_chunks
from polclip.training.corpora import SenseCorpus, TextualCorpus, gloss_ids, phrase_text_id, tokens_of
from polclip.training.sense_table import SenseTable


@dataclass(frozen=True)
class Step:
    """Contexts are words in their sentences followed by phrases; every distinct gloss and picture stands once."""

    words: list[int]  # rows of the textual corpus
    phrases: list[str]  # text ids
    glosses: list[str]  # G text ids
    pictures: list[str]  # I picture ids
    captions: list[str] | None  # K text ids
    labels: Labels


def make_step(
    parts: Sequence[Part],
    phrases: Sequence[Phrase],
    textual: TextualCorpus,
    visual: SenseCorpus | None,
    inventory: Inventory,
    *,
    pictures_per_sense: int,
    own_candidates: bool,
    captions: bool,
    rng: np.random.Generator,
) -> Step:
    """Join textual instances and phrases into one step, labelled by synset id.

    A part without senses brings no gloss: its word is compared with pictures alone here.

    Args:
        own_candidates: compare a word with its own candidate senses alone, else with all glosses of the step; phrases
            are always compared with all.
        captions: let captions of each word's candidate senses, and not the contexts, be compared with pictures.
        rng: draws the pictures.
    """
    options = [[textual.synsets[s] for s in part.senses] for part in parts]
    golds = [[textual.synsets[s] for s in textual.candidates[part.row][textual.gold[part.row]]] for part in parts]
    asked = [phrase.synset_id for phrase in phrases]
    synsets = list(dict.fromkeys([s for own in options for s in own] + asked))
    shown = [
        (picture, synset)
        for synset in synsets
        for picture in rng.permutation(visual.pictures.get(synset, []) if visual else []).tolist()[:pictures_per_sense]
    ]
    of_images = [synset for _, synset in shown]
    of_phrases = [[synset] for synset in asked]
    contexts = golds + of_phrases
    candidates = torch.ones(len(contexts), len(synsets), dtype=torch.bool)
    if own_candidates and parts:
        candidates[: len(parts)] = same_id(options, synsets)
    said: dict[str, str] = {}  # caption to the synset it tells of
    if captions and shown:
        words = [(textual.instances[part.row].lemma, s) for part, own in zip(parts, options, strict=True) for s in own]
        for word, synset in words + [(phrase.word, phrase.synset_id) for phrase in phrases]:
            said[text_id(caption_text(word, inventory.synset(synset)))] = synset
    return Step(
        words=[part.row for part in parts],
        phrases=[phrase_text_id(phrase) for phrase in phrases],
        glosses=gloss_ids(inventory, synsets),
        pictures=[picture for picture, _ in shown],
        captions=list(said) if said else None,
        labels=Labels(
            gloss_of_image=same_id(synsets, of_images),
            gloss_of_context=same_id(
                [gold if own else [] for gold, own in zip(golds, options, strict=True)] + of_phrases, synsets
            ),
            candidates=candidates,
            image_of_context=same_id(contexts, of_images),
            image_of_caption=same_id(list(said.values()), of_images) if said else None,
        ),
    )


def make_batch(
    step: Step,
    textual: TextualCorpus | None,
    texts: FeatureStore,
    pictures: FeatureStore,
    device: torch.device | str,
    table: SenseTable | None = None,
) -> Batch:
    """This process's share of a step with its features, and all labels, on the device.

    table: of the vectors that words are compared with, those of all their candidate senses.
    """

    def mine(items: list) -> list:
        return items[share(len(items))]

    shown = mine(step.pictures)
    return Batch(
        words=words_in_chunks(textual, mine(step.words), device),
        phrases=whole_texts_in_chunks(texts, mine(step.phrases), device),
        captions=None if step.captions is None else whole_texts_in_chunks(texts, mine(step.captions), device),
        glosses=glosses_in_chunks(texts, mine(step.glosses), device),
        images=tokens_of(pictures, shown, device) if shown else None,
        labels=Labels(*(None if label is None else label.to(device) for label in step.labels)),
        word_count=len(step.words),
        table=None if table is None else table.rows(textual, step.words, device),
    )
