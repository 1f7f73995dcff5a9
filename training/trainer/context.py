"""What a trainer is handed beside its own arguments, and what the parts of it can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from training.config import Job
from training.trainer.callbacks import Callback
from training.trainer.checkpoints import CheckpointManager
from training.trainer.distributed import ControlPlane, World
from training.trainer.sample_order import SampleOrder
from training.trainer.signals import StopSignal


class TableDataset(Protocol):
    """Rows by index."""

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@runtime_checkable
class StreamDataset(Protocol):
    """A table that is read forward only, and can say where it stands."""

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class PromptTokenizer(Protocol):
    """Tokenizer that encodes prompts as in training (`training.data` provides it)."""

    @property
    def end_ids(self) -> list[int]:
        """Ids that end an answer."""

    def prompt_ids(self, prompt: str | list[dict[str, Any]]) -> list[int]:
        """Return the ids of a prompt."""


class CollateFunction(Protocol):
    """Rows to tensors."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch, padded."""

    def padding_example(self) -> dict[str, Any]:
        """Return a row without tokens."""

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row of sequences of `length` tokens, as long as rows get."""


@dataclass
class TrainerContext:
    """Everything the loop needs beyond its trainer's own arguments.

    Attributes:
        job: The run.
        world: This process among its peers.
        control: Their agreement.
        folder: The run folder.
        order: Which rows each step consumes.
        table: The rows to train on.
        validation: The rows held out; None where there are none.
        lengths: Of the rows, where those of like length are computed together.
        collate: Makes batches of rows.
        micro_batch_size: Rows per device at once.
        checkpoints: Keeps checkpoints.
        stop_signal: Says whether the run was told to stop.
        load_initial_model: Loads what training starts from once more, without an adapter.
        callbacks: See every step.
        evaluate: Measures the held-out rows; None where there are none.
    """

    job: Job
    world: World
    control: ControlPlane
    folder: Path
    order: SampleOrder
    table: TableDataset
    validation: TableDataset | None
    lengths: Sequence[int] | None
    collate: CollateFunction
    row_tokenizer: PromptTokenizer
    micro_batch_size: int
    checkpoints: CheckpointManager
    stop_signal: StopSignal
    load_initial_model: Callable[[], Any]
    callbacks: Sequence[Callback] = ()
    evaluate: Callable[[Any, int], dict[str, float]] | None = None
