"""Protocol of a remote registry, and the comparison of a record with its remote version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from registry.record import ModelRecord, StageChange, tree_digest
from registry.store import LocalRegistry
from registry.version import SemanticVersion


@dataclass(frozen=True)
class RemoteVersion:
    """Version of a model in a remote registry.

    Attributes:
        name: Name of the model.
        version: Semantic version.
        trees: Tree digest of each form, as in the record.
        address: Address in the remote registry, such as an ARN.
        change: Last change of the stage: the stage, who made it and when. The time of a version
            whose stage was never changed is that of its push, and its stage is `none`.
        status: Stage or approval in the words of the remote registry, for messages.
    """

    name: str
    version: SemanticVersion
    trees: Mapping[str, str]
    address: str
    change: StageChange
    status: str

    @property
    def id(self) -> str:
        """Name and version, `NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def stage(self) -> str:
        """Current stage, one of `registry.record.STAGES`."""
        return self.change.stage


class RemoteRegistry(Protocol):
    """Registry on a server that holds copies of the versions of a local registry.

    Attributes:
        title: Name for messages, such as `SageMaker (dev)`.
        one_per_stage: True if a stage is a pointer that is moved: the promoted version is changed
            before the archived one, so that it always points to a version.
    """

    title: str
    one_per_stage: bool

    def push(self, record: ModelRecord, store: LocalRegistry) -> RemoteVersion:
        """Copy a version with its files; an existing copy is returned.

        Args:
            record: The version.
            store: Registry that has its files.

        Raises:
            RegistryError: The version exists with other files, a local file is damaged, or the
                server refuses.
        """

    def versions(self, name: str | None = None) -> list[RemoteVersion]:
        """Return all versions that were pushed, or those of a name, oldest version first."""

    def set_stage(self, record: ModelRecord, transition: StageChange) -> RemoteVersion:
        """Record a change of the stage, with who made it and when; repeating it changes nothing.

        Only this version is changed: the caller archives the one in production before.

        Args:
            record: The version.
            transition: The change.

        Raises:
            RegistryError: The version was not pushed, or the server refuses.
        """


def trees_of(record: ModelRecord) -> dict[str, str]:
    """Return the tree digest of each form of a record."""
    return {form: tree_digest(files) for form, files in record.forms.items()}


def differences(record: ModelRecord, remote: RemoteVersion) -> list[str]:
    """Return how a record and its remote version differ; empty if they agree.

    Args:
        record: The version in the local registry.
        remote: The version of the same name and number in the remote one.
    """
    lines = digest_differences(record, remote)
    if record.stage != remote.stage:
        lines.append(f"stage: {record.stage} here, {remote.stage} ({remote.status}) there")
    return lines


def digest_differences(record: ModelRecord, remote: RemoteVersion) -> list[str]:
    """Return the forms whose files differ, or that one side does not have.

    Args:
        record: The version in the local registry.
        remote: The version of the same name and number in the remote one.
    """
    here = trees_of(record)
    return [
        f"{form}: {here.get(form, 'absent')} here, {remote.trees.get(form, 'absent')} there"
        for form in sorted(here.keys() | remote.trees.keys())
        if here.get(form) != remote.trees.get(form)
    ]
