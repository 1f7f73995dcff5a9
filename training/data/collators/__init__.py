"""Collators: one per kind of row, each of which turns token rows into a batch of tensors.

A collator also provides the two extreme rows of its kind: one without tokens, to complete a batch,
and one of the maximum length, to measure memory with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.config.data import Data
from training.config.method_base import RowKind
from training.config.static_shapes import StaticShapes
from training.data.collators.pairs import PairCollator
from training.data.collators.prompts import PromptCollator
from training.data.collators.sequences import SequenceCollator
from training.data.collators.unpaired import UnpairedCollator


def _sequences(pad_id: int, data: Data, shapes: StaticShapes | None) -> SequenceCollator:
    return SequenceCollator(pad_id, packed=data.packing, max_length=data.max_length, shapes=shapes)


_COLLATORS: dict[RowKind, Callable[[int, Data, StaticShapes | None], Any]] = {
    "text": _sequences,
    "dialogue": _sequences,
    "preference": lambda pad_id, _, shapes: PairCollator(pad_id, shapes),
    "unpaired": lambda pad_id, _, shapes: UnpairedCollator(pad_id, shapes),
    "prompt": lambda *_: PromptCollator(),
}


def collator_for(kind: RowKind, pad_id: int, data: Data, shapes: StaticShapes | None = None) -> Any:
    """Return the collator of a kind of row.

    Args:
        kind: Kind of row that the job's method trains on.
        pad_id: Id of padding tokens.
        data: Data section of the job, for packing and row length.
        shapes: Lengths that batches are padded to; None to pad to the longest row of each.
    """
    return _COLLATORS[kind](pad_id, data, shapes)
