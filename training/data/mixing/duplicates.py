"""Rows that come up again word for word: among those trained on, and among those held out."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from training.data.tokenization.row_tokenizer import TokenRow


class Repeats:
    """Counts rows by a digest of their tokens; nine bytes each are kept.

    Args:
        sizes: Rows of each source that is trained on.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._trained = array("q")
        self._held = array("q")
        self._counted = [bytearray(size) for size in sizes]

    def add_trained(self, place: tuple[int, int], row: TokenRow) -> None:
        """Count a row trained on.

        Args:
            place: Its source and its number there; what a weight brings up again counts once.
            row: Its tokens.
        """
        source, number = place
        if not self._counted[source][number]:
            self._counted[source][number] = 1
            self._trained.append(_digest(row))

    def add_held(self, rows: Iterable[TokenRow]) -> None:
        """Count rows held out."""
        self._held.extend(_digest(row) for row in rows)

    @property
    def trained_again(self) -> int:
        """Rows trained on that repeat another one."""
        return len(self._trained) - len(np.unique(np.array(self._trained, dtype=np.int64)))

    @property
    def held_and_trained(self) -> int:
        """Rows held out that are trained on as well."""
        trained = np.array(self._trained, dtype=np.int64)
        return int(np.isin(np.array(self._held, dtype=np.int64), trained).sum())


def _digest(row: TokenRow) -> int:
    return hash((row.input_ids.tobytes(), row.labels.tobytes()))
