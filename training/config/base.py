"""The base of every section of a job file: frozen, and closed to keys it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ConfigSection(BaseModel):
    """A part of the job file.

    Frozen, so that nothing changes a job after it was checked; closed, so that a misspelt key is
    an error and never a default in disguise.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
