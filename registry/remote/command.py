"""Implementation of `temper push-model`, and of `models` and `promote` with a remote registry."""

from __future__ import annotations

from pathlib import Path

from launch.confirm import confirm
from registry.errors import RegistryError, RemoteUnavailableError
from registry.record import ModelRecord, StageChange
from registry.remote.agreement import apply_here, apply_there, plan_agreement
from registry.remote.base import RemoteRegistry, RemoteVersion, differences, digest_differences
from registry.store import LocalRegistry
from registry.table import aligned
from training.console import say


def push_model(registry: Path, model: str, remote: RemoteRegistry) -> RemoteVersion:
    """Copy a version to a remote registry, which changes nothing if it exists.

    Args:
        registry: Folder of the local registry.
        model: NAME@VERSION, or NAME for its newest.
        remote: The remote registry.

    Raises:
        RegistryError: It does not exist, or the remote registry has other files for it.
        RemoteUnavailableError: The remote registry failed half-way.
    """
    store = LocalRegistry(registry)
    record = store.find(model)
    try:
        version = remote.push(record, store)
    except RemoteUnavailableError as error:
        raise RemoteUnavailableError(
            f"{error}\n{record.id} is registered here. To push it: temper push-model {record.id}, "
            f"with the same options"
        ) from error
    say(f"{record.id} is in {remote.title}: {version.status}, {version.address}")
    for line in differences(record, version):
        say(f"  {line}. `temper models` with the same options makes them agree")
    return version


def list_both(registry: Path, name: str | None, remote: RemoteRegistry) -> int:
    """Print the versions in both registries, and make their stages agree.

    The latest change of a version wins. What the local registry lacks is recorded at once; a change
    of the remote registry is confirmed by the user first.

    Args:
        registry: Folder of the local registry.
        name: Name of a model, or NAME@VERSION.
        remote: The remote registry.

    Returns:
        1 if a version has other files in the remote registry, else 0.

    Raises:
        RegistryError: One of the registries cannot be read or changed.
        NotConfirmed: The user declined to change the remote registry.
    """
    store = LocalRegistry(registry)
    only = name.partition("@")[0] if name else None
    records, versions = store.records(only), remote.versions(only)
    if not records and not versions:
        say(f"no models in {registry} and {remote.title}")
    _print_versions(records, versions, remote)
    agreement = plan_agreement(records, versions)
    for update in {one.record.id: one for one in (*agreement.here, *agreement.there)}.values():
        say(f"  {update.record.id} differs: {update.conflict}; the later change wins")
    for record in apply_here(agreement, store, remote):
        say(f"{record.id} is {record.stage} here, by {record.approver}")
    if agreement.there:
        changes = ", ".join(f"{one.record.id} to {one.change.stage}" for one in agreement.there)
        confirm(f"Change in {remote.title}: {changes}?")
        for version in apply_there(agreement, remote):
            say(f"{version.id} is {version.stage} ({version.status}) in {remote.title}")
    twins = {version.id: version for version in versions}
    return int(any(r.id in twins and digest_differences(r, twins[r.id]) for r in records))


def _print_versions(
    records: list[ModelRecord], versions: list[RemoteVersion], remote: RemoteRegistry
) -> None:
    twins = {version.id: version for version in versions}
    rows, other_files = [], []
    for record in records:
        twin = twins.pop(record.id, None)
        there = f"{twin.status} ({twin.address})" if twin else "absent"
        rows.append((record.id, record.stage, record.approver or "-", there))
        other_files.append(digest_differences(record, twin) if twin else [])
    for version in twins.values():
        rows.append((version.id, "absent", "-", f"{version.status} ({version.address})"))
        other_files.append([])
    if not rows:
        return
    heading, *lines = aligned([("version", "stage here", "by", f"in {remote.title}"), *rows])
    say(heading)
    for line, differing in zip(lines, other_files, strict=True):
        say(line)
        for difference in differing:
            say(f"  other files: {difference}")


def promote_there(
    remote: RemoteRegistry, changed: list[ModelRecord], transition: StageChange
) -> None:
    """Record a promotion in a remote registry: the archived version, and the promoted one.

    Args:
        remote: The remote registry.
        changed: Versions to change, the promoted one last.
        transition: Change of the promoted one.

    Raises:
        RegistryError: It was not pushed, or the remote registry refuses.
    """
    known = {version.id for version in remote.versions(changed[-1].name)}
    if changed[-1].id not in known:
        raise RegistryError(f"{changed[-1].id} is not in {remote.title}: temper push-model")
    for record in reversed(changed) if remote.one_per_stage else changed:
        if record.id in known:
            archived = StageChange("archived", transition.approver, transition.time)
            change = transition if record is changed[-1] else archived
            version = remote.set_stage(record, change)
            say(f"{version.id} is {version.stage} ({version.status}) in {remote.title}")
