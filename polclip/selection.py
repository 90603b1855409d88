"""Choosing and ordering by digest of ids: the same on every machine, and unmoved by what is added elsewhere."""

import hashlib
from collections.abc import Iterable


def fraction(item_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on the id and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{item_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def order_by_digest(item_ids: Iterable[str], seed: int) -> list[str]:
    """The ids in a random order that depends on each id and the seed alone."""
    return sorted(item_ids, key=lambda item_id: (fraction(item_id, seed), item_id))
