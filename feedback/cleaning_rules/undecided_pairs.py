"""Rule that drops pairs whose votes decide for neither answer."""

from __future__ import annotations

from feedback.cleaning_rules.base import CleaningRule, CleaningState


class UndecidedPairs(CleaningRule):
    """Drops tied pairs and pairs without a vote of positive weight."""

    name = "undecided_pairs"

    def apply(self, state: CleaningState) -> None:
        """Drop undecided pairs."""
        for pair in state.pairs():
            if not pair.total:
                state.drop_pair(self, pair, "no vote with a positive weight is left")
            elif not pair.lean:
                state.drop_pair(self, pair, "its votes are even, or for neither answer")
