"""Jobs that are ready to be sent to a provider: the run, its records, and the hub's recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.managed.data_files import ManagedData
from launch.managed.hub import HubModel
from planning.managed.quote import price_run, tokens_of_text
from planning.managed.run import ManagedRun
from planning.managed_quote import ManagedQuote

_SPLIT = "train_val_split_ratio"


@dataclass(frozen=True)
class ManagedJob:
    """Job that is ready to be sent to a provider.

    Attributes:
        run: The job as the provider runs it.
        data: Its records.
    """

    run: ManagedRun
    data: ManagedData

    def quote(self, region: str, max_runtime_s: int) -> ManagedQuote:
        """Return the price of the job.

        Args:
            region: Region of the account.
            max_runtime_s: Time after which the service ends a job that sets no limit.
        """
        characters = sum(map(len, self.data.train))
        tokens = tokens_of_text(self.run, characters)
        return price_run(self.run, tokens, max_runtime_s=max_runtime_s, region=region)


@dataclass(frozen=True)
class HubJob(ManagedJob):
    """Job with what the hub says about its model.

    Attributes:
        model: Model of the hub.
        recipe: Its recipe for the job.
        specification: Parameters of the recipe, by name.
        sequence_length: Sequence length of the recipe, such as `4K`; None if it has one alone.
    """

    model: HubModel
    recipe: Mapping[str, Any]
    specification: Mapping[str, Mapping[str, Any]]
    sequence_length: str | None

    @property
    def split_note(self) -> str:
        """Sentence on the rows that the recipe holds out by itself; empty if it holds out none."""
        share = self.specification.get(_SPLIT, {}).get("default")
        if self.data.validation or not isinstance(share, int | float) or share >= 1:
            return ""
        return (
            f"the recipe holds out {1 - share:.0%} of the rows by itself; name others in "
            "data.validation"
        )
