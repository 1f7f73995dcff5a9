"""Table of rules: conditions on facts, and the points that they give to each approach."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from advice.facts import FACT_NAMES, Approach, Facts, Step, Value
from training.config.base import ConfigSection
from validation.strict_yaml import load_yaml

_TABLE = Path(__file__).with_name("rules.yaml")


class Bounds(ConfigSection):
    """Condition on a number: at least `min`, and less than `below`."""

    min: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Bounds:
        if self.min is None and self.below is None:
            raise ValueError("needs min or below")
        return self

    def allows(self, value: float) -> bool:
        """Return whether a number is within the bounds."""
        return (self.min is None or value >= self.min) and (
            self.below is None or value < self.below
        )


class RuleSource(ConfigSection):
    """Paper or documentation that a rule follows."""

    title: str
    url: Annotated[str, Field(pattern="^https://")]
    finding: str
    """Its finding."""


class AdviceRule(ConfigSection):
    """Rule of the table."""

    id: str
    when: dict[str, Bounds | tuple[str | bool, ...]]
    """Fact -> its bounds, or the values that it may have."""
    points: dict[Approach, int]
    add: dict[Step, int] = Field(default={})
    because: str
    """Reason, in which `{rows}` and the names of other facts are replaced by their values."""
    source: RuleSource

    @field_validator("when")
    @classmethod
    def _facts(cls, when: dict[str, Bounds | tuple[str | bool, ...]]) -> object:
        unknown = sorted(when.keys() - set(FACT_NAMES))
        if unknown or not when:
            raise ValueError(f"names no fact: {', '.join(unknown) or '(empty)'}")
        return when

    def applies(self, facts: Facts) -> bool:
        """Return whether all conditions hold."""
        return all(_holds(condition, facts.value(name)) for name, condition in self.when.items())

    def reason(self, facts: Facts) -> str:
        """Return the reason with the facts filled in."""
        return self.because.format(**facts.texts())


class _Table(ConfigSection):
    rules: tuple[AdviceRule, ...]


@cache
def read_rules() -> tuple[AdviceRule, ...]:
    """Return the rules of the table that comes with Temper."""
    return _Table.model_validate(load_yaml(_TABLE.read_text("utf-8"))).rules


def _holds(condition: Bounds | tuple[str | bool, ...], value: Value) -> bool:
    if value is None:
        return False
    if isinstance(condition, Bounds):
        return not isinstance(value, str | bool) and condition.allows(value)
    return value in condition
