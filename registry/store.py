"""Local registry: an SQLite index, a JSON file per version, and content-addressed files.

Each change is one transaction: the index is locked, the record's file is replaced, and the index
is committed. The index can be built again from the files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.blobs import add_blob, check_blob
from registry.errors import RegistryError
from registry.record import ModelRecord, StageChange, record_from_json
from registry.version import SemanticVersion, parse_version
from training.run_folder import write_whole

_INDEX = "registry.db"
_WAIT_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (
  name TEXT NOT NULL, version TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (name, version)
)
"""


class LocalRegistry:
    """Registry in a folder.

    Args:
        root: The folder, which the first registration makes.
    """

    def __init__(self, root: Path):
        self.root = root

    def records(self, name: str | None = None) -> list[ModelRecord]:
        """Return all versions, or those of a name, oldest version first."""
        if not (self.root / _INDEX).exists():
            return []
        with self._open() as index:
            return _records(index, name)

    def find(self, model: str) -> ModelRecord:
        """Return the version that a user means: NAME@VERSION, or NAME for its newest.

        Raises:
            RegistryError: There is none.
        """
        name, _, version = model.partition("@")
        records = self.records(name)
        if version:
            wanted = parse_version(version)
            records = [record for record in records if record.version == wanted]
        if not records:
            known = ", ".join(record.id for record in self.records()[-8:]) or "none yet"
            raise RegistryError(f"{model}: no such model in {self.root}. Registered: {known}")
        return records[-1]

    def add(
        self,
        name: str,
        files: Iterable[tuple[Path, str]],
        build: Callable[[list[ModelRecord]], ModelRecord],
    ) -> ModelRecord:
        """Add a version, whose number is chosen while no other process can add one.

        Args:
            name: Name of the model.
            files: Files of the version with their SHA-256.
            build: Returns the record, given the versions of the name, oldest first.

        Raises:
            RegistryError: A file cannot be stored, or the version exists.
        """
        for path, sha256 in files:
            add_blob(self.root, path, sha256)
        with self._change() as index:
            record = build(_records(index, name))
            path = self._path(record)
            if path.exists():
                raise RegistryError(
                    f"{record.id} exists in {path}. Omit --version for the next one. If "
                    f"`temper models` does not list it, run `temper models --rebuild`"
                )
            self._put(index, record)
        return record

    def set_stage(self, record: ModelRecord, transition: StageChange) -> list[ModelRecord]:
        """Change the stage of a version; production archives the version that had it.

        Returns:
            The changed records, the promoted one last.

        Raises:
            RegistryError: A file of the version was changed, or the registry cannot be written.
        """
        for files in record.forms.values():
            for file in files.values():
                check_blob(self.root, file.sha256)
        changed = []
        with self._change() as index:
            for other in _records(index, record.name):
                if other.version == record.version:
                    record = other.with_stage(transition)
                elif transition.stage == other.stage == "production":
                    archived = StageChange("archived", transition.approver, transition.time)
                    changed.append(other.with_stage(archived))
            # The old version first: a crash between the two leaves none in production, not two.
            changed.append(record)
            for one in changed:
                self._put(index, one)
        return changed

    def rebuild(self) -> int:
        """Build the index again from the records' files, and check every stored file.

        Returns:
            Number of versions.

        Raises:
            RegistryError: A record or a stored file is damaged; names each.
        """
        records, problems = [], []
        for path in sorted(self.root.glob("records/*/*.json")):
            try:
                record = record_from_json(path.read_text(encoding="utf-8"))
                records.append(record)
                if path != self._path(record):
                    problems.append(f"{path}: it is the record of {record.id}")
            except (OSError, ValueError, RegistryError) as error:
                problems.append(f"{path}: {error}")
        stored = [*(f for r in records for form in r.forms.values() for f in form.values())]
        stored += [file for record in records for file in record.evidence.values()]
        for sha256 in sorted({file.sha256 for file in stored}):
            try:
                check_blob(self.root, sha256)
            except RegistryError as error:
                problems.append(str(error))
        if problems:
            raise RegistryError("\n".join(["the registry is damaged:", *problems]))
        with self._change() as index:
            index.execute("DELETE FROM versions")
            for record in records:
                _insert(index, record)
        return len(records)

    def _path(self, record: ModelRecord) -> Path:
        return self.root / "records" / record.name / f"{record.version}.json"

    def _put(self, index: sqlite3.Connection, record: ModelRecord) -> None:
        path = self._path(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, record.to_json())
        _insert(index, record)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            index = sqlite3.connect(self.root / _INDEX, timeout=_WAIT_SECONDS, isolation_level=None)
            try:
                index.execute("PRAGMA journal_mode=WAL")
                index.execute(_SCHEMA)
                yield index
            finally:
                index.close()
        except (sqlite3.Error, OSError, ValueError) as error:
            raise RegistryError(
                f"the registry {self.root} cannot be used: {error}. Name another with --registry, "
                f"or build its index again: remove {_INDEX}*, then `temper models --rebuild`"
            ) from error

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Yield the index with its write lock, and commit unless an error is raised."""
        with self._open() as index:
            index.execute("BEGIN IMMEDIATE")
            try:
                yield index
            except BaseException:
                index.execute("ROLLBACK")
                raise
            index.execute("COMMIT")


def _records(index: sqlite3.Connection, name: str | None) -> list[ModelRecord]:
    rows = index.execute(
        "SELECT record FROM versions WHERE ?1 IS NULL OR name = ?1", (name,)
    ).fetchall()
    records = [record_from_json(text) for (text,) in rows]
    return sorted(records, key=_order)


def _order(record: ModelRecord) -> tuple[str, SemanticVersion]:
    return record.name, record.version


def _insert(index: sqlite3.Connection, record: ModelRecord) -> None:
    row = (record.name, str(record.version), record.to_json())
    index.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", row)
