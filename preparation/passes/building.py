"""Folder in which a preparation is built, and the files of each unit in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from preparation.ledger import Ledger, merge
from preparation.step_runner import RowRecords

REPORT_FILE = "report.json"
RESULT = "result"
"""Subfolder that becomes the finished folder."""
FINDINGS, REJECTED, ACCOUNT = "findings", "rejected", "account"


def write_unit(folder: Any, name: str, rank: int, ledger: Ledger, records: RowRecords) -> None:
    """Write the account and the records of a unit in one pass.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        name: Name of the pass.
        rank: Number of the unit.
        ledger: Account of the unit.
        records: Findings and rejected rows.
    """
    ledger.check_balance()
    write_lines(folder, f"{name}/{FINDINGS}/{rank:05d}.jsonl", records.findings)
    write_lines(folder, f"{name}/{REJECTED}/{rank:05d}.jsonl", records.rejected)
    write_json(folder, f"{name}/{ACCOUNT}/{rank:05d}.json", ledger.to_json())


def read_account(folder: Any, name: str, units: int) -> dict[str, Any]:
    """Return the accounts of all units of a pass as one.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        name: Name of the pass.
        units: Number of units.
    """
    total: dict[str, Any] | None = None
    for rank in range(units):
        total = merge(total, read_json(folder, f"{name}/{ACCOUNT}/{rank:05d}.json"))
    return total or Ledger().to_json()


def write_json(folder: Any, path: str, value: Any) -> None:
    """Write a value as JSON.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        path: Path in it.
        value: The value.
    """
    with folder.open(path, "wb") as stream:
        stream.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


def read_json(folder: Any, path: str) -> Any:
    """Return the value of a JSON file."""
    return orjson.loads(read_bytes(folder, path))


def read_bytes(folder: Any, path: str) -> bytes:
    """Return the content of a file."""
    with folder.open(path, "rb") as stream:
        content: bytes = stream.read()
    return content


def close_unfinished(*files: Any) -> None:
    """Close files whose writing failed.

    Closing them writes what is buffered, which fails again if the disk is full; the user sees the
    first error only.
    """
    for file in files:
        with contextlib.suppress(OSError):
            file.close()


def write_text(folder: Any, path: str, text: str) -> None:
    """Write text as UTF-8.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        path: Path in it.
        text: The text.
    """
    with folder.open(path, "wb") as stream:
        stream.write(text.encode())


def write_lines(folder: Any, path: str, items: Sequence[Mapping[str, Any]]) -> None:
    """Write objects as JSON Lines.

    Args:
        folder: datatrove's `DataFolder` of the preparation.
        path: Path in it.
        items: The objects.
    """
    with folder.open(path, "wb") as stream:
        for item in items:
            stream.write(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE))


def read_lines(folder: Any, path: str) -> Iterator[Any]:
    """Yield the objects of a JSON Lines file; none if there is no such file."""
    if not folder.exists(path):
        return
    with folder.open(path, "rb") as stream:
        # In one read: line by line, each would be a request to S3.
        content = stream.read()
    yield from map(orjson.loads, content.splitlines())
