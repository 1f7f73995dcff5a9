"""Rule that drops labels whose two answers are the same text."""

from __future__ import annotations

from feedback.cleaning_rules.base import CleaningState, LabelRule
from feedback.labels import Label, normalize


class IdenticalAnswers(LabelRule):
    """Drops labels whose answers differ in case and white space only."""

    name = "identical_answers"

    def reason(self, label: Label, state: CleaningState) -> str | None:
        """Return why a label is dropped; None to keep it."""
        same = normalize(label.first) == normalize(label.second)
        return "both answers are the same" if same else None
