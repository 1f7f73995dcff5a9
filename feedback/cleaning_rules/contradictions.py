"""Rule that drops the votes of annotators who judged one pair both ways."""

from __future__ import annotations

from feedback.cleaning_rules.base import CleaningRule, CleaningState
from feedback.labels import by_voter


class Contradictions(CleaningRule):
    """Drops all labels of a voter on a pair if they disagree with each other."""

    name = "contradictions"

    def apply(self, state: CleaningState) -> None:
        """Drop contradictory labels, and count the contradictions."""
        for judged in state.judged.values():
            for voter, own in by_voter(judged).items():
                if len({label.vote for label in own}) > 1:
                    state.result.contradictions += 1
                    state.drop(self, "label", f"annotator {voter} judged the pair both ways", own)
                    state.void.update(map(id, own))
