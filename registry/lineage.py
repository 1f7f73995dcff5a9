"""Lineage of a registered version: base, parents, data, run and evaluations."""

from __future__ import annotations

from registry.record import ModelRecord, tree_digest


def lineage_lines(record: ModelRecord, records: list[ModelRecord]) -> list[str]:
    """Return what a version was made of, from its base and data to its evaluations.

    Args:
        record: The version.
        records: All versions of the registry, among which its base may be.
    """
    origin = record.provenance
    code = origin.code
    return [
        record.id,
        *_base_lines(record, records, "  "),
        f"  method {origin.method}, adapter {origin.adapter or 'none'}, seed {origin.seed}",
        *(f"  data {kind}: {digest or '-'}" for kind, digest in _data(record)),
        f"  run {origin.run}, job sha256 {origin.job_sha256}",
        f"  Temper {code.get('temper', '?')}, commit {code.get('commit') or 'unknown'}",
        *(
            f"  evaluation {e['suite']} ({e['suite_digest'][:12]}), {e['created']}, against "
            f"{e['against'] or 'none'}: gates {'passed' if e['passed'] else 'NOT passed'}"
            for e in record.evaluations
        ),
        *(f"  {form} {tree_digest(files)}" for form, files in record.forms.items()),
        f"  registered by {record.registered_by}, {record.created}",
        *(f"  overridden ({record.override}): {problem}" for problem in record.overridden),
        *(f"  {t.stage} by {t.approver}, {t.time}" for t in record.transitions),
    ]


def _base_lines(record: ModelRecord, records: list[ModelRecord], indent: str) -> list[str]:
    """Return the base of a version, and the base of that if it is a registered version, too."""
    origin = record.provenance
    lines = [f"{indent}base {origin.base} ({origin.base_digest or 'digest unknown'})"]
    # A run's folder is part of the path of its model, and the registry knows the run by its name.
    parent = next(
        (
            other
            for other in records
            if other.id != record.id and f"{other.provenance.run}/" in f"{origin.base}/"
        ),
        None,
    )
    if parent is not None and len(indent) < 2 * len(records) + 2:
        lines[0] += f", registered as {parent.id}"
        lines += _base_lines(parent, records, indent + "  ")
    return lines


def _data(record: ModelRecord) -> list[tuple[str, str | None]]:
    data = record.provenance.data
    prepared = data.get("prepared") or {}
    return [
        ("train", data.get("train")),
        ("validation", data.get("validation")),
        *((f"prepared {source}", digest) for source, digest in prepared.items()),
    ]
