"""Agreement of stages: which of two changes wins, and which registry gets it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.record import FileDigest, ModelRecord, StageChange
from registry.remote.agreement import plan_agreement
from registry.remote.base import RemoteVersion, trees_of
from registry.version import SemanticVersion
from tests.unit.registry.test_model_package import RECORD


def change(stage: str, day: int, approver: str = "ana") -> StageChange:
    return StageChange(stage, approver, f"2026-12-{day:02}T00:00:00Z")


def record(minor: int, *changes: StageChange, name: str = "support") -> ModelRecord:
    version = SemanticVersion(1, minor, 0)
    return replace(RECORD, name=name, version=version, transitions=changes)


def remote(record: ModelRecord, last: StageChange) -> RemoteVersion:
    return RemoteVersion(
        record.name, record.version, trees_of(record), "arn", last, "PendingManualApproval"
    )


NEVER = StageChange("none", RECORD.registered_by, RECORD.created)


@pytest.mark.parametrize(
    ("here", "there", "lacks_here", "lacks_there"),
    [
        ((), NEVER, None, None),
        ((change("staging", 1),), change("staging", 2), None, None),
        ((), change("production", 1, "ben"), change("production", 1, "ben"), None),
        ((change("production", 1),), NEVER, None, change("production", 1)),
        ((change("production", 1),), change("archived", 2), change("archived", 2), None),
        ((change("production", 3),), change("archived", 2), None, change("production", 3)),
        ((change("production", 2),), change("archived", 2), change("archived", 2), None),
    ],
    ids=["none", "same", "only-there", "only-here", "there-later", "here-later", "same-time"],
)
def test_the_later_change_wins(
    here: tuple[StageChange, ...],
    there: StageChange,
    lacks_here: StageChange | None,
    lacks_there: StageChange | None,
) -> None:
    one = record(0, *here)
    plan = plan_agreement([one], [remote(one, there)])
    assert [update.change for update in plan.here] == ([lacks_here] if lacks_here else [])
    assert [update.change for update in plan.there] == ([lacks_there] if lacks_there else [])


def test_a_promotion_archives_the_version_before_it_on_both_sides() -> None:
    old, new = record(0, change("production", 1)), record(1)
    approved = change("production", 2, "ben")
    plan = plan_agreement([old, new], [remote(old, change("production", 1)), remote(new, approved)])
    archived = StageChange("archived", "ben", approved.time)
    # The archived version comes first, so that the promotion finds none in production.
    assert [(u.record.id, u.change) for u in plan.here] == [(old.id, archived), (new.id, approved)]
    assert [(u.record.id, u.change) for u in plan.there] == [(old.id, archived)]


def test_an_approval_before_the_last_promotion_is_archived() -> None:
    """Two versions are approved in SageMaker, which allows it: the later one is in production."""
    old, new = record(0), record(1, change("production", 5))
    plan = plan_agreement(
        [old, new],
        [remote(old, change("production", 3, "ben")), remote(new, change("production", 5))],
    )
    assert [(u.record.id, u.change.stage) for u in plan.here] == [(old.id, "archived")]
    assert [(u.record.id, u.change.stage) for u in plan.there] == [(old.id, "archived")]


def test_other_names_other_files_and_versions_on_one_side_are_left_alone() -> None:
    mine = record(0, change("production", 1))
    other = record(0, change("production", 2), name="other")
    tampered = replace(other, forms={"gguf": {"f": FileDigest("9" * 64, 1)}})
    plan = plan_agreement(
        [mine, other],
        [
            remote(mine, change("production", 1)),
            remote(tampered, change("archived", 9)),
            remote(record(7), change("production", 9)),
        ],
    )
    assert plan.here == plan.there == ()


def test_changes_in_the_second_of_a_registration() -> None:
    promoted = StageChange("production", "ana", RECORD.created)
    one = record(0, promoted)
    plan = plan_agreement([one], [remote(one, NEVER)])
    assert not plan.here, "the promotion is not undone"
    assert [update.change for update in plan.there] == [promoted]
    # If both registries changed the stage in the same second, the remote change wins.
    for stage in ("archived", "none"):
        changed = StageChange(stage, "someone", RECORD.created)
        plan = plan_agreement([one], [remote(one, changed)])
        assert [update.change for update in plan.here] == [changed]
        assert not plan.there
