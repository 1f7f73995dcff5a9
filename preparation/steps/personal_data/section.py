"""Section of the step that finds personal data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from preparation.recognizer.kinds import IDENTIFIERS, Kind
from preparation.steps.step import Rule, StepSection
from validation.problem import Problem

_SHORTEST_KEY = 16


class PersonalDataStep(StepSection):
    """Finds personal data; reports it, replaces it, or rejects the rows that hold any."""

    step: Literal["personal_data"]
    action: Literal["report", "replace", "drop"] = "report"
    """`report` counts what is found and changes nothing; `replace` puts other text in its place;
    `drop` rejects the row."""
    replace: Literal["placeholders", "surrogates"] = "placeholders"
    """`placeholders` writes `[PERSON_1]`, the same value with the same number in a row.
    `surrogates` writes made-up values of the same shape: a model that learns from placeholders
    learns to write them."""
    key_env: str | None = None
    """Environment variable with a secret key of 16 characters or more, such as one that
    `TEMPER_SECRETS` fills: with it, a value has the same surrogate in every row."""
    kinds: tuple[Kind, ...] = Field(default=IDENTIFIERS, min_length=1)
    """Kinds that are looked for. `location`, `organization`, `date`, `age`, `sex` and `family`
    identify a person together with other facts only, and are not in the default."""
    never: tuple[str, ...] = ()
    """Values that are not personal data here, such as the name and address of one's own firm;
    compared without regard to case."""

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield what is wrong with the settings beyond their types."""
        surrogates = self.action == "replace" and self.replace == "surrogates"
        if "replace" in self.model_fields_set and self.action != "replace":
            yield Problem(
                f"{key}.replace",
                f"has no effect with `action: {self.action}`",
                self.replace,
                "Write `action: replace`, or leave `replace` out",
            )
        if self.key_env is None:
            return
        if not surrogates:
            yield Problem(
                f"{key}.key_env",
                "only surrogates use a key",
                self.key_env,
                "Write `action: replace` and `replace: surrogates`, or leave `key_env` out",
            )
        elif len(os.environ.get(self.key_env, "")) < _SHORTEST_KEY:
            state = "too short" if os.environ.get(self.key_env) else "not set"
            yield Problem(
                f"{key}.key_env",
                f"the environment variable is {state}; a key has at least "
                f"{_SHORTEST_KEY} characters",
                self.key_env,
                "Set it from a secret, for example to the output of `openssl rand -hex 32`",
            )

    def variables(self) -> Iterable[str]:
        """Return the name of the variable with the key, if there is one."""
        return () if self.key_env is None else (self.key_env,)

    def finder(self) -> Rule:
        """Return the rule that finds personal data and changes nothing."""
        return self.model_copy(update={"action": "report"}).build()

    def build(self) -> Rule:
        """Return the rule, with its recognizer loaded."""
        from preparation.steps.personal_data.rule import PersonalDataRule

        return PersonalDataRule(self)
