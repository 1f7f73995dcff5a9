"""Lineage of a registered version: base, parents, data, run and evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from registry.record import ModelRecord, tree_digest

_WIDTH = 12


def lineage_lines(record: ModelRecord, records: list[ModelRecord]) -> list[str]:
    """Return what a version was made of, from its base and data to its evaluations.

    Args:
        record: The version.
        records: All versions of the registry, among which its base may be.
    """
    lines = [record.id]
    for label, text in (*_made_of(record, records), *_measured(record), *_history(record)):
        lines.append(f"  {label:<{_WIDTH}}{text}")
    return lines


def _made_of(record: ModelRecord, records: list[ModelRecord]) -> Iterator[tuple[str, str]]:
    origin, code = record.provenance, record.provenance.code
    yield from _bases(record, records)
    yield "method", f"{origin.method}, adapter {origin.adapter or 'none'}, seed {origin.seed}"
    data = origin.data
    yield "data", f"train {data.get('train') or '-'}"
    yield "", f"validation {data.get('validation') or '-'}"
    for source, digest in (data.get("prepared") or {}).items():
        yield "", f"preparation of {source}: {digest}"
    yield "run", origin.run + (f", MLflow run {origin.mlflow_run}" if origin.mlflow_run else "")
    yield "job", f"sha256 {origin.job_sha256}"
    yield "code", f"Temper {code.get('temper', '?')}, commit {code.get('commit') or 'unknown'}"


def _bases(record: ModelRecord, records: list[ModelRecord]) -> Iterator[tuple[str, str]]:
    """Yield the base of a version, and the base of that if it is a registered version, too."""
    label, seen = "base", {record.id}
    while True:
        origin = record.provenance
        text = f"{origin.base} ({origin.base_digest or 'digest unknown'})"
        if origin.base == "scratch":
            text = "none: trained from scratch"
        parent = next((o for o in records if o.id not in seen and _is_base(o, record)), None)
        if parent is None:
            yield label, text
            return
        yield label, f"{text}, registered as {parent.id}"
        record, label = parent, f"{'  ' * len(seen)}base"
        seen.add(parent.id)


def _is_base(other: ModelRecord, record: ModelRecord) -> bool:
    """Return True if a version is the base of another."""
    origin = record.provenance
    if origin.base_digest is not None and other.provenance.weights:
        return origin.base_digest in other.provenance.weights.values()
    # A run's folder is part of the path of its model; the registry knows the run by its name.
    return f"{other.provenance.run}/" in f"{origin.base}/"


def _measured(record: ModelRecord) -> Iterator[tuple[str, str]]:
    """Yield the suites, and the digests of all that decides a score: tasks, prompts, settings."""
    for evaluation in record.evaluations:
        gates = "gates passed" if evaluation["passed"] else "gates NOT passed"
        if not evaluation["gates"]:
            gates = "no gates"
        against = evaluation["against"] or "no other model"
        yield "evaluation", f"{evaluation['suite']}, {evaluation['created']}, against {against}"
        yield "", f"{gates}; suite {evaluation['suite_digest']}"
        tasks: dict[str, dict[str, Any]] = evaluation.get("tasks", {})
        width = max(map(len, tasks), default=0)
        for name, task in tasks.items():
            yield "", f"{name:<{width}}  {task['items']} items, digest {task['digest']}"
        settings = evaluation.get("settings") or {}
        known = [f"{name} {value}" for name, value in settings.items() if value is not None]
        if known:
            yield "", ", ".join(known)


def _history(record: ModelRecord) -> Iterator[tuple[str, str]]:
    for form, files in record.forms.items():
        yield "form", f"{form} {tree_digest(files)}"
    yield "registered", f"by {record.registered_by}, {record.created}"
    for problem in record.overridden:
        yield "overridden", f"({record.override}) {problem}"
    for change in record.transitions:
        reason = f" ({change.reason})" if change.reason else ""
        yield change.stage, f"by {change.approver}, {change.time}{reason}"
