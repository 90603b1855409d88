"""The order of all steps of a training, found again from seed and position, and the rates along it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from polclip.errors import UserError
from polclip.records import Phrase
from polclip.training.budget import Budget, Part, epoch_order, parts_of, steps_of_epoch
from polclip.training.corpora import SenseCorpus, TextualCorpus
from polclip.training.settings import TrainingSettings


class Stream(IntEnum):
    """Random numbers of one seed and epoch that know nothing of each other."""

    WORDS = 0
    PHRASES = 1
    CHOICE = 2
    PICTURES = 3
    WINDOWS = 4


class PlannedStep(NamedTuple):
    """What one step reads, and how much of its epoch is done when it is."""

    parts: list[Part]
    phrases: list[Phrase]
    done: float


def plan_epoch(
    textual: TextualCorpus | None, visual: SenseCorpus | None, settings: TrainingSettings, seed: int, epoch: int
) -> Iterator[PlannedStep]:
    """All steps of one epoch: every textual instance once, or every sense with a phrase where there is no text.

    Phrases fill what room the words leave, `settings.phrases` a step at most and over and over again.
    """
    if settings.sense_table and textual is not None:
        yield from _windows(textual, visual, settings, seed, epoch)
        return
    budget = Budget(settings.words, settings.glosses, settings.pictures, settings.pictures_per_sense)
    phrases = _phrases(visual, seed, epoch) if visual and visual.synsets else iter(())
    if textual is None:
        if min(budget.pictures_per_sense, max(map(len, visual.pictures.values()))) > budget.pictures:
            raise UserError(
                f"A step of {budget.pictures} pictures has no room for one sense: raise training.pictures, or lower "
                "training.pictures_per_sense."
            )
        total, taken = len(visual.synsets), 0
        while taken < total:
            some = _fitting(phrases, visual, set(), budget, min(budget.glosses, total - taken), 0)
            taken += len(some)
            yield PlannedStep([], some, taken / total)
        return
    reserved = settings.phrases if visual and visual.synsets else 0
    shown = np.array([budget.drawn(len(visual.pictures.get(s, ())) if visual else 0) for s in textual.synsets])
    # A phrase brings one gloss, and pictures of one sense.
    for_words = replace(budget, glosses=budget.glosses - reserved)
    order = epoch_order(len(textual), seed, epoch, Stream.WORDS)
    parts = [p for k in order for p in parts_of(k, textual.candidates[k].tolist(), textual.gold[k], shown, for_words)]
    taken = 0
    for step in steps_of_epoch(parts, shown, for_words):
        taken += len(step)
        senses = {s for part in step for s in part.senses}
        held, pictures = {textual.synsets[s] for s in senses}, int(sum(shown[s] for s in senses))
        yield PlannedStep(step, _fitting(phrases, visual, held, budget, reserved, pictures), taken / len(parts))


def _windows(
    textual: TextualCorpus, visual: SenseCorpus | None, settings: TrainingSettings, seed: int, epoch: int
) -> Iterator[PlannedStep]:
    """Steps of whole texts with all their words, whose senses are in a table; every few of them have phrases too.

    Half of the phrases mean senses that words of the step have as their gold, as far as pictures show these.
    """
    budget = Budget(settings.words, settings.glosses, settings.pictures, settings.pictures_per_sense)
    phrases = _phrases(visual, seed, epoch) if visual and visual.synsets else None
    rng = np.random.default_rng([seed, epoch, Stream.WINDOWS])
    of_text: dict[str, list[int]] = {}
    for row, text in enumerate(textual.text_ids):
        of_text.setdefault(text, []).append(row)
    texts = list(of_text)
    rows: list[int] = []
    taken = steps = 0
    for at, place in enumerate(epoch_order(len(texts), seed, epoch, Stream.WORDS), start=1):
        rows += of_text[texts[place]]
        if at < len(texts) and len(rows) < settings.words:
            continue
        some: list[Phrase] = []
        if phrases and steps % settings.pictures_every == 0:
            golds = dict.fromkeys(textual.synsets[s] for k in rows for s in textual.candidates[k][textual.gold[k]])
            shown = [synset_id for synset_id in golds if synset_id in visual.phrases]
            own = [
                visual.phrases[shown[k]][rng.integers(len(visual.phrases[shown[k]]))]
                for k in rng.permutation(len(shown))[: settings.phrases // 2]
            ]
            some = _fitting(chain(own, phrases), visual, set(), budget, settings.phrases, 0)
        taken, steps = taken + len(rows), steps + 1
        yield PlannedStep([Part(row, ()) for row in rows], some, 1.0 if at == len(texts) else taken / len(textual))
        rows = []


def _phrases(visual: SenseCorpus, seed: int, epoch: int) -> Iterator[Phrase]:
    """One phrase of each sense, in one order after the other, without end."""
    choice = np.random.default_rng([seed, epoch, Stream.CHOICE])
    turn = 0
    while True:
        order = np.random.default_rng([seed, epoch, Stream.PHRASES, turn]).permutation(len(visual.synsets))
        for place in order:
            of_sense = visual.phrases[visual.synsets[place]]
            yield of_sense[choice.integers(len(of_sense))]
        turn += 1


def _fitting(
    phrases: Iterator[Phrase], visual: SenseCorpus, held: set[str], budget: Budget, count: int, pictures: int
) -> list[Phrase]:
    """The next phrases, at most `count`, as long as pictures of one more sense fit beside those that are shown.

    held: the senses of the step so far; those of the phrases are added.
    """
    some: list[Phrase] = []
    while len(some) < count and not (held and pictures + budget.pictures_per_sense > budget.pictures):
        phrase = next(phrases)
        if phrase.synset_id not in held:
            held.add(phrase.synset_id)
            pictures += budget.drawn(len(visual.pictures[phrase.synset_id]))
        some.append(phrase)
    return some


def rate(progress: float, rise: float) -> float:
    """Share of the peak rate at a point of training (0 to 1): a linear rise, then a cosine to zero at the end."""
    if progress < rise:
        return progress / rise
    return 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def parameter_groups(parameters: Sequence[tuple[float, list[torch.nn.Parameter]]], decay: float) -> list[dict]:
    """Optimizer groups by peak rate; norms, biases and scalars are not decayed."""
    groups = []
    for peak, of_peak in parameters:
        for decayed in (True, False):
            chosen = [p for p in of_peak if (p.ndim > 1) == decayed]
            if chosen:
                groups.append({"params": chosen, "peak": peak, "weight_decay": decay if decayed else 0.0})
    return groups
