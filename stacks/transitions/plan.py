"""Plan of a deployment: changes, refusals, losses, and stacks that are no longer in the file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stacks.baseline_cost import HOURS, idle_costs
from stacks.transitions.changes import Change, changes
from stacks.transitions.expansion import expand
from stacks.transitions.exports import ExportChange, export_changes
from stacks.transitions.references import Templates
from stacks.transitions.ways_round import way_round


@dataclass(frozen=True)
class DeploymentPlan:
    """Effects of a deployment.

    Attributes:
        live: Templates of the stacks in the account.
        new: Templates of the environment's file.
        changes: Changes of all resources.
        broken: Exports in use that would be deleted or changed.
    """

    live: Templates
    new: Templates
    changes: list[Change]
    broken: list[ExportChange]

    @property
    def stale(self) -> list[str]:
        """Stacks in the account that the environment no longer has."""
        return sorted(set(self.live) - set(self.new))

    @property
    def refusals(self) -> list[str]:
        """Changes that CloudFormation would refuse, with the way round."""
        refused = [
            f"{each.stack}: {each.logical_id} ({each.resource_type}) would be replaced, because "
            f"{', '.join(each.properties)} changes. {each.refusal}\n    Instead: {way_round(each)}"
            if each.kind == "replaced"
            else f"{each.stack}: {each.logical_id} ({each.resource_type}): {each.refusal}"
            for each in self.changes
            if each.refusal
        ]
        return refused + [
            self._export_refusal(each) for each in self.broken if each.kind == "changed"
        ]

    def _export_refusal(self, export: ExportChange) -> str:
        """Return the refusal of a changed export, with the way round the replacement behind it."""
        behind = [
            each
            for each in self.changes
            if each.stack == export.producer
            and each.kind == "replaced"
            and each.logical_id in export.name
        ]
        return "\n    Instead: ".join([export.refusal, *map(way_round, behind)])

    @property
    def losses(self) -> list[Change]:
        """Replaced and deleted resources that hold data."""
        return [each for each in self.changes if each.loses_data]

    @property
    def needs_confirmation(self) -> bool:
        """True if stacks or data would go."""
        return bool(self.stale or self.losses)


def make_plan(live: Templates, new: Templates) -> DeploymentPlan:
    """Compare the account with the environment's file."""
    return DeploymentPlan(live, new, changes(live, new), export_changes(live, new))


def plan_lines(plan: DeploymentPlan) -> Iterator[str]:
    """Yield the plan in words."""
    if not plan.live:
        yield f"Nothing is deployed yet: {len(plan.new)} stacks are created."
        return
    yield from _counts(plan)
    for change in plan.changes:
        if change.kind in ("replaced", "may be replaced"):
            yield f"{change.kind.capitalize()}: {_described(change)}, because " + (
                f"{', '.join(change.properties)} changes{_old_one(change)}"
            )
        elif change.kind == "deleted" and change.stack not in plan.stale:
            yield f"Removed: {_described(change)}{_old_one(change)}"
    yield from _stale_lines(plan)
    kept = expand(plan.live, plan.new)
    if kept:
        yield (
            f"In two steps, because other stacks still use what goes: {', '.join(sorted(kept))}."
        )
    for change in plan.losses:
        if change.kind == "replaced" and not change.refusal:
            yield f"To avoid the replacement of {change.logical_id}: {way_round(change)}"


def _counts(plan: DeploymentPlan) -> Iterator[str]:
    kinds = [change.kind for change in plan.changes]
    yield f"Created: {kinds.count('created')} resources. Updated: {kinds.count('updated')}."


def _stale_lines(plan: DeploymentPlan) -> Iterator[str]:
    for name in plan.stale:
        yield (
            f"No longer in the environment's file: stack {name} with "
            f"{len(plan.live[name].get('Resources', {}))} resources, {hourly(plan.live[name])}"
        )
        for change in plan.changes:
            if change.stack == name and (change.loses_data or change.policy != "Delete"):
                yield f"  {_described(change)}{_old_one(change)}"


def hourly(template: Mapping[str, Any]) -> str:
    """Return the cost of what a template creates, per hour, as text."""
    costs = idle_costs({"stack": template})
    usd = sum(each.usd_month or 0 for each in costs) / HOURS["hour"]
    unpriced = sorted(each.item for each in costs if each.usd_month is None)
    more = f", and {', '.join(unpriced)} without a sourced price" if unpriced else ""
    return f"{usd:,.2f} USD per hour at the prices of us-east-1{more}"


def _described(change: Change) -> str:
    data = ", which holds data" if change.loses_data else ""
    return f"{change.stack}/{change.logical_id} ({change.resource_type}{data})"


def _old_one(change: Change) -> str:
    if change.policy == "Retain":
        return "; the old one stays in the account and is no longer managed"
    if change.policy == "Snapshot":
        return "; the old one is deleted after a final snapshot"
    return "; the old one is deleted" if change.loses_data else ""
