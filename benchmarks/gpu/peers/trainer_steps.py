"""Steps of a peer that trains by a trainer of Transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from benchmarks.gpu.peers.steps import StepFile


class StepFileCallback(TrainerCallback):
    """Callback that writes each step that the trainer logs."""

    def __init__(self, steps: StepFile):
        self._steps = steps

    def on_train_begin(self, *_: Any, train_dataloader: Any = None, **__: Any) -> None:
        """Write the lengths of the rows."""
        self._steps.lengths(len(row["input_ids"]) for row in train_dataloader.dataset)

    def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
        """Write a step; the log line at the end of training has no loss."""
        if logs and "loss" in logs:
            self._steps.end(float(logs["loss"]))
