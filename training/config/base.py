"""The base of every section of a job file: frozen, and closed to keys it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class ConfigSection(BaseModel):
    """A part of the job file.

    Frozen, so that nothing changes a job after it was checked; closed, so that a misspelt key is
    an error and never a default in disguise.
    """

    renamed: ClassVar[Mapping[str, str]] = {}
    """Former spelling -> present one, of a key (`old_key`) or of a value (`key: old_value`). A job
    that uses the former one is refused with an error that names the present one."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
