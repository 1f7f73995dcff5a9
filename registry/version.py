"""Semantic version of a registered model."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from registry.errors import RegistryError

Change = Literal["major", "minor", "patch"]
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class SemanticVersion(NamedTuple):
    """Version MAJOR.MINOR.PATCH of a model.

    Attributes:
        major: Raised by another base model or tokenizer.
        minor: Raised by other data, or another method or adapter.
        patch: Raised by any other change.
    """

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def after(self, change: Change) -> SemanticVersion:
        """Return the version that follows a change."""
        if change == "major":
            return SemanticVersion(self.major + 1, 0, 0)
        if change == "minor":
            return SemanticVersion(self.major, self.minor + 1, 0)
        return SemanticVersion(self.major, self.minor, self.patch + 1)


FIRST = SemanticVersion(1, 0, 0)


def parse_version(text: str) -> SemanticVersion:
    """Return a version from its text.

    Raises:
        RegistryError: It is not of the form MAJOR.MINOR.PATCH.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        raise RegistryError(
            f"{text!r} is not a version. Write MAJOR.MINOR.PATCH, such as 1.4.0 (https://semver.org)"
        )
    return SemanticVersion(*(int(part) for part in match.groups()))
