"""Guards that must stop a run: each case breaks training in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.gpu.case import Case, CaseFailedError, Measured
from benchmarks.gpu.runs import release_memory, train
from benchmarks.gpu.scale import Scale

Fault = Callable[[], AbstractContextManager[Any]]


def cases(scale: Scale) -> Iterator[Case]:
    """Yield a sound run, which no guard may stop, and the faults."""
    yield Case("no fault", partial(_stopped, scale, nullcontext, None), is_slow=True)
    yield Case("NaN in the weights", partial(_stopped, scale, _nan_weight, "loss of step 1 is nan"))
    yield Case(
        "no supervised token", partial(_stopped, scale, _no_labels, "had no supervised token")
    )
    yield Case(
        "a layer that is not trained",
        partial(_stopped, scale, _zero_gradient, "1 of .* trainable tensors have not changed"),
    )


def _stopped(scale: Scale, fault: Fault, says: str | None, folder: Path) -> Measured:
    import re

    from training.errors import GuardError

    document = scale.job(precision="bf16", guards={"update_check_after": "4 steps"})
    message = None
    with fault():
        try:
            train(document, folder / "run")
        except GuardError as error:
            message = str(error)
    release_memory()
    measured = {"guard": message, "expected": says}
    if (message is None) != (says is None) or (says and not re.search(says, str(message))):
        raise CaseFailedError(f"expected the guard {says!r}, and it said {message!r}", measured)
    return measured


@contextmanager
def _changed_trainer(change: Callable[[Any], None]) -> Iterator[None]:
    """Change the trainer of a run as soon as it is made."""
    from training.methods.common.causal_lm import CausalLmTrainer

    made = CausalLmTrainer.__init__

    def make(self: Any, **arguments: Any) -> None:
        made(self, **arguments)
        change(self)

    with patch.object(CausalLmTrainer, "__init__", make):
        yield


def _nan_weight() -> AbstractContextManager[None]:
    import torch

    def change(trainer: Any) -> None:
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(float("nan"))

    return _changed_trainer(change)


def _zero_gradient() -> AbstractContextManager[None]:
    import torch

    def change(trainer: Any) -> None:
        trainer.model.model.layers[1].mlp.up_proj.weight.register_hook(torch.zeros_like)

    return _changed_trainer(change)


def _no_labels() -> AbstractContextManager[Any]:
    from training.data.collators.sequences import SequenceCollator

    collate = SequenceCollator.__call__

    def without_labels(self: Any, rows: Any) -> Any:
        batch = collate(self, rows)
        batch["labels"].fill_(-100)
        return batch

    return patch.object(SequenceCollator, "__call__", without_labels)
