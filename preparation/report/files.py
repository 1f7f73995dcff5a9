"""Files next to the shards: recipe, report, card, findings and rejected rows."""

from __future__ import annotations

import hashlib
import shutil
from typing import Any

import pyarrow.parquet as pq
import yaml

from preparation.config.group_report import ROW_SOURCE
from preparation.config.load import step_index
from preparation.examples import ExampleTexts
from preparation.passes import examine_rows, write_shards
from preparation.passes.building import (
    FINDINGS,
    REJECTED,
    REPORT_FILE,
    RESULT,
    read_account,
    write_json,
    write_text,
)
from preparation.plan import PreparationPlan
from preparation.report.card import render_card
from preparation.report.groups import group_shares, warnings
from preparation.report.notices import notices
from preparation.report.page import render_page
from preparation.rows import PreparedRow
from preparation.steps.step import StepSection

RECIPE_FILE, CARD_FILE, PAGE_FILE = "recipe.yaml", "README.md", "report.html"
_PASSES = (examine_rows.NAME, write_shards.NAME)


def write_report_files(planned: PreparationPlan, folder: Any) -> None:
    """Write the files next to the shards.

    Args:
        planned: The preparation.
        folder: datatrove's `DataFolder` in which it was built.
    """
    for name in (FINDINGS, REJECTED):
        _join(folder, name, len(planned.units))
    recipe = planned.job.model_dump(
        mode="json", exclude={"prepare": {"workers", "output", "copies"}}
    )
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    write_text(folder, f"{RESULT}/{RECIPE_FILE}", text)
    report = summarize(planned, folder)
    write_text(folder, f"{RESULT}/{PAGE_FILE}", render_page(report))
    write_text(folder, f"{RESULT}/{CARD_FILE}", render_card(report))
    write_json(folder, f"{RESULT}/{REPORT_FILE}", report)


def _join(folder: Any, name: str, units: int) -> None:
    """Join the files of all units and passes in order."""
    with folder.open(f"{RESULT}/{name}.jsonl", "wb") as out:
        for pass_name in _PASSES:
            for rank in range(units):
                with folder.open(f"{pass_name}/{name}/{rank:05d}.jsonl", "rb") as stream:
                    shutil.copyfileobj(stream, out)


def summarize(planned: PreparationPlan, folder: Any) -> dict[str, Any]:
    """Return the report: sources, what each step did, splits and shards.

    Args:
        planned: The preparation.
        folder: datatrove's `DataFolder` in which it was built.
    """
    units = len(planned.units)
    first, last = (read_account(folder, name, units) for name in _PASSES)
    names = ["read", *(step.step for step in planned.job.prepare.steps)]
    at = step_index(planned.job)
    accounts = {name: last if index > at else first for index, name in enumerate(names)}
    shards = [
        _shard(folder, name)
        for name in sorted(folder.list_files(RESULT, glob_pattern="*/*.parquet"))
    ]
    splits: dict[str, int] = {}
    for shard in shards:
        split = shard["file"].partition("/")[0]
        splits[split] = splits.get(split, 0) + shard["rows"]
    groups = _groups(planned, {name: accounts[name] for name in names})
    return {
        "name": planned.job.name,
        "digest": planned.digest,
        "content_digest": _content_digest(shards),
        "sources": [
            {
                "label": label,
                "rows": first["rows_read"].get(label, 0),
                "written": last["written"].get(label, 0),
                "license": source.license,
                "origin": source.origin,
            }
            for label, source in zip(planned.labels, planned.job.prepare.sources, strict=True)
        ],
        "rows_read": sum(first["rows_read"].values()),
        "rows_written": sum(last["written"].values()),
        "steps": [_step(name, planned, accounts[name], folder) for name in names],
        "tags": dict(sorted(last["tags"].items(), key=lambda item: (-item[1], item[0]))),
        "groups": groups,
        "warnings": warnings(groups),
        "notices": notices(last["tags"], splits, planned.job.prepare.split),
        "splits": splits,
        "shards": shards,
    }


def _groups(planned: PreparationPlan, accounts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the share of each group's rows that each rule drops.

    Args:
        planned: The preparation.
        accounts: Account of the pass of each step, in order.
    """
    counts = {
        name: account["groups"][name]
        for name, account in accounts.items()
        if name in account["groups"]
    }
    texts = ExampleTexts(planned.job.prepare.steps)

    def name_of(column: str, group: str) -> str:
        if column == ROW_SOURCE or not texts.hide_values:  # The report lists all sources anyway.
            return group
        return texts.excerpt(PreparedRow("", "", "text", {"text": group}))

    shares = group_shares(counts, name_of)
    actions: dict[str, str] = {
        step.step: getattr(step, "action", "drop") for step in planned.job.prepare.steps
    }
    return [share.document() | {"action": actions.get(share.step, "drop")} for share in shares]


def _step(
    name: str, planned: PreparationPlan, account: dict[str, Any], folder: Any
) -> dict[str, Any]:
    """Return what a step did.

    Args:
        name: Name of the step.
        planned: The preparation.
        account: Account of the pass in which it ran.
        folder: datatrove's `DataFolder` in which it was built.
    """
    section = next((step for step in planned.job.prepare.steps if step.step == name), None)
    measured = account["measured"].get(name, {})
    if isinstance(section, StepSection):
        measured = {**measured, **section.trained_facts(folder)}
    hide_values = ExampleTexts(planned.job.prepare.steps).hide_values
    facts = section.facts(measured, hide_values) if isinstance(section, StepSection) else ()
    return {
        "step": name,
        "settings": section.model_dump(mode="json", exclude={"step"}) if section else {},
        "rejected": account["rejected"].get(name, {}),
        "would_reject": account["would_reject"].get(name, {}),
        "affected": account["affected"].get(name, {}),
        "findings": account["findings"].get(name, {}),
        "changed": account["changed"].get(name, 0),
        "rows_made": account["rows_made"].get(name, 0),
        "examples": account["examples"].get(name, {}),
        "facts": [table._asdict() for table in facts],
    }


def _shard(folder: Any, name: str) -> dict[str, Any]:
    with folder.open(name, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with folder.open(name, "rb") as stream:
        rows = pq.ParquetFile(stream).metadata.num_rows
    file = name.removeprefix(f"{RESULT}/")
    return {"file": file, "rows": rows, "bytes": folder.size(name), "sha256": digest}


def _content_digest(shards: list[dict[str, Any]]) -> str:
    """Return a digest of all shards: equal for equal rows in the same order."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"{shard['file']} {shard['sha256']}\n".encode())
    return digest.hexdigest()
