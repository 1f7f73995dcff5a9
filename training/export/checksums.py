"""SHA-256 of every file of a model, in `SHA256SUMS`, which `sha256sum --check` reads.

The file is written when the saved weights have been read back, so that a later change of a model
is found before it is registered or deployed.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training.export.model_archive import sha256_of_file
from training.run_folder import write_whole

CHECKSUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_THREADS = 4  # hashlib releases the interpreter's lock


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by its relative path, in sorted order.

    The file of checksums itself is not among them.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / CHECKSUMS
    )
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(
            zip(names, pool.map(lambda name: sha256_of_file(folder / name), names), strict=True)
        )


def write_checksums(folder: Path) -> None:
    """Write the checksums of a folder into it."""
    _write(folder, checksums_of(folder))


def record_change(folder: Path, name: str) -> None:
    """Record the new checksum of one file, which was changed on purpose, if a folder has checksums.

    Raises:
        ValueError: The file of checksums is damaged.
    """
    recorded = read_checksums(folder)
    if recorded is not None:
        recorded[name] = sha256_of_file(folder / name)
        _write(folder, dict(sorted(recorded.items())))


def _write(folder: Path, checksums: dict[str, str]) -> None:
    lines = [f"{digest}  {name}\n" for name, digest in checksums.items()]
    write_whole(folder / CHECKSUMS, "".join(lines))


def read_checksums(folder: Path) -> dict[str, str] | None:
    """Return the checksums that a folder records; None if it has no such file.

    Raises:
        ValueError: A line of the file is not a checksum.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        return None
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}, line {number} is not a checksum: {line[:80]!r}")
        found[match[2]] = match[1]
    return found


def differences_from(recorded: dict[str, str], actual: dict[str, str]) -> list[str]:
    """Return what differs between recorded and actual checksums, one phrase per file."""
    found = []
    for name in sorted(recorded.keys() | actual.keys()):
        if name not in actual:
            found.append(f"{name} is missing")
        elif name not in recorded:
            found.append(f"{name} was added")
        elif recorded[name] != actual[name]:
            found.append(f"{name} has the SHA-256 {actual[name]}, recorded is {recorded[name]}")
    return found
