"""Step log of a script: a line per optimizer step with its tokens and its end time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class StepLog:
    """Writer of the step log.

    Args:
        path: The file of JSON Lines to write.
    """

    def __init__(self, path: Path):
        self._file = path.open("w", buffering=1)
        self._started = time.monotonic()
        self.tokens = 0
        self.sampling_seconds = 0.0

    def end(self, loss: float) -> None:
        """Write that a step ended now, with the tokens added to `tokens` since the last one."""
        line = {
            "tokens": self.tokens,
            "seconds": time.monotonic() - self._started,
            "loss": loss,
            "sampling_seconds": self.sampling_seconds,
        }
        self._file.write(json.dumps(line) + "\n")
        self.tokens, self.sampling_seconds = 0, 0.0


class StepLogCallback(TrainerCallback):
    """Callback that writes each step that a Transformers trainer logs."""

    def __init__(self, steps: StepLog):
        self.steps = steps

    def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
        """Write a step; the log line at the end of training has no loss."""
        if logs and "loss" in logs:
            self.steps.end(logs["loss"])
