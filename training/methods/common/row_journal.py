"""What came of each prompt, kept as it comes: a stopped run goes on behind the last one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.config.stage_references import ROWS
from training.errors import RunError
from training.run_folder import write_whole


class RowJournal:
    """One line for each prompt, in their order.

    Args:
        folder: The run folder.
        name: Of the file there.
    """

    def __init__(self, folder: Path, name: str):
        self._path = folder / name
        self._rows = folder / ROWS
        self.lines: list[dict[str, Any]] = []
        if self._path.exists():
            self.lines = _whole_lines(self._path.read_text(encoding="utf-8"))
            write_whole(self._path, "".join(_line(row) for row in self.lines))

    def check(self, ids: Sequence[str]) -> None:
        """Raise where what is kept is of other prompts.

        Raises:
            RunError: The data changed since the run began.
        """
        kept = [row["id"] for row in self.lines]
        if kept != list(ids[: len(kept)]):
            raise RunError(
                f"{self._path} holds what came of other prompts: the data has changed since this "
                f"run began. FRESH=1 starts over"
            )

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Keep what came of the next prompts."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(_line(row) for row in lines))
        self.lines += lines

    @property
    def kept(self) -> int:
        """Prompts that gave a row."""
        return sum(line["row"] is not None for line in self.lines)

    def dropped(self) -> dict[str, int]:
        """Return how many prompts gave no row, by the reason."""
        return dict(
            Counter(line["why"] for line in self.lines if line["row"] is None).most_common()
        )

    def write_rows(self) -> Path:
        """Write the rows that there are, for the stages behind, and return where."""
        rows = [line["row"] for line in self.lines if line["row"] is not None]
        write_whole(self._rows, "".join(_line(row) for row in rows))
        return self._rows


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _whole_lines(text: str) -> list[dict[str, Any]]:
    """Return the lines up to one that was cut off when the process was killed."""
    found = []
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        found.append(json.loads(line))
    return found
