"""Archive `model.tar.gz` of a folder, read back and compared byte by byte."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from pathlib import Path
from typing import IO

from training.errors import GuardError
from training.export.atomic_output import atomic_output


def pack(folder: Path, target: Path) -> str:
    """Pack a folder, read the archive back, and compare every byte.

    Raises:
        GuardError: The archive differs.
    """
    with atomic_output(target) as output:
        sums = {}
        with (
            output.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as packed,
        ):
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                name = str(path.relative_to(folder))
                sums[name] = sha256_of_file(path)
                packed.add(path, name)
        with tarfile.open(output, "r:gz") as packed:
            read_back = {}
            for member in packed:
                content = packed.extractfile(member)
                assert content is not None, member.name
                read_back[member.name] = _sha256_of(content)
        if read_back != sums:
            raise GuardError("the archive does not read back as what was packed into it")
    return f"{len(sums)} files, every byte as it was"


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return _sha256_of(file)


def _sha256_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
