"""Check of rows before a grader reads them: a reference that no reward can use is a row's error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.config.rewards import RewardSection
from training.data.schema.rows import PromptRow, Row, RowError
from training.errors import DataError
from training.rewards.aggregate import CompositeReward


def reference_check(rewards: Sequence[RewardSection]) -> Callable[[Row], None]:
    """Return a function that raises `RowError` for a row whose answers could not be scored.

    A grader that met the row would fail, and the job with it, after hours that are billed.

    Args:
        rewards: Rewards that are packed as a grader; none to accept every row.
    """
    if not rewards:
        return lambda row: None
    composite = CompositeReward.from_sections(rewards, None)

    def check(row: Row) -> None:
        if not isinstance(row, PromptRow):
            return
        try:
            composite.score([row.prompt], [row.reference or ""], [row])
        except DataError as error:
            raise RowError(str(error).removeprefix(f"{row.id}: ")) from None

    return check
