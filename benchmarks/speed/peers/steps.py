"""What every peer writes: a line per optimizer step, with its real tokens and when it ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class Steps:
    """Appends to `path`.

    Args:
        path: A file of JSON Lines.
    """

    def __init__(self, path: Path):
        self._file = path.open("w", buffering=1)
        self._started = time.monotonic()
        self.tokens = 0
        self.sampling_seconds = 0.0

    def end(self, loss: float) -> None:
        """Note that a step over `tokens` tokens, padding left out, ended now."""
        line = {
            "tokens": self.tokens,
            "seconds": time.monotonic() - self._started,
            "loss": loss,
            "sampling_seconds": self.sampling_seconds,
        }
        self._file.write(json.dumps(line) + "\n")
        self.tokens, self.sampling_seconds = 0, 0.0


class Noting(TrainerCallback):
    """Notes each step that a Transformers trainer logs."""

    def __init__(self, steps: Steps):
        self.steps = steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Note a step; the line at the end of training has no loss."""
        if logs and "loss" in logs:
            self.steps.end(logs["loss"])
