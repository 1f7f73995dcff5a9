"""Teacher whose next-token distributions are computed in every step."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch

from training.console import say
from training.data.storage.table import RowTable
from training.methods.common.divergence import DistillationLoss, TopKTargets
from training.methods.common.temperature_scaling import fit_temperature, supervised_logits
from training.models.fused_log_probs import IGNORE
from training.trainer.context import TrainerContext

_TOKENS_PER_BATCH = 2048


class LogitTeacher:
    """Frozen language model that returns its distributions at supervised positions.

    Args:
        model: Frozen causal language model, in eval mode.
        loss: Has the temperature of the comparison.

    Attributes:
        temperature: Divisor of the logits that calibrates the teacher; 1 before `calibrate`.
    """

    def __init__(self, model: Any, loss: DistillationLoss):
        self.model = model
        self.loss = loss
        self.temperature = 1.0

    def logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the logits at the supervised positions, [supervised tokens, vocabulary]."""
        device = next(self.model.parameters()).device
        mask = inputs["labels"][:, 1:] != IGNORE
        named = {k: inputs[k].to(device) for k in ("input_ids", "position_ids")}
        with torch.no_grad():
            logits: torch.Tensor = self.model(**named, use_cache=False).logits
            return logits[:, :-1][mask.to(device)]

    def __call__(self, inputs: dict[str, Any]) -> TopKTargets:
        """Return the distributions at the supervised positions."""
        return TopKTargets(self.loss.log_softmax(self.logits(inputs) / self.temperature))

    def calibrate(self, rows: Iterable[dict[str, Any]], setup: TrainerContext) -> None:
        """Fit the temperature to rows of the training data, and print it.

        Args:
            rows: Tokenized rows; only as many as needed are read.
            setup: Context of the training run.
        """
        size = max(1, _TOKENS_PER_BATCH // setup.job.data.max_length)
        iterator = iter(rows)
        chunks = iter(lambda: list(itertools.islice(iterator, size)), [])
        batches = (setup.collate(chunk) for chunk in chunks)
        fitted = fit_temperature(supervised_logits(self.logits, batches, IGNORE))
        self.temperature = fitted.temperature
        say(
            f"teacher: its own loss on the rows is {fitted.loss:.3f} with its logits divided by "
            f"{fitted.temperature:.3f}; a student with a lower loss learns more with a smaller "
            f"method.soft_weight"
        )


def first_rows(table: Any) -> Iterable[dict[str, Any]]:
    """Return the first rows of a table; of a stream, those that are buffered already."""
    if isinstance(table, RowTable):
        return (table[index] for index in range(len(table)))
    window: list[dict[str, Any]] = table.window()
    return window
