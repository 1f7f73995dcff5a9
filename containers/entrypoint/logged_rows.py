"""Reader of the rows that training adds to `metrics.jsonl`, each returned once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class LoggedRows:
    """Rows of a run folder and of its stages that were logged since this object was created.

    A resume replaces the file by one that ends at the checkpoint. Lines that were read before are
    recognized by their content, which includes the time.

    Args:
        folder: Run folder, which need not exist yet.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._seen = {hash(line) for line in self._lines()}

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the complete rows that were not returned before."""
        for line in self._lines():
            key = hash(line)
            if key in self._seen:
                continue
            self._seen.add(key)
            try:
                yield json.loads(line)
            except ValueError:
                continue  # a line that a full disk has cut off

    def _lines(self) -> Iterator[bytes]:
        files = [*self._folder.glob("metrics.jsonl"), *self._folder.glob("stages/*/metrics.jsonl")]
        for path in sorted(files):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            yield from text[: text.rfind(b"\n") + 1].splitlines()
