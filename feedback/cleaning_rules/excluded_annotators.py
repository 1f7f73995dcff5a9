"""Rule that drops the labels of annotators flagged as unreliable."""

from __future__ import annotations

from feedback.cleaning_rules.base import CleaningState, LabelRule
from feedback.labels import Label


class ExcludedAnnotators(LabelRule):
    """Drops labels of flagged annotators; see `feedback.annotators`."""

    name = "excluded_annotators"

    def reason(self, label: Label, state: CleaningState) -> str | None:
        """Return why a label is dropped; None to keep it."""
        for annotator in state.annotators:
            if annotator.name == label.annotator and annotator.flags:
                return f"annotator {annotator.name} {'; '.join(annotator.flags)}"
        return None
