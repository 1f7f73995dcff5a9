"""Detection of exact duplicates among training rows, and of held-out rows in the training data."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from training.data.tokenization.token_rows import TokenRow


class DuplicateCounter:
    """Counter of duplicate rows by a hash of their tokens, in nine bytes per row.

    Args:
        sizes: Number of rows of each training source.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._trained = array("q")
        self._held = array("q")
        self._counted = [bytearray(size) for size in sizes]

    def add_trained(self, place: tuple[int, int], row: TokenRow) -> None:
        """Count a training row.

        Args:
            place: Source and index of the row; a row that its weight repeats counts once.
            row: Tokens of the row.
        """
        source, number = place
        if not self._counted[source][number]:
            self._counted[source][number] = 1
            self._trained.append(_digest(row))

    def add_held(self, rows: Iterable[TokenRow]) -> None:
        """Count held-out rows."""
        self._held.extend(_digest(row) for row in rows)

    @property
    def repeated_rows(self) -> int:
        """Number of training rows that repeat another one."""
        return len(self._trained) - len(np.unique(np.array(self._trained, dtype=np.int64)))

    @property
    def leaked_rows(self) -> int:
        """Number of held-out rows that are training rows as well."""
        trained = np.array(self._trained, dtype=np.int64)
        return int(np.isin(np.array(self._held, dtype=np.int64), trained).sum())


def _digest(row: TokenRow) -> int:
    return hash((row.input_ids.tobytes(), row.labels.tobytes()))
