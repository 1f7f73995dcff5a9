"""Rule that drops calibration items."""

from __future__ import annotations

from feedback.cleaning_rules.base import CleaningState, LabelRule
from feedback.labels import Label


class CalibrationItems(LabelRule):
    """Drops labels of items whose right answer was known: they measure annotators only."""

    name = "calibration_items"

    def reason(self, label: Label, state: CleaningState) -> str | None:
        """Return why a label is dropped; None to keep it."""
        return None if label.gold is None else "a calibration item, whose answer was known"
