"""Tables as `pandas.DataFrame.to_json` writes them, other than as records.

The orientations are documented at
https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.to_json.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.errors import DataError


def check_orientation(document: Any, path: Path) -> None:
    """Check that a JSON document is not one table oriented by columns or by its index.

    Args:
        document: Content of a JSON file, or of its first line.
        path: Path of the file.

    Raises:
        DataError: The document is such a table.
    """
    orient = _orientation(document) if isinstance(document, dict) else None
    if orient:
        raise DataError(
            f"{path}: it is one table, as pandas' to_json writes it with orient={orient!r}"
            f"{', its default' if orient == 'columns' else ''}, and not one object a row. Write it "
            'by to_json(path, orient="records", lines=True), as a .jsonl file'
        )


def _orientation(document: dict[str, Any]) -> str | None:
    if document.keys() == {"columns", "index", "data"}:
        return "split" if all(isinstance(part, list) for part in document.values()) else None
    parts = list(document.values())
    if not parts or not all(isinstance(part, dict) and part for part in parts):
        return None
    if all(name.isdecimal() for name in document):
        return "index"
    index = parts[0].keys()
    same = all(part.keys() == index for part in parts)
    return "columns" if same and all(name.isdecimal() for name in index) else None
