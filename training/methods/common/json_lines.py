"""JSON Lines file that a killed process may have left with an incomplete last line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.run_folder import write_whole


class JsonLinesFile:
    """Append-only file of JSON objects, one per line, that can be cut back for a resume.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Return the rows up to the first incomplete line."""
        if not self.path.exists():
            return []
        rows = []
        # Iterate over the file instead of `splitlines`, which also splits at U+2028 in an answer.
        with self.path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if not line.endswith("\n"):
                    break
                rows.append(row)
        return rows

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_format(rows))

    def rewrite(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace all rows atomically, so that a kill leaves the old file or the new one."""
        write_whole(self.path, _format(rows))


def _format(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
