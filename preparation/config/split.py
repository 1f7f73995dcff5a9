"""Section `prepare.split`: held-out rows, divided by groups of related rows."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from training.config.base import ConfigSection
from training.config.types import Share

SplitName = Literal["train", "validation", "test"]


class Split(ConfigSection):
    """Shares of the rows that are held out.

    The side of a row is a hash of its group and the seed, so that rows which are added later move
    no other row.
    """

    validation: Share | None = None
    """Share of groups held out for evaluations during training, such as 5%."""
    test: Share | None = None
    """Share of groups held out for a final evaluation."""
    by: Literal["group", "row"] = "group"
    """`group`: related rows stay on one side: near duplicates, parts of a document, rows of one
    `group_by` value, answers to one prompt. `row`: each row by itself, except for exact copies."""
    seed: int = 42

    @model_validator(mode="after")
    def _leaves_rows(self) -> Split:
        held_out = (self.validation or 0) + (self.test or 0)
        if held_out >= 1:
            raise ValueError(
                f"validation and test hold out {held_out:.0%}; nothing is left to train on"
            )
        return self
