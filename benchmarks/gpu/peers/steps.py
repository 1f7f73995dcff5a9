"""Steps of a peer, as JSON Lines; this module runs in the peer's interpreter."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import torch


class StepFile:
    """Writer of the lengths of the rows, and of a line per optimizer step.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self.path = path

    def lengths(self, lengths: Iterable[int]) -> None:
        """Write which lengths the tokenized rows have, before the first step."""
        self._write({"lengths": sorted(set(lengths))})

    def end(self, loss: float) -> None:
        """Write that a step has ended now. Its loss has been read, so the GPU has finished it."""
        line: dict[str, object] = {"end_s": time.monotonic(), "loss": loss}
        if torch.cuda.is_available():
            line["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self._write(line)

    def _write(self, line: dict[str, object]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
