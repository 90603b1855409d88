"""Steps by budget: so many instances as fit a number of distinct glosses and one of pictures, whichever binds first.

Every instance comes once an epoch, in an order made from seed and epoch. One that is over the budget alone is split:
each part has its gold senses and some of the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from polclip.errors import UserError


@dataclass(frozen=True)
class Part:
    """An instance, or a part of one: its row and those of its candidate senses that it is compared with."""

    row: int
    senses: tuple[int, ...]


@dataclass(frozen=True)
class Budget:
    """What one step may hold; senses are counted once, however many instances share them."""

    words: int
    glosses: int
    pictures: int
    pictures_per_sense: int

    def drawn(self, pictures: int) -> int:
        """How many of a sense's pictures a step takes."""
        return min(pictures, self.pictures_per_sense)


def parts_of(row: int, senses: Sequence[int], gold: Sequence[bool], pictures: np.ndarray, budget: Budget) -> list[Part]:
    """One part where the budget suffices, else as many as are needed, each with the gold senses.

    pictures: [S], how many a step takes of each sense.
    """
    distinct = dict.fromkeys(senses)
    golds = dict.fromkeys(s for s, is_gold in zip(senses, gold, strict=True) if is_gold)
    others = [s for s in distinct if s not in golds]
    room, room_pictures = budget.glosses - len(golds), budget.pictures - int(sum(pictures[s] for s in golds))
    if room < bool(others) or room_pictures < max((pictures[s] for s in others), default=0):
        raise UserError(
            f"A step of {budget.glosses} glosses and {budget.pictures} pictures has no room for one instance with "
            f"{len(golds)} gold senses and another sense: raise training.glosses and training.pictures."
        )
    parts: list[list[int]] = [[]]
    left = room_pictures
    for sense in others:
        if len(parts[-1]) == room or pictures[sense] > left:
            parts.append([])
            left = room_pictures
        parts[-1].append(sense)
        left -= pictures[sense]
    return [Part(row, (*golds, *part)) for part in parts]


def steps_of_epoch(parts: Sequence[Part], pictures: np.ndarray, budget: Budget) -> Iterator[list[Part]]:
    """Fill one step after the other with the parts in their order."""
    step: list[Part] = []
    held: set[int] = set()
    shown = 0
    for part in parts:
        new = [sense for sense in part.senses if sense not in held]
        more = int(sum(pictures[sense] for sense in new))
        full = len(held) + len(new) > budget.glosses or shown + more > budget.pictures
        if step and (full or len(step) == budget.words):
            yield step
            step, held, shown = [], set(), 0
            new = part.senses
            more = int(sum(pictures[sense] for sense in new))
        step.append(part)
        held.update(new)
        shown += more
    if step:
        yield step


def epoch_order(count: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    """The order of `count` items in one epoch; `stream` tells orders of other items apart."""
    return np.random.default_rng([seed, epoch, stream]).permutation(count)
