"""Types of values with units: `5%`, `10min`, `40 steps`, `6h`, `300 USD`.

Each type is parsed once and serialized in the same form, so that the resolved `job.yaml` in a run
folder reads like the original file.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_DURATION_S = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|sec|min|m|h|d)\s*$")
# In the Trainer of Transformers, `steps` is a strategy whose number stands under another key.
_NO_NUMBER = "lacks the number of steps: write for instance 50 steps"
_COUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)?\s*(steps?|epochs?)\s*$")
_MONEY = re.compile(r"^\s*\$?\s*(\d+(?:\.\d+)?)\s*(?:USD)?\s*$")
_SHARE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_share(value: Any) -> float:
    """Return a share of one from `5%` or `0.05`.

    Raises:
        ValueError: Not a percentage, or outside 0–100 %.
    """
    if isinstance(value, str) and (match := _SHARE.match(value)):
        # In decimal, so that 1.4% is the same float as 0.014.
        value = float(Decimal(match[1]) / 100)
    if not _is_number(value):
        raise ValueError("write a percentage such as 5%, or a share such as 0.05")
    if not 0 <= value <= 1:
        raise ValueError("a share lies between 0% and 100%")
    return float(value)


def parse_duration_s(value: Any) -> float:
    """Return seconds from `90s`, `10min`, `6h` or `2d`.

    Raises:
        ValueError: Not a duration with a unit.
    """
    if isinstance(value, str) and (match := _DURATION.match(value)):
        return float(match[1]) * _DURATION_S[match[2]]
    raise ValueError("write a time with its unit, such as 90s, 10min, 6h or 2d")


def print_duration(seconds: float) -> str:
    """Return seconds in the largest unit that keeps the number whole."""
    for unit in ("d", "h", "min"):
        if seconds >= _DURATION_S[unit] and seconds % _DURATION_S[unit] == 0:
            return _number(seconds / _DURATION_S[unit]) + unit
    return _number(seconds) + "s"


def parse_money_usd(value: Any) -> float:
    """Return dollars from `300 USD`, `$300` or `300`.

    Raises:
        ValueError: Not an amount of dollars.
    """
    if _is_number(value) and value >= 0:
        return float(value)
    if isinstance(value, str) and (match := _MONEY.match(value)):
        return float(match[1])
    raise ValueError("write an amount in dollars, such as 300 USD")


class Every(NamedTuple):
    """Interval of `value` steps, epochs or seconds, or `NEVER`."""

    value: float
    unit: Literal["steps", "epochs", "seconds", "never"]

    def __str__(self) -> str:
        if self.unit == "never":
            return "none"
        if self.unit == "seconds":
            return print_duration(self.value)
        unit = self.unit[:-1] if self.value == 1 else self.unit
        return f"{_number(self.value)} {unit}"


NEVER = Every(0, "never")
"""The interval of something that is switched off, written as `none`."""


def parse_every_or_none(value: Any) -> Every:
    """Return the interval that `parse_every` reads, or `NEVER` from `none` or an empty value.

    Raises:
        ValueError: Neither an interval nor `none`.
    """
    if value is None or value in ("none", NEVER):
        return NEVER
    try:
        return parse_every(value)
    except ValueError as error:
        raise ValueError(f"{error}, or none to switch it off") from None


def parse_every(value: Any) -> Every:
    """Return an interval from `40 steps`, `0.5 epochs`, `epoch`, `10min`, or a number of steps.

    Raises:
        ValueError: Not an interval, not above zero, or `steps` without a number.
    """
    if isinstance(value, Every):
        return value
    every: Every | None = None
    if isinstance(value, str) and value.strip() in ("step", "steps"):
        raise ValueError(_NO_NUMBER)
    if _is_number(value):
        every = Every(float(value), "steps")
    elif isinstance(value, str) and (match := _COUNT.match(value)):
        unit: Literal["steps", "epochs"] = "steps" if match[2].startswith("step") else "epochs"
        every = Every(float(match[1] or 1), unit)
    elif isinstance(value, str) and (match := _DURATION.match(value)):
        every = Every(parse_duration_s(value), "seconds")
    if every is None:
        raise ValueError("write 40 steps, 10min, or epoch")
    if every.value <= 0 or (every.unit == "steps" and every.value != int(every.value)):
        raise ValueError("write a whole number of steps above zero, such as 40 steps")
    return every


class Warmup(NamedTuple):
    """Length of the learning-rate warm-up: a share of all steps, or a number of steps."""

    value: float
    unit: Literal["share", "steps"]

    def steps(self, max_steps: int) -> int:
        """Return the number of warm-up steps in a run of `max_steps`."""
        return round(self.value * max_steps) if self.unit == "share" else int(self.value)

    def __str__(self) -> str:
        return (
            f"{self.value:.4%}".replace(".0000%", "%")
            if self.unit == "share"
            else (f"{_number(self.value)} steps")
        )


def parse_warmup(value: Any) -> Warmup:
    """Return a warm-up from `10%`, `100 steps`, or a whole number of steps.

    Raises:
        ValueError: Neither a share nor a number of steps.
    """
    if isinstance(value, Warmup):
        return value
    if isinstance(value, str) and _SHARE.match(value):
        return Warmup(parse_share(value), "share")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Warmup(float(value), "steps")
    if isinstance(value, str) and (match := _COUNT.match(value)) and match[2].startswith("step"):
        if match[1] is None:
            raise ValueError(_NO_NUMBER)
        return Warmup(float(match[1]), "steps")
    raise ValueError("write a share such as 3%, or a number such as 100 steps")


def _text_schema(example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "number"], "examples": [example]})


def _share_text(value: float) -> str:
    return f"{round(value * 100, 6):g}%"


Share = Annotated[
    float, BeforeValidator(parse_share), PlainSerializer(_share_text), _text_schema("5%")
]
DurationS = Annotated[
    float, BeforeValidator(parse_duration_s), PlainSerializer(print_duration), _text_schema("6h")
]
MoneyUsd = Annotated[
    float,
    BeforeValidator(parse_money_usd),
    PlainSerializer(lambda usd: f"{_number(usd)} USD"),
    _text_schema("300 USD"),
]
Interval = Annotated[
    Every, BeforeValidator(parse_every), PlainSerializer(str), _text_schema("40 steps")
]
OptionalInterval = Annotated[
    Every, BeforeValidator(parse_every_or_none), PlainSerializer(str), _text_schema("40 steps")
]
WarmupLength = Annotated[
    Warmup, BeforeValidator(parse_warmup), PlainSerializer(str), _text_schema("3%")
]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else value,
        json_schema_input_type=str | tuple[str, ...],
    ),
    Field(min_length=1),
]
"""One text or a list of them, such as the names of files."""
RouterAuxLossCoef = Annotated[
    Annotated[float, Field(ge=0)] | None,
    BeforeValidator(
        lambda value: 0.0 if value == "none" else value,
        json_schema_input_type=Annotated[float, Field(ge=0)] | Literal["none"] | None,
    ),
]
"""Coefficient of a loss; `none` turns it off, and null leaves it to the model."""
