"""How the rows of each kind become a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.config.data import Data
from training.config.method_base import RowKind
from training.data.collators.pairs import PairCollator
from training.data.collators.prompts import PromptCollator
from training.data.collators.sequences import SequenceCollator
from training.data.collators.unpaired import UnpairedCollator


def _sequences(pad_id: int, data: Data) -> SequenceCollator:
    return SequenceCollator(pad_id, packed=data.packing, max_length=data.max_length)


_COLLATORS: dict[RowKind, Callable[[int, Data], Any]] = {
    "text": _sequences,
    "dialogue": _sequences,
    "preference": lambda pad_id, _: PairCollator(pad_id),
    "unpaired": lambda pad_id, _: UnpairedCollator(pad_id),
    "prompt": lambda _, __: PromptCollator(),
}


def collator_for(kind: RowKind, pad_id: int, data: Data) -> Any:
    """Return what makes batches of rows of this kind.

    Args:
        kind: What the job's method learns from.
        pad_id: Id written behind a sequence.
        data: The job's section: its packing and row length.
    """
    return _COLLATORS[kind](pad_id, data)
