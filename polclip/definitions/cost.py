"""What requests and answers cost, and the sum that is not to be passed."""

import logging
from collections.abc import Mapping

from polclip.definitions.known_models import Price, check_alive, is_openai, known_model, known_models, listed_name
from polclip.errors import UserError

log = logging.getLogger(__name__)
# Of the price, where answers may take a day (the Batch API).
BATCH_SHARE = 0.5
# Tokens that a chat template adds to each message: 4 on OpenAI's models; more on others, for the upper bound.
_TOKENS_AROUND_MESSAGE, _MOST_AROUND_MESSAGE = 4, 16
# OpenAI's rule of thumb for English: https://help.openai.com/en/articles/4936856
_BYTES_PER_TOKEN = 4
# A gloss of WordNet has 12 words on average.
GLOSS_TOKENS = 16
# The parameters that limit an answer. OpenAI takes the first for all models and refuses the second for models that
# reason; some servers know the second alone. Reasoning tokens count towards the limit.
LIMITS = ("max_completion_tokens", "max_tokens")


def price_of(model: str, prices: Mapping[str, Mapping], base_url: str = "") -> Price:
    """The price of a model: from `prices`, else from the table of OpenAI's models.

    A fine-tuned model (ft:BASE:...) costs what is listed for ft:BASE. A model without a known price costs nothing on a
    server of one's own, where only its tokens are counted. At OpenAI it is a UserError, since max_usd could not hold.

    prices: the config's `definitions.prices`.
    """
    listed = listed_name(model)
    if listed in prices:
        return Price(**prices[listed])
    if not is_openai(base_url):
        return Price()
    known = known_model(model)
    if known and known.price:
        return known.price
    check_alive(model)  # a model that is gone needs no price
    priced = [name for name, other in known_models().items() if other.price and not other.shutdown]
    raise UserError(
        f"definitions.model: the price of {listed!r} is not known, so definitions.max_usd could not be kept. Known: "
        f"{', '.join([*prices, *priced])}. Look the price up (https://developers.openai.com/api/docs/pricing), and "
        f"write USD for a million tokens: definitions: {{prices: {{{listed}: {{tokens_in: ..., tokens_out: ...}}}}}}"
    )


def limit_of(parameters: Mapping) -> int | None:
    """The most tokens that an answer may have, reasoning included; None if nothing limits it.

    parameters: a request, or the config's `definitions.parameters`.
    """
    return max((parameters[name] for name in LIMITS if parameters.get(name) is not None), default=None)


def bounded_price(model: str, settings: Mapping) -> Price:
    """The price of a model, as `price_of`; UserError too if it has one and nothing limits its answers.

    settings: the config's block `definitions`.
    """
    price = price_of(model, settings["prices"], settings["base_url"])
    if price.tokens_out and limit_of(settings["parameters"]) is None:
        raise UserError(
            "definitions.parameters: nothing limits the length of an answer, so definitions.max_usd could not be kept. "
            "Write parameters: {max_completion_tokens: 60}, or {max_tokens: 60} for a server that knows that name only."
        )
    return price


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
        self._dearest = 1.0  # the largest share of the most that it could cost that an answer has cost

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        return self._share * (tokens_in * self._price.tokens_in + tokens_out * self._price.tokens_out) / 1e6

    def most(self, request: Mapping) -> float:
        """The most that a request can cost (USD). More where an answer has cost more than that before."""
        return self._dearest * self._bound(request)

    def _bound(self, request: Mapping) -> float:
        return self.usd(most_tokens_in(request), limit_of(request) or 0)

    def learn(self, request: Mapping, answer: Mapping) -> float:
        """What an answer cost (USD). A server that counts more tokens than it was allowed is expected to go on so."""
        usd, bound = self.usd(answer["tokens_in"], answer["tokens_out"]), self._bound(request)
        if usd > self._dearest * bound > 0:
            if self._dearest == 1:
                log.warning("An answer cost more than it could. From now on, more is set aside for each.")
            self._dearest = usd / bound
        return usd

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

    def pay(self, request: Mapping, answer: Mapping) -> float:
        """Count an answer, and return what it cost (USD)."""
        usd = self.learn(request, answer)
        self.answers += 1
        self.spent += usd
        return usd
