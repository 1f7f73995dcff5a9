"""Bounded reading of ZIP archives, which DOCX and EPUB files are."""

from __future__ import annotations

import io
import zipfile
import zlib

from preparation.extract.document import ExtractionError, ExtractionLimits

_SMALL_BYTES = 1024**2
"""Members up to this size are not suspected of being a decompression bomb."""


class BoundedArchive:
    """ZIP archive whose sizes are checked before anything is decompressed.

    Args:
        data: The archive.
        limits: Limits of its sizes.

    Raises:
        ExtractionError: It is damaged, encrypted, or exceeds a limit.
    """

    def __init__(self, data: bytes, limits: ExtractionLimits):
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
            raise ExtractionError(
                "damaged",
                "The file is cut short or damaged: its ZIP directory is missing. Copy it again",
            ) from None
        _check_sizes(self._archive.infolist(), limits)
        self._names = set(self._archive.namelist())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        """Return the content of a member; no more than its stated size is decompressed.

        Raises:
            ExtractionError: It is absent, or damaged.
        """
        try:
            # Without a size, zipfile decompresses all data before it compares the stated size.
            with self._archive.open(name) as stream:
                return stream.read(self._archive.getinfo(name).file_size + 1)
        except KeyError:
            raise ExtractionError(
                "damaged", f"The file lacks its part {name!r}. Save it again"
            ) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError):
            raise ExtractionError(
                "damaged", f"The part {name!r} of the file is damaged. Copy the file again"
            ) from None

    def check(self) -> None:
        """Read every member once, before another library reads the archive without limits.

        Raises:
            ExtractionError: A member is damaged, or larger than it states.
        """
        for name in self._archive.namelist():
            self.read(name)


def _check_sizes(members: list[zipfile.ZipInfo], limits: ExtractionLimits) -> None:
    if len(members) > limits.archive_members:
        raise ExtractionError(
            "too_large",
            f"The file has {len(members):,} parts, over the limit of {limits.archive_members:,}",
        )
    total = sum(member.file_size for member in members)
    if total > limits.archive_bytes:
        raise ExtractionError(
            "too_large",
            f"The file holds {total:,} bytes after decompression, over the limit of "
            f"{limits.archive_bytes:,}",
        )
    for member in members:
        if member.flag_bits & 1:
            raise ExtractionError(
                "encrypted", "The archive has a password. Save the document without one"
            )
        ratio = member.file_size / max(1, member.compress_size)
        if member.file_size > _SMALL_BYTES and ratio > limits.compression_ratio:
            raise ExtractionError(
                "too_large",
                f"The part {member.filename!r} grows {ratio:,.0f} times when decompressed, over "
                f"the limit of {limits.compression_ratio}: a decompression bomb",
            )
