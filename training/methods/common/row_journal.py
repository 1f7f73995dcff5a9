"""Journal of the outcome of every prompt, from which a stopped run resumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.config.stage_references import ROWS
from training.errors import RunError
from training.methods.common.json_lines import JsonLinesFile


class RowJournal:
    """Journal with one line for each prompt, in the order of the prompts.

    A line has the prompt's `id` and its generated `row`, or None and the reason, `why`.

    Args:
        folder: Run folder.
        name: File name of the journal in it.

    Attributes:
        lines: Lines so far, those of the runs that this one resumes included.
    """

    def __init__(self, folder: Path, name: str):
        self._file = JsonLinesFile(folder / name)
        self._rows = JsonLinesFile(folder / ROWS)
        self.lines = self._file.read()
        if self._file.path.exists():
            # Remove an incomplete last line, so that the next append begins a line.
            self._file.rewrite(self.lines)

    def check_prompts(self, ids: Sequence[str]) -> None:
        """Check that the journal belongs to these prompts.

        Raises:
            RunError: The data has changed since the run began.
        """
        recorded = [line["id"] for line in self.lines]
        if recorded != list(ids[: len(recorded)]):
            raise RunError(
                f"{self._file.path} was written for other prompts: the data has changed since "
                f"this run began. --fresh starts over"
            )

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Append the outcomes of the next prompts."""
        self._file.append(lines)
        self.lines += lines

    @property
    def row_count(self) -> int:
        """Number of prompts that gave a row."""
        return sum(line["row"] is not None for line in self.lines)

    def dropped(self) -> dict[str, int]:
        """Return how many prompts gave no row, by reason, the most frequent first."""
        reasons = Counter(line["why"] for line in self.lines if line["row"] is None)
        return dict(reasons.most_common())

    def write_rows(self) -> Path:
        """Write the generated rows for the following stages, and return the path."""
        self._rows.rewrite([line["row"] for line in self.lines if line["row"] is not None])
        return self._rows.path
