"""Estimate of the cost of a synthesis, before its first call."""

from __future__ import annotations

from dataclasses import dataclass

from preparation.synthesis.batch_section import BedrockBatchTeacher
from preparation.synthesis.section import PlannedRequests, SynthesisSection
from training.config.judges import Endpoint, JudgeSection
from training.judges.cost_ledger import count_characters

CHARACTERS_PER_TOKEN = 3.0
"""The value of the cost limit too: lower than the four of English text, so that costs are
overestimated."""
_RATING_CHARACTERS = 500
"""Approximate length of the text around a draft in the question to the judge."""


@dataclass(frozen=True)
class PurposeCost:
    """Estimated requests of one purpose.

    Attributes:
        purpose: Purpose in words.
        requests: Number of requests.
        input_tokens: Tokens of all questions.
        output_tokens: Tokens of all replies, if each is as long as it may be.
        usd: Cost, or 0 without a price.
    """

    purpose: str
    requests: int
    input_tokens: int
    output_tokens: int
    usd: float


@dataclass(frozen=True)
class SynthesisCost:
    """Estimated requests of a synthesis, by purpose."""

    parts: tuple[PurposeCost, ...]

    @property
    def usd(self) -> float:
        """Estimated cost of all requests."""
        return sum(part.usd for part in self.parts)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return sum(part.requests for part in self.parts)

    def lines(self) -> list[str]:
        """Return the estimate in lines for the console."""
        lines = [
            f"{part.purpose}: {part.requests:,} requests, about {part.input_tokens:,} tokens in, "
            f"at most {part.output_tokens:,} out, {part.usd:.4f} USD"
            for part in self.parts
        ]
        return [*lines, f"all: {self.requests:,} requests, about {self.usd:.4f} USD at most length"]


def estimate(section: SynthesisSection) -> SynthesisCost:
    """Return the estimated cost: every reply has its full length, and none is rejected.

    Questions that are known beforehand are rendered; those that contain earlier replies are
    counted with their full length.

    Raises:
        DataError: A source cannot be read.
    """
    parts = [_cost(planned, section.teacher) for planned in section.planned()]
    if section.filter is not None:
        length = 2 * int(CHARACTERS_PER_TOKEN * section.teacher.max_new_tokens)
        planned = PlannedRequests("ratings", section.rows, (), length + _RATING_CHARACTERS)
        parts.append(_cost(planned, section.filter.judge))
    return SynthesisCost(tuple(parts))


def _cost(planned: PlannedRequests, model: JudgeSection) -> PurposeCost:
    characters = float(planned.characters)
    if planned.questions:
        lengths = [count_characters(question) for question in planned.questions]
        characters = sum(lengths) / len(lengths)
    tokens_in = int(planned.requests * characters / CHARACTERS_PER_TOKEN)
    tokens_out = planned.requests * model.max_new_tokens
    price = model.price if isinstance(model, Endpoint | BedrockBatchTeacher) else None
    usd = 0.0
    if price is not None:
        usd = (tokens_in * price.input + tokens_out * price.output) / 1e6
    return PurposeCost(planned.purpose, planned.requests, tokens_in, tokens_out, usd)
