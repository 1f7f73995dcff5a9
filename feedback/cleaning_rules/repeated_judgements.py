"""Rule that drops all but the last of the same annotator's judgements of a pair."""

from __future__ import annotations

from feedback.cleaning_rules.base import CleaningRule, CleaningState
from feedback.labels import by_voter


class RepeatedJudgements(CleaningRule):
    """Drops labels that a later label of the same voter repeats."""

    name = "repeated_judgements"

    def apply(self, state: CleaningState) -> None:
        """Drop repeated labels, and count them."""
        for judged in state.judged.values():
            for own in by_voter(judged).values():
                counted = [label for label in own if id(label) not in state.void]
                if len(counted) > 1:
                    state.result.duplicates += len(counted) - 1
                    state.drop(self, "label", "repeats the same judgement", counted[:-1])
                    state.void.update(map(id, counted[:-1]))
