"""Sources of a job: location of files, folders, channels and data sets, and their records.

A source is a file, a folder of files, a data-set id on the Hub, `channel:NAME` of a training
container, or `builtin:python-stdlib`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from training.config.data import Source
from training.config.locations import existing_path
from training.data.readers import hub, python_stdlib
from training.data.readers.folder_splits import files_of_split
from training.data.readers.formats import kind_of, read_file
from training.data.readers.records import START, BadRecord, SourcePosition, SourceRecord
from training.errors import DataError

_CHANNELS = Path("/opt/ml/input/data")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_UNSUPPORTED_COMPRESSION = frozenset({".zst", ".bz2", ".xz", ".lz4", ".zip", ".7z"})
PREPARED_MARKS = ("recipe.yaml", "report.json")
"""Files of a prepared data set next to its shards, which are in a folder for each split."""
_NOTE_FILES = frozenset({"readme", "license", "licence", "changelog", "notice"})


@dataclass(frozen=True)
class ReadCursor:
    """Position in a source: index of the file, and position in that file."""

    file: int = 0
    position: SourcePosition = START


@dataclass(frozen=True)
class ResolvedSource:
    """Located source: its files, or the Hub or builtin source that its records come from.

    Attributes:
        source: Source as the job names it.
        label: Prefix of the ids of its rows.
        files: Files in order, with the label of each; empty for Hub and builtin sources.
        left_out: Files of the folder that belong to other splits.
    """

    source: Source
    label: str
    files: tuple[tuple[Path, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, compare=False)
    left_out: tuple[str, ...] = ()

    def records(
        self, start: ReadCursor = ReadCursor()
    ) -> Iterator[tuple[ReadCursor, SourceRecord | BadRecord]]:
        """Yield the records with their positions, starting at a position.

        Raises:
            DataError: A file cannot be read.
        """
        if not self.files:
            for number, record in enumerate(self._remote_records()):
                if number >= start.position.number:
                    yield ReadCursor(0, SourcePosition(0, number)), record
            return
        for index, (path, label) in enumerate(self.files):
            if index < start.file:
                continue
            begin = start.position if index == start.file else START
            for record in read_file(path, label, begin):
                yield ReadCursor(index, record.position), record

    def _remote_records(self) -> Iterator[SourceRecord | BadRecord]:
        if self.source.source == python_stdlib.NAME:
            return python_stdlib.records(self.source.subset)
        return hub.records(self.source)

    def digest(self) -> str:
        """Return a digest of the content, which is independent of the files' folder."""
        if self.source.source == python_stdlib.NAME:
            return python_stdlib.digest(self.source.subset)
        if not self.files:
            return hub.digest(self.source)
        digest = hashlib.sha256()
        for path, label in self.files:
            digest.update(label.encode() + b"\0")
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes on disk; 0 if unknown."""
        return sum(path.stat().st_size for path, _ in self.files)


def distinct(located: Sequence[ResolvedSource]) -> list[ResolvedSource]:
    """Return the sources with unique file labels, lengthened by parent folders if necessary."""
    paths: dict[str, set[Path]] = {}
    for resolved in located:
        for path, label in resolved.files:
            paths.setdefault(label, set()).add(path.resolve())
    shared = {label for label, places in paths.items() if len(places) > 1}
    return [
        replace(
            resolved,
            files=tuple(
                (path, _unique_suffix(path, sorted(paths[label])) if label in shared else label)
                for path, label in resolved.files
            ),
        )
        for resolved in located
    ]


def _unique_suffix(path: Path, among: Sequence[Path]) -> str:
    """Return the shortest suffix of a path that no other path has."""
    parts = path.resolve().parts
    for count in range(2, len(parts) + 1):
        if sum(other.parts[-count:] == parts[-count:] for other in among) == 1:
            return "/".join(parts[-count:])
    return str(path)


def locate(source: Source, environment: Mapping[str, str] = os.environ) -> ResolvedSource:
    """Locate a source.

    Args:
        source: Source as the job names it.
        environment: Environment with the `SM_CHANNEL_NAME` variables.

    Raises:
        DataError: The source does not exist, or it holds no data.
    """
    name = source.source
    if name.startswith("builtin:"):
        if name != python_stdlib.NAME:
            raise DataError(f"{name}: the only builtin source is {python_stdlib.NAME}")
        return ResolvedSource(source, "python-stdlib")
    if name.startswith("channel:"):
        return _local(source, _channel(name.removeprefix("channel:"), environment))
    if re.match(r"^[a-z0-9]+://", name):
        raise DataError(
            f"{name}: an address is fetched before training starts, and read here as a channel. "
            "Give a file, a folder, or channel:NAME"
        )
    if (path := existing_path(name)) is not None:
        return _local(source, path)
    if _looks_like_path(name):
        raise DataError(
            f"{name}: there is no such file or folder{_nearby(Path(name).expanduser())}"
        )
    return ResolvedSource(source, name)


def _looks_like_path(name: str) -> bool:
    """Return whether a name that does not exist is a path rather than a Hub id."""
    path = Path(name)
    return (
        not _HUB_ID.match(name)
        or kind_of(path) is not None
        or path.suffix.lower() in {".gz", ".zst", ".zip", ".xlsx"}
        or path.parent.is_dir()
    )


def _nearby(path: Path) -> str:
    """Return a suggestion for a missing path, or the folder in which the search ended."""
    import difflib

    parent = path.parent
    if not parent.is_dir():
        missing = next((p for p in reversed(path.parents) if not p.is_dir()), parent)
        return f" (nor a folder {missing}). Paths are taken from {Path.cwd()}"
    close = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1)
    return f". Did you mean {parent / close[0]}?" if close else f" in {parent.resolve()}"


def _channel(name: str, environment: Mapping[str, str]) -> Path:
    given = environment.get(f"SM_CHANNEL_{name.upper().replace('-', '_')}")
    path = Path(given) if given else _CHANNELS / name
    if path.exists():
        return path
    channels = sorted(
        key.removeprefix("SM_CHANNEL_").lower() for key in environment if "SM_CHANNEL_" in key
    )
    if _CHANNELS.is_dir():
        channels = sorted({*channels, *(p.name for p in _CHANNELS.iterdir() if p.is_dir())})
    raise DataError(
        f"channel:{name}: there is no channel of this name ({path}). "
        f"Channels here: {', '.join(channels) or 'none'}"
    )


def _local(source: Source, path: Path) -> ResolvedSource:
    if path.is_dir():
        files, left_out = files_of_split(_folder(path), path, source.split)
        labelled = tuple((file, file.relative_to(path).as_posix()) for file in files)
        others = tuple(file.relative_to(path).as_posix() for file in left_out)
        return ResolvedSource(source, path.resolve().name, labelled, left_out=others)
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    if kind_of(path) is None:
        read_file_kinds = "a .json, .jsonl, .csv, .tsv, .parquet, .txt or .md file"
        packed = " Decompress it, or compress it with gzip." if _is_packed(path) else ""
        raise DataError(f"{path}: not a supported file format.{packed} Give {read_file_kinds}")
    return ResolvedSource(source, path.name, ((path, path.name),))


def _is_packed(path: Path) -> bool:
    """Return whether a file is data in an unsupported compression format."""
    return path.suffix.lower() in _UNSUPPORTED_COMPRESSION and (
        kind_of(path.with_suffix("")) is not None or path.suffix.lower() == ".zip"
    )


def _check_not_saved_dataset(folder: Path) -> None:
    """Check that no part of a folder was written by `save_to_disk` of the library datasets.

    Its rows are in Arrow files; the JSON files next to them only describe the data set
    (https://huggingface.co/docs/datasets/process#save).

    Raises:
        DataError: A part of the folder was.
    """
    saved = [
        state.parent
        for state in sorted(folder.rglob("state.json"))
        if (state.parent / "dataset_info.json").is_file()
        and any(state.parent.glob("*.arrow"))
        and not any(part.startswith(".") for part in state.relative_to(folder).parts)
    ]
    if saved:
        split = min(saved, key=lambda path: path.name != "train")
        raise DataError(
            f"{split}: a data set that save_to_disk wrote, whose Arrow files are not read. Write "
            f'it as Parquet and name that file: python -c "import datasets; '
            f"datasets.load_from_disk('{split}').to_parquet('{split.name}.parquet')\""
        )


def prepared_digest(source: Source) -> str | None:
    """Return the digest of a source that `temper prepare` has made; None for any other."""
    path = existing_path(source.source)
    if path is None or not all((path / name).is_file() for name in PREPARED_MARKS):
        return None
    report = json.loads((path / PREPARED_MARKS[1]).read_bytes())
    return str(report["content_digest"]) if "content_digest" in report else None


def _folder(folder: Path) -> list[Path]:
    _check_not_saved_dataset(folder)
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and kind_of(path)
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        and path.name.split(".")[0].lower() not in _NOTE_FILES
        and path.stat().st_size
    ]
    if all((folder / name).is_file() for name in PREPARED_MARKS):
        paths = [path for path in paths if path.parent != folder]
    packed = sorted(path for path in folder.rglob("*.*") if path.is_file() and _is_packed(path))
    if paths and packed:
        more = f" and {len(packed) - 1} more" if len(packed) > 1 else ""
        raise DataError(
            f"{folder}: {packed[0].relative_to(folder)}{more} would be left out, because its "
            "compression is not supported. Decompress it, compress it with gzip, or move it away"
        )
    if not paths:
        there = sorted(path.name for path in folder.iterdir())[:5]
        holds = f"it holds {', '.join(there)}" if there else "it is empty"
        raise DataError(
            f"{folder}: no data in this folder ({holds}). "
            "Files that are read end in .json, .jsonl, .csv, .tsv, .parquet, .txt or .md, or .gz"
        )
    return paths
