"""Numbers of the page, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.results import PairedResult


def number(value: float | None) -> str:
    """Return a number with four significant digits."""
    if value is None:
        return ""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        text = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        return text
    return f"{value:.3g}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def p_value(value: float) -> str:
    """Return a p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict(paired: PairedResult, *, higher_is_better: bool) -> str:
    """Return `better` or `worse` if the difference is significant after Holm; else empty."""
    if paired.p_holm > 0.05 or not paired.difference:
        return ""
    return "better" if (paired.difference > 0) == higher_is_better else "worse"


def fact_rows(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a score found as rows of a table: a label and a text."""
    for name, value in facts.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            text = _interval_text(value)
            if text is not None:
                yield label, text
            else:
                yield from fact_rows(value, f"{label}: ")
        elif isinstance(value, list | tuple):
            for index, one in enumerate(value, start=1):
                if isinstance(one, Mapping):
                    yield from fact_rows(one, f"{label} {index}: ")
            if not any(isinstance(one, Mapping) for one in value):
                yield label, ", ".join(map(_text, value))
        elif value is not None:
            yield label, _text(value)


def _interval_text(value: Mapping[str, Any]) -> str | None:
    """Return a share or a value with its interval; None if a mapping is neither."""
    if {"share", "of", "interval"} <= value.keys():
        if value["share"] is None:
            return "no cases"
        low, high = value["interval"]
        return f"{value['share']:.1%} of {value['of']:,} (95 % interval {low:.1%} to {high:.1%})"
    if {"value", "low", "high"} <= value.keys():
        bounds = f"{number(value['low'])} to {number(value['high'])}"
        rest = ", ".join(
            f"{name} {_text(one)}"
            for name, one in value.items()
            if name not in ("value", "low", "high")
        )
        return f"{number(value['value'])} (95 % interval {bounds}){f', {rest}' if rest else ''}"
    return None


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else number(value)
