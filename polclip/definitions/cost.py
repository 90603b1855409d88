"""What requests and answers cost, and the sum that is not to be passed."""

from collections.abc import Mapping
from typing import NamedTuple

from polclip.errors import UserError

# Of the price, where answers may take a day (the Batch API).
BATCH_SHARE = 0.5
# Tokens that a chat template adds to each message: 4 on OpenAI's models; more on others, for the upper bound.
_TOKENS_AROUND_MESSAGE, _MOST_AROUND_MESSAGE = 4, 16
# OpenAI's rule of thumb for English: https://help.openai.com/en/articles/4936856
_BYTES_PER_TOKEN = 4
# A gloss of WordNet has 12 words on average.
GLOSS_TOKENS = 16


class Price(NamedTuple):
    """USD for a million tokens: asked, answered, and trained on once."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0
    training: float | None = None


def price_of(model: str, prices: Mapping[str, Mapping], base_url: str = "") -> Price:
    """The price of a model; a fine-tuned one (ft:BASE:...) costs what is listed for ft:BASE.

    prices: the config's `definitions.prices`. A model that is not listed costs nothing on a server of one's own:
    its tokens are counted alone. On OpenAI's it is a UserError, since max_usd could not be kept.
    """
    listed = ":".join(model.split(":")[:2]) if model.startswith("ft:") else model
    if listed in prices:
        return Price(**prices[listed])
    if base_url:
        return Price()
    raise UserError(
        f"definitions.model: definitions.prices has no price of {listed!r}, so definitions.max_usd could not be kept. "
        f"Known: {', '.join(prices)}; write the price of another model beside them."
    )


def tokens_in(request: Mapping) -> int:
    """About how many tokens the messages of a request have."""
    return sum(
        -(-len(message["content"].encode()) // _BYTES_PER_TOKEN) + _TOKENS_AROUND_MESSAGE
        for message in request["messages"]
    )


def most_tokens_in(request: Mapping) -> int:
    """No fewer tokens than the messages of a request have: a token is at least one byte."""
    return sum(len(message["content"].encode()) + _MOST_AROUND_MESSAGE for message in request["messages"])


class BudgetReached(UserError):
    """The next request could pass the sum that is allowed."""


class Budget:
    """What a run has paid for answers, and the sum that it is not to pass.

    Args:
        price: of the model asked.
        max_usd: the sum, over all jobs of the run.
        answers, spent: how many answers the run has paid so far, and what they cost (USD).
        share: of the price that is paid.
    """

    def __init__(self, price: Price, max_usd: float, answers: int = 0, spent: float = 0.0, share: float = 1.0) -> None:
        self.answers, self.spent, self.max_usd = answers, spent, max_usd
        self._price, self._share = price, share
        self._reserved, self._under_way = 0.0, 0

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        return self._share * (tokens_in * self._price.tokens_in + tokens_out * self._price.tokens_out) / 1e6

    def most(self, request: Mapping) -> float:
        """The most that a request can cost (USD)."""
        return self.usd(most_tokens_in(request), request["max_tokens"])

    def fits(self, request: Mapping) -> bool:
        return self.spent + self._reserved + self.most(request) <= self.max_usd

    @property
    def idle(self) -> bool:
        """Whether nothing is set aside."""
        return not self._under_way

    def reserve(self, request: Mapping) -> float:
        """Set aside the most that a request can cost (USD); BudgetReached when it does not fit."""
        if not self.fits(request):
            raise BudgetReached(
                f"definitions.max_usd: {self.max_usd:g} USD do not suffice: this run has paid {self.spent:.4f} USD for "
                f"{self.answers:,} answers. They are kept and not paid again: raise max_usd, and run the same "
                "command to get the rest."
            )
        self._under_way += 1
        self._reserved += self.most(request)
        return self.most(request)

    def set_aside(self, usd: float) -> None:
        """Count what may still be paid for requests that were sent off before."""
        self._reserved += usd

    def release(self, reserved: float) -> None:
        """Give back what was set aside for a request that has come to an end."""
        self._under_way -= 1
        self._reserved -= reserved

    def pay(self, answer: Mapping) -> float:
        """Count an answer, and tell what it cost (USD)."""
        usd = self.usd(answer["tokens_in"], answer["tokens_out"])
        self.answers += 1
        self.spent += usd
        return usd
