"""Comparison of the resolved values of a Condition step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}


def is_met(condition: Mapping[str, Any]) -> bool:
    """Return whether a condition without references is met.

    Raises:
        TypeError: Values of different types are compared.
    """
    kind = condition["Type"]
    if kind == "Not":
        return not is_met(condition["Expression"])
    if kind == "Or":
        return any(map(is_met, condition["Conditions"]))
    if kind == "In":
        return condition["QueryValue"] in condition["Values"]
    left, right = condition["LeftValue"], condition["RightValue"]
    if isinstance(left, str) != isinstance(right, str):
        raise TypeError(f"{left!r} and {right!r} cannot be compared")
    return _COMPARISONS[kind](left, right)
