"""What every peer writes: a line per optimizer step, with its real tokens and when it ended."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Steps:
    """Appends to `path`.

    Args:
        path: A file of JSON Lines.
    """

    def __init__(self, path: Path):
        self._file = path.open("w", buffering=1)
        self._started = time.monotonic()
        self.tokens = 0

    def end(self, loss: float) -> None:
        """Note that a step over `tokens` tokens, padding left out, ended now."""
        line = {"tokens": self.tokens, "seconds": time.monotonic() - self._started, "loss": loss}
        self._file.write(json.dumps(line) + "\n")
        self.tokens = 0
