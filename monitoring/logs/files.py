"""Files of a log: JSON Lines, gzipped or not, in a folder of any depth."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from monitoring.errors import LogError

_ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".gz")
_GZIP = b"\x1f\x8b"


def find_log_files(path: Path) -> list[Path]:
    """Return the files of a log by name, which is by time in every log that is read here.

    Raises:
        LogError: There is no such path, or no file of a log in it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LogError(
            f"{path}: there is no such log. Name a file, a folder, or s3://BUCKET/PREFIX"
        )
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.name.endswith(_ENDINGS)
        # Long bodies, which the records of Bedrock's logs name.
        and file.parent.name != "data"
    ]
    if not files:
        raise LogError(f"{path} has no log: no file ends in {', '.join(_ENDINGS)}")
    return files


def open_text(path: Path) -> IO[str]:
    """Open a file as text, decompressed if it is gzipped, whatever its name."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
    if packed:
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and JSON value of each line; the error in place of the value if it is none.

    A file that ends too early, as a gzip that is being written, yields what can be read and then
    an error with the number of the line that is missing.
    """
    number = 0
    try:
        with open_text(path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, _parsed(line)
    except EOFError:
        yield number + 1, LogError("the gzip file is truncated: what comes after is lost")
    except (OSError, gzip.BadGzipFile) as error:
        yield number + 1, LogError(f"the file cannot be read: {error}")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        return LogError(f"not JSON: {error}")
