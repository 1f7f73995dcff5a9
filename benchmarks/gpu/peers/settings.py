"""Settings that a peer's script gets; this module runs in the peer's interpreter too."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.peers.steps import StepFile


@dataclass(frozen=True)
class PeerSettings:
    """Training that a peer does: the same as that of Temper's row.

    Attributes:
        model: Folder of a Llama model with random weights.
        rows: JSON Lines of `text`; each text has more than `length` tokens.
        folder: Empty folder for the peer's files.
        batch: Rows of an optimizer step.
        length: Tokens of a row.
        steps: Optimizer steps.
        lora: Train a LoRA adapter of all linear layers instead of all weights.
        on_gpu: Train on a GPU.
        r: Rank of the adapter.
        alpha: Its scale, times the rank.
        learning_rate: The learning rate.
    """

    model: str
    rows: str
    folder: str
    batch: int
    length: int
    steps: int
    lora: bool
    on_gpu: bool
    r: int = 16
    alpha: int = 32
    learning_rate: float = 1e-4


def read_arguments() -> tuple[PeerSettings, StepFile]:
    """Return the settings and the file of steps that a script's two arguments name."""
    settings = PeerSettings(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    return settings, StepFile(Path(sys.argv[2]))
