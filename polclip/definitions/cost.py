"""What answers cost, and the sum that is not to be passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from polclip.errors import UserError


class Price(NamedTuple):
    """USD for a million tokens."""

    tokens_in: float
    tokens_out: float


# OpenAI's list prices of standard chat requests (https://platform.openai.com/docs/pricing), compared with public
# copies of that list in November 2026. Prices change: look there before a large run.
PRICES = {
    "gpt-3.5-turbo-1106": Price(1.0, 2.0),
    "gpt-3.5-turbo-0125": Price(0.5, 1.5),
    "gpt-3.5-turbo": Price(0.5, 1.5),
    "gpt-4o-mini": Price(0.15, 0.6),
    "gpt-4o-mini-2024-07-18": Price(0.15, 0.6),
    "ft:gpt-3.5-turbo-1106": Price(3.0, 6.0),
    "ft:gpt-3.5-turbo-0125": Price(3.0, 6.0),
    "ft:gpt-4o-mini-2024-07-18": Price(0.3, 1.2),
}
# Tokens that a chat template adds to each message: 4 on OpenAI's models.
_TOKENS_AROUND_MESSAGE = 16


def price_of(model: str, base_url: str = "") -> Price | None:
    """The price of a model; a fine-tuned one (ft:BASE:...) costs what its base costs fine-tuned.

    A model that is not listed costs nothing on a server of one's own (None: tokens are counted alone). On
    OpenAI's it is a UserError, since max_usd could not be kept.
    """
    listed = ":".join(model.split(":")[:2]) if model.startswith("ft:") else model
    if listed in PRICES:
        return PRICES[listed]
    if base_url:
        return None
    raise UserError(
        f"definitions.model: no price is known for {model!r}, so definitions.max_usd could not be kept. "
        f"Allowed: {', '.join(PRICES)} (ft:... with its own name behind a colon); another model needs its price "
        "in polclip/definitions/cost.py."
    )


def most_tokens_in(request: Mapping) -> int:
    """No fewer tokens than the messages of a request have: a token is at least one byte."""
    return sum(len(m["content"].encode()) + _TOKENS_AROUND_MESSAGE for m in request["messages"])


@dataclass
class Cost:
    """What a set of answers cost."""

    usd: float = 0.0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class BudgetReached(UserError):
    """The next request could pass the sum that is allowed."""


class Budget:
    """Counts what answers cost, and refuses a request that could pass `max_usd`. Threads may share it."""

    def __init__(self, price: Price | None, max_usd: float) -> None:
        self.spent, self.max_usd = Cost(), max_usd
        self._price, self._reserved, self._lock = price or Price(0.0, 0.0), 0.0, Lock()

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self._price.tokens_in + tokens_out * self._price.tokens_out) / 1e6

    def reserve(self, request: Mapping) -> float:
        """Set aside the most that a request can cost (USD); BudgetReached when it does not fit."""
        most = self.usd(most_tokens_in(request), request["max_tokens"])
        with self._lock:
            if self.spent.usd + self._reserved + most > self.max_usd:
                raise BudgetReached(
                    f"definitions.max_usd: {self.max_usd:g} USD do not suffice: {self.spent.requests:,} answers "
                    f"cost {self.spent.usd:.4f} USD. They are kept and not paid again: raise max_usd, "
                    "and run the same command to get the rest."
                )
            self._reserved += most
        return most

    def release(self, reserved: float) -> None:
        """Give back what was set aside for a request that has come to an end."""
        with self._lock:
            self._reserved -= reserved

    def add(self, answer: Mapping) -> None:
        """Count an answer."""
        tokens_in, tokens_out = answer["tokens_in"], answer["tokens_out"]
        with self._lock:
            self.spent.requests += 1
            self.spent.tokens_in += tokens_in
            self.spent.tokens_out += tokens_out
            self.spent.usd += self.usd(tokens_in, tokens_out)
