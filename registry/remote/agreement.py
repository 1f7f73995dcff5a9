"""Agreement of stages between the local registry and a remote one: the latest change wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.record import ModelRecord, StageChange
from registry.remote.base import RemoteRegistry, RemoteVersion, digest_differences
from registry.store import LocalRegistry


@dataclass(frozen=True)
class StageUpdate:
    """Change of a stage that one registry has and the other lacks.

    Attributes:
        record: The version.
        change: The change.
        conflict: How the two differ, for messages.
    """

    record: ModelRecord
    change: StageChange
    conflict: str


@dataclass(frozen=True)
class StageAgreement:
    """Changes after which both registries have the same stages.

    Attributes:
        here: Changes that the local registry lacks, oldest first.
        there: Changes that the remote registry lacks, oldest first.
    """

    here: tuple[StageUpdate, ...]
    there: tuple[StageUpdate, ...]


def last_change(record: ModelRecord) -> StageChange:
    """Return the last change of a version's stage; its registration if there was none."""
    if record.transitions:
        return record.transitions[-1]
    return _registration(record)


def _registration(record: ModelRecord) -> StageChange:
    """Return what stands for the stage of a version that was never changed, also once pushed."""
    return StageChange("none", record.registered_by, record.created)


def _later(record: ModelRecord, there: StageChange) -> StageChange:
    """Return the later of the last changes in both registries; in one second, the remote one.

    A registration is before any change in its second.

    Args:
        record: The version.
        there: Its last change in the remote registry.
    """
    here, registration = last_change(record), _registration(record)
    return max(there, here, key=lambda change: (change.time, change != registration))


def plan_agreement(
    records: Sequence[ModelRecord], remotes: Sequence[RemoteVersion]
) -> StageAgreement:
    """Return which registry lacks which change; versions with other files are left out.

    Of two changes in the same second, the remote one wins. A version that was promoted to
    production before another one was is archived, by whom the later one was promoted.

    Args:
        records: Versions in the local registry.
        remotes: Versions in the remote registry.
    """
    twins = {remote.id: remote for remote in remotes}
    pairs = [
        (record, twins[record.id])
        for record in records
        if record.id in twins and not digest_differences(record, twins[record.id])
    ]
    final = {record.id: _later(record, remote.change) for record, remote in pairs}
    everywhere = {record.id: final.get(record.id, last_change(record)) for record in records}
    for record in records:
        change, latest = everywhere[record.id], _latest_production(record, records, everywhere)
        if change.stage == "production" and latest is not change and record.id in final:
            final[record.id] = StageChange("archived", latest.approver, latest.time, latest.reason)
    here, there = [], []
    for record, remote in pairs:
        change = final[record.id]
        conflict = (
            f"{last_change(record).stage} since {last_change(record).time} here, {remote.stage} "
            f"({remote.status}) since {remote.change.time} there"
        )
        if record.stage != change.stage:
            here.append(StageUpdate(record, change, conflict))
        if remote.stage != change.stage:
            there.append(StageUpdate(record, change, conflict))
    return StageAgreement(_in_order(here), _in_order(there))


def _latest_production(
    record: ModelRecord, records: Sequence[ModelRecord], changes: dict[str, StageChange]
) -> StageChange:
    """Return the latest promotion to production of a version of the same name.

    Args:
        record: Version whose name is meant.
        records: All versions.
        changes: The last change of each.
    """
    promotions = [
        changes[one.id]
        for one in records
        if one.name == record.name and changes[one.id].stage == "production"
    ]
    return max(promotions, key=lambda change: change.time, default=changes[record.id])


def _in_order(updates: list[StageUpdate]) -> tuple[StageUpdate, ...]:
    """Return updates by time; of equal times, promotions last, so that none archives another."""
    return tuple(
        sorted(updates, key=lambda one: (one.change.time, one.change.stage == "production"))
    )


def apply_here(
    agreement: StageAgreement, store: LocalRegistry, remote: RemoteRegistry
) -> list[ModelRecord]:
    """Record the changes that the local registry lacks, and return all changed versions.

    The remote registry, whose stage stays as it is, records who made the change and when: it may
    have been made by other means.

    Args:
        agreement: The changes.
        store: The local registry.
        remote: The remote registry.
    """
    changed = []
    for update in agreement.here:
        changed += store.set_stage(update.record, update.change)
        if update not in agreement.there:
            remote.set_stage(update.record, update.change)
    return changed


def apply_there(agreement: StageAgreement, remote: RemoteRegistry) -> list[RemoteVersion]:
    """Record the changes that the remote registry lacks, and return the changed versions."""
    order = list(agreement.there)
    if remote.one_per_stage:
        order.sort(key=lambda update: update.change.stage in ("none", "archived"))
    return [remote.set_stage(update.record, update.change) for update in order]
