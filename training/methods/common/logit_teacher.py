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
        all_positions: Whether distributions are returned at every position, so that their shapes
            do not depend on the labels.

    Attributes:
        temperature: Divisor of the logits that calibrates the teacher; 1 before `calibrate`.
    """

    def __init__(self, model: Any, loss: DistillationLoss, *, all_positions: bool = False):
        self.model = model
        self.loss = loss
        self.all_positions = all_positions
        self.temperature = 1.0

    def logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the logits at the supervised positions, [supervised tokens, vocabulary]."""
        mask, logits = inputs["labels"][:, 1:] != IGNORE, self._all_logits(inputs)
        # With static shapes on the host, where a selection compiles nothing.
        logits = logits.cpu() if self.all_positions else logits
        return logits[mask.to(logits.device)]

    def _all_logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the logits of each next token, [batch, sequence - 1, vocabulary]."""
        device = next(self.model.parameters()).device
        named = {k: inputs[k].to(device) for k in ("input_ids", "position_ids")}
        with torch.no_grad():
            logits: torch.Tensor = self.model(**named, use_cache=False).logits
            return logits[:, :-1]

    def __call__(self, inputs: dict[str, Any]) -> TopKTargets:
        """Return the distributions at the supervised positions, or at all of them."""
        logits = (
            self._all_logits(inputs).flatten(0, 1) if self.all_positions else self.logits(inputs)
        )
        return TopKTargets(self.loss.log_softmax(logits / self.temperature))

    def supervised(self, inputs: dict[str, Any]) -> TopKTargets:
        """Return the distributions at the supervised positions."""
        return TopKTargets(self.loss.log_softmax(self.logits(inputs) / self.temperature))

    def calibrate(self, rows: Iterable[dict[str, Any]], setup: TrainerContext) -> None:
        """Fit the temperature to rows of the training data, and print it.

        Args:
            rows: Tokenized rows; only as many as needed are read.
            setup: Context of the training run.
        """
        size = max(1, _TOKENS_PER_BATCH // setup.job.data.max_length)
        # With static shapes as many rows as in training, also in the last batch.
        size = setup.micro_batch_size if self.all_positions else size
        iterator, padding = iter(rows), setup.collate.padding_example()
        chunks = iter(lambda: list(itertools.islice(iterator, size)), [])
        batches = (
            setup.collate(chunk + [padding] * (size - len(chunk)) if self.all_positions else chunk)
            for chunk in chunks
        )
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
