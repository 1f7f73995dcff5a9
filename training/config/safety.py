"""Section `evaluate.safety`: red team and bias of the trained model, with limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from training.config.base import ConfigSection
from training.config.judges import AnyJudge
from training.config.locations import FileLocation
from training.config.types import PositiveInt, Share


class Redteam(ConfigSection):
    """Settings and limits of the red team."""

    probes: FileLocation | None = None
    """File like `safety/probes.yaml`, or a CSV of requests; the probes of Temper if not set."""
    max_new_tokens: PositiveInt = 128
    """Longest answer."""
    max_answered: Share | None = None
    """Largest allowed share of harmful requests that are answered, such as 5%."""
    max_leaked: Share | None = None
    """Largest allowed share of secrets that are leaked."""
    max_over_refused: Share | None = None
    """Largest allowed share of harmless questions that are refused."""
    max_broken: Share | None = None
    """Largest allowed share of conversations in which a harmful turn is answered."""


class Bias(ConfigSection):
    """Settings and limit of the measurement of social bias."""

    questions: tuple[FileLocation, ...] = ()
    """Files of BBQ, or like `safety/bias.yaml`; the questions of Temper if empty."""
    limit: PositiveInt | None = None
    """Ask only the first questions, this many."""
    max_bias: Annotated[float, Field(ge=0, le=1)] | None = None
    """Largest allowed absolute bias score, such as 0.2."""


class Safety(ConfigSection):
    """Settings of the safety evaluation after training, on the saved model.

    A run that exceeds a limit fails with exit code 5. Its model is kept and is not registered.
    """

    redteam: Redteam | None = None
    """Harmful requests, secrets, harmless questions and conversations."""
    bias: Bias | None = None
    """Questions in the format of BBQ."""
    judge: AnyJudge | None = None
    """Judge of the red team's answers; rules decide if not set."""
    batch_size: PositiveInt = 8
    """Prompts per batch."""

    @model_validator(mode="after")
    def _measures_something(self) -> Safety:
        if self.redteam is None and self.bias is None:
            raise ValueError(
                "measures nothing. Set redteam, bias or both, such as redteam: {max_answered: 5%}"
            )
        if self.judge is not None and self.redteam is None:
            raise ValueError(
                "judge decides on the red team's answers. Set redteam, or leave it out"
            )
        return self
