"""Offer of a provider of managed customization for a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planning.ranges import Range

_NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True)
class ManagedQuote:
    """Price and time of a job on one provider.

    Attributes:
        provider: Name of the target.
        title: Name of the provider.
        model: Name of the model there.
        technique: Way of training there.
        tokens: Tokens that are billed.
        cost_usd: Price; None if the price of a token is not known.
        price: Source and date of the price, or why it is not known.
        left: Keys whose value the provider chooses.
        refused: Why the job cannot run there as it is written.
        billing: What is billed: `tokens`, or the time of `instances`.
        max_hours: Time after which the service ends the job; None if tokens are billed.
    """

    provider: str
    title: str
    model: str = ""
    technique: str = ""
    tokens: Range = _NOTHING
    cost_usd: Range | None = None
    price: str = ""
    left: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    billing: str = "tokens"
    max_hours: float | None = None

    @property
    def cost(self) -> str:
        """Price, in words."""
        if self.cost_usd is None:
            return "an unknown cost"
        if self.billing == "instances":
            return f"up to {self.cost_usd.high:.2f} USD"
        return f"{self.cost_usd.low:.2f} to {self.cost_usd.high:.2f} USD"

    def document(self) -> dict[str, Any]:
        """Return the quote as a part of `plan.json`."""
        cost = self.cost_usd
        return {
            "target": self.provider,
            "model": self.model,
            "technique": self.technique,
            "tokens": {"low": round(self.tokens.low), "high": round(self.tokens.high)},
            "cost_usd": None if cost is None else {"low": cost.low, "high": cost.high},
            "price": self.price,
            "hours": None,
            "chosen_by_provider": list(self.left),
            "refused": list(self.refused),
        }
