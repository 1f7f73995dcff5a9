"""Values of a provider's parameters, from the keys of a job, within the provider's ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.managed_training import ManagedMethod, Parameter
from planning.managed.changed_keys import changed_keys
from training.config import Job
from training.config.types import Warmup
from training.errors import Problem

Value = int | float | str
Specification = Mapping[str, Mapping[str, Any]]
"""Parameters of a recipe of SageMaker's hub: `type`, `min`, `max`, `enum`, `default` by name."""


@dataclass
class ParameterValues:
    """Values of parameters, and the keys that they came from.

    Attributes:
        values: Values by the name of the parameter.
        used: Keys of the job that have a parameter.
    """

    values: dict[str, Value] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def parameter_values(
    job: Job, method: ManagedMethod, specification: Specification | None, title: str
) -> tuple[ParameterValues, list[Problem]]:
    """Return the values of a provider's parameters, and what does not fit.

    Every key that has a parameter is sent, whether it was written or not: the defaults of a
    provider are not those of a job.

    Args:
        job: The run.
        method: Way of training at the provider.
        specification: Parameters of the model's recipe; None if the provider has none, or if it was
            not read.
        title: Name of the provider, for messages.
    """
    found, problems = ParameterValues(), []
    changed = {key.path for key in changed_keys(job)}
    for key, parameter in method.keys.items():
        value = _value(job, key)
        if parameter.field:
            found.used.add(key)
            continue
        name, value = _converted(parameter, value, specification)
        if not name or value is None:
            # A warm-up in the other unit, or an adapter that the job does not have.
            if key in changed and value is not None:
                problems.append(_wrong_unit(key, job, title))
                found.used.add(key)
            continue
        if specification is not None and name not in specification:
            continue  # not a parameter of this recipe: refused if the job changed it
        limits = specification[name] if specification is not None else _limits(parameter)
        if parameter.type or specification is not None:
            problems += _misfits(key, value, limits, title)
        found.used.add(key)
        found.values[name] = _typed(value, limits)
    return found, problems


def _value(job: Job, key: str) -> Any:
    section: Any = job
    for part in key.split("."):
        section = getattr(section, part, None)
        if section is None:
            return None
    return section


def _converted(
    parameter: Parameter, value: Any, specification: Specification | None
) -> tuple[str, Any]:
    """Return the name and the value of a parameter; a warm-up is in steps or a share."""
    if not isinstance(value, Warmup):
        return parameter.name, value
    if value.unit == "steps":
        return parameter.name, int(value.value)
    if parameter.share and (specification is None or parameter.share in specification):
        return parameter.share, value.value
    return "", value


def _wrong_unit(key: str, job: Job, title: str) -> Problem:
    return Problem(
        key,
        f"{title} takes a number of steps",
        str(_value(job, key)),
        "Write it in steps, such as 10 steps, or leave it out",
    )


def _limits(parameter: Parameter) -> dict[str, Any]:
    limits = {"type": parameter.type, "min": parameter.min, "max": parameter.max}
    return {
        **{name: value for name, value in limits.items() if value not in (None, "")},
        **({} if parameter.default is None else {"default": parameter.default}),
    }


def _misfits(key: str, value: Any, limits: Mapping[str, Any], title: str) -> Iterator[Problem]:
    """Yield a problem if a value is outside of what a parameter takes."""
    allowed = ""
    if "enum" in limits and limits["enum"] and value not in limits["enum"]:
        allowed = f"one of {', '.join(map(str, limits['enum']))}"
    elif isinstance(value, int | float):
        low, high = limits.get("min"), limits.get("max")
        if limits.get("type") == "integer" and value != int(value):
            allowed = "a whole number"
        elif (low is not None and value < low) or (high is not None and value > high):
            bounds = (
                f"{low:g} or more"
                if high is None
                else f"{low:g} to {high:g}"
                if low is not None
                else f"{high:g} or less"
            )
            allowed = f"just {low:g}" if low == high else bounds
    if allowed:
        default = limits.get("default")
        fix = f"; its own default is {default}" if default not in (None, "") else ""
        yield Problem(key, f"{title} takes {allowed}", f"{value}", f"Set it within{fix}")


def _typed(value: Any, limits: Mapping[str, Any]) -> Value:
    if limits.get("type") == "integer" and isinstance(value, float):
        return int(value)
    return value if isinstance(value, int | float | str) else str(value)
