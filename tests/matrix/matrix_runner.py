"""Run cells in two processes; if one dies in a cell, two new ones run the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.matrix.cells import Cell
from tests.run_commands import read_jsonl
from tests.two_node import run_pair

Results = dict[str, dict[str, str]]
"""By a cell's name: its outcome (passed, refused or failed) and what was said."""


def walk(cells: Sequence[Cell], model: Path, rows: Path, home: Path) -> Results:
    """Return how each cell ends.

    Args:
        cells: To be walked, in order.
        model: The base.
        rows: What is trained on.
        home: An empty folder.
    """
    results: Results = {}
    left = list(cells)
    while left:
        place = home / f"pair-{len(left)}"
        place.mkdir()
        (place / "cells.json").write_text(json.dumps([cell.name for cell in left]))
        _, said = run_pair(["tests.matrix.run_cell", str(model), str(rows), str(place)], place)
        found = place / "found.jsonl"
        for line in read_jsonl(found) if found.exists() else []:
            results[line["cell"]] = line
        left = [cell for cell in left if cell.name not in results]
        if left:
            results[left.pop(0).name] = {"outcome": "failed", "said": said}
    return results
