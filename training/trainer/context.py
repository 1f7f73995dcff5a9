"""Context of a trainer: what it needs in addition to the arguments of its Transformers parent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from training.config import Job
from training.config.static_shapes import StaticShapes
from training.trainer.callbacks import Callback
from training.trainer.checkpoints import CheckpointManager
from training.trainer.distributed import ControlPlane, World
from training.trainer.sample_order import SampleOrder
from training.trainer.signals import StopSignal


class TableDataset(Protocol):
    """Rows that are read by index."""

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@runtime_checkable
class StreamDataset(Protocol):
    """Table that is read in increasing order and can save its position."""

    def state_dict(self) -> dict[str, Any]:
        """Return the current position."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a position."""


class PromptTokenizer(Protocol):
    """Tokenizer that encodes prompts as in training (`training.data` provides it)."""

    @property
    def end_ids(self) -> list[int]:
        """Ids that end an answer."""

    def prompt_ids(self, prompt: str | list[dict[str, Any]]) -> list[int]:
        """Return the ids of a prompt."""


class CollateFunction(Protocol):
    """Collate function that also provides the extreme rows of its kind."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the rows as a padded batch of tensors."""

    def padding_example(self) -> dict[str, Any]:
        """Return a row without tokens, which adds nothing to the loss."""

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row of the maximum length, whose sequences have `length` tokens."""


@dataclass
class TrainerContext:
    """Run, data, processes and services that the training loop uses.

    Attributes:
        job: The run.
        world: Rank, device and number of processes.
        control: Control messages between the processes.
        folder: The run folder.
        order: Rows of each optimizer step.
        table: Training rows.
        validation: Held-out rows; None without validation.
        lengths: Tokens of each row, to batch rows of similar lengths; None to keep their order.
        collate: Collate function of the rows.
        row_tokenizer: Encodes prompts as in training.
        micro_batch_size: Rows per device at once.
        checkpoints: Checkpoints of the run.
        stop_signal: Records whether the run was asked to stop.
        load_initial_model: Loads another copy of the initial model, without an adapter.
        input_digests: Digests of data, template and base, stored in every checkpoint.
        callbacks: Observers of every step.
        evaluate: Returns the metrics of the held-out rows after a step; None without validation.
        shapes: Shapes that all batches have; None if they follow the rows.
        stop_step: Step after which the run is evaluated and stopped like by a signal; None for its
            last one.
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
    input_digests: Mapping[str, str | None] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    evaluate: Callable[[Any, int], dict[str, float]] | None = None
    shapes: StaticShapes | None = None
    stop_step: int | None = None
