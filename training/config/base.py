"""Base class of the sections of a job file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class ConfigSection(BaseModel):
    """Section of the job file.

    It is frozen, so that a job cannot change after it was checked, and forbids unknown keys, so
    that a misspelled key is an error and not silently ignored.
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
