"""Masking of personal data and secrets in single rows, for logs and collected cases."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from preparation.rows import PreparedRow
from preparation.steps.step import Rule
from training.config.data import ShapeName

_NEEDED = ("numpy", "stdnum")
_INSTALL = 'pip install "temper[mask]"'


def missing_packages() -> str:
    """Return what to install so that rows can be masked; empty if nothing is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    return f"{', '.join(missing)} is not installed: {_INSTALL}" if missing else ""


class RowMask:
    """Replacement of personal data and secrets by placeholders such as `[PERSON_1]`.

    What the recognizer does not find stays: docs/prepare.md has its recall by kind.
    """

    def __init__(self) -> None:
        from preparation.steps.personal_data.section import PersonalDataStep
        from preparation.steps.secrets.section import SecretsStep

        self._rules: list[Rule] = [
            SecretsStep.model_validate({"step": "secrets", "action": "replace"}).build(),
            PersonalDataStep.model_validate({"step": "personal_data", "action": "replace"}).build(),
        ]
        # The recognizer keeps the vectors of words that it has seen, and is not thread-safe.
        self._lock = threading.Lock()

    def mask(self, shape: ShapeName, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of a row with its personal data and secrets replaced.

        Args:
            shape: Shape of the row, which says where its texts are.
            columns: Its columns.
        """
        return self.mask_all([(shape, columns)])[0]

    def mask_all(self, rows: Sequence[tuple[ShapeName, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Return the columns of several rows, masked; faster than one by one."""
        masked = [PreparedRow("row", "log", shape, dict(columns)) for shape, columns in rows]
        with self._lock:
            for rule in self._rules:
                examined = rule.examine_all(masked)
                masked = [
                    row if one.texts is None else row.with_texts(one.texts)
                    for row, one in zip(masked, examined, strict=True)
                ]
        return [row.columns for row in masked]
