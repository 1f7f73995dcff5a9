"""Checks after the passes: rows are left to train on, and every source had rows to read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from preparation.config.group_report import measured_groups
from preparation.passes.building import REJECTED, read_account, read_json, read_lines
from preparation.plan import PreparationPlan
from training.errors import DataError

_LISTED_COLUMNS = 20


def check_rows(planned: PreparationPlan, folder: Any) -> None:
    """Refuse a preparation that has no rows left, or a source of which no row could be read.

    Raises:
        DataError: With the first rejected row or the steps that rejected them all.
    """
    from preparation.passes.examine_rows import NAME

    account = read_account(folder, NAME, len(planned.units))
    unreadable: Counter[str] = Counter()
    for sources in account["affected"].get("read", {}).values():
        unreadable.update(sources)
    for label in planned.labels:
        rows = account["rows_read"].get(label, 0)
        if rows and unreadable[f"source: {label}"] == rows:
            first = next(
                (
                    line
                    for rank in range(len(planned.units))
                    for line in read_lines(folder, f"{NAME}/{REJECTED}/{rank:05d}.jsonl")
                    if line["step"] == "read"
                ),
                {"row": label, "detail": "no row"},
            )
            raise DataError(
                f"{label}: none of its {rows} rows can be read. The first one is {first['row']}: "
                f"{first['detail']}"
            )
    _check_groups(planned, account)
    _check_left(planned, account)


def _check_groups(planned: PreparationPlan, account: dict[str, Any]) -> None:
    """Refuse a column of `prepare.report.by` that no record has.

    Raises:
        DataError: With the columns that there are.
    """
    report, steps = planned.job.prepare.report, planned.job.prepare.steps
    if report is None or not account["columns"]:
        return
    measured = measured_groups(report.by, (step.step for step in steps))
    missing = [name for name in report.by if name not in {*measured, *account["columns"]}]
    if missing:
        columns = ", ".join(sorted(account["columns"])[:_LISTED_COLUMNS])
        raise DataError(
            f"prepare.report.by: no record has a column {missing[0]!r}. Columns: {columns}. Name "
            "one of them, row_source, or language after the step of that name"
        )


def check_splits(planned: PreparationPlan, folder: Any) -> None:
    """Refuse a result without rows to train on.

    Raises:
        DataError: The steps rejected all rows, or all rows are held out.
    """
    from preparation.passes.write_shards import NAME, SPLITS

    units = len(planned.units)
    _check_left(planned, read_account(folder, NAME, units))
    rows: Counter[str] = Counter()
    for rank in range(units):
        rows.update(read_json(folder, f"{SPLITS}/{rank:05d}.json"))
    if not rows["train"]:
        held_out = ", ".join(f"{split} {count:,}" for split, count in sorted(rows.items()))
        raise DataError(
            f"{planned.job.name}: all {rows.total():,} rows are held out ({held_out}), and none is "
            "left to train on. Related rows stay on one side; lower prepare.split.validation and "
            "prepare.split.test, choose another prepare.split.seed, or add rows"
        )


def _check_left(planned: PreparationPlan, account: dict[str, Any]) -> None:
    """Refuse a pass that wrote no row.

    Raises:
        DataError: With the steps that rejected them all.
    """
    if account["written"]:
        return
    steps = [
        f"{step}: {count:,} rows ({reason})"
        for step, reasons in account["rejected"].items()
        for reason, count in reasons.items()
    ]
    raise DataError(
        f"{planned.job.name}: no row is left of {sum(account['rows_read'].values()):,}. Rejected "
        f"by {', '.join(steps) or 'nothing: the sources are empty'}"
    )
