"""Files next to the shards: recipe, report, card, findings and rejected rows."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from preparation.build import Plan
from preparation.config.load import step_index
from preparation.passes import examine_rows, write_shards
from preparation.passes.building import FINDINGS, REJECTED, RESULT, read_account, write_json
from preparation.report.card import write_card
from preparation.report.page import write_page

REPORT_FILE, RECIPE_FILE, CARD_FILE, PAGE_FILE = (
    "report.json", "recipe.yaml", "README.md", "report.html",
)  # fmt: skip
_PASSES = (examine_rows.NAME, write_shards.NAME)


def write_report_files(planned: Plan) -> None:
    """Write the files next to the shards."""
    from datatrove.io import get_datafolder

    folder = get_datafolder(str(planned.building))
    result = planned.building / RESULT
    result.mkdir(exist_ok=True)
    for name in (FINDINGS, REJECTED):
        _join(planned, name, result / f"{name}.jsonl")
    recipe = planned.job.model_dump(mode="json", exclude={"prepare": {"workers", "output"}})
    (result / RECIPE_FILE).write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    report = summarize(planned, folder, result)
    write_json(folder, f"{RESULT}/{REPORT_FILE}", report)
    write_page(report, result / PAGE_FILE)
    write_card(report, result / CARD_FILE)


def _join(planned: Plan, name: str, path: Path) -> None:
    """Join the files of all units and passes in order."""
    with path.open("wb") as out:
        for pass_name in _PASSES:
            for rank in range(len(planned.units)):
                unit = planned.building / pass_name / name / f"{rank:05d}.jsonl"
                with unit.open("rb") as stream:
                    shutil.copyfileobj(stream, out)


def summarize(planned: Plan, folder: Any, result: Path) -> dict[str, Any]:
    """Return the report: sources, what each step did, splits and shards.

    Args:
        planned: The preparation.
        folder: datatrove's `DataFolder` in which it was built.
        result: Folder with the shards.
    """
    units = len(planned.units)
    first, last = (read_account(folder, name, units) for name in _PASSES)
    names = ["read", *(step.step for step in planned.job.prepare.steps)]
    at = step_index(planned.job)
    accounts = {name: last if index > at else first for index, name in enumerate(names)}
    shards = [_shard(path, result) for path in sorted(result.glob("*/*.parquet"))]
    splits: dict[str, int] = {}
    for shard in shards:
        split = shard["file"].partition("/")[0]
        splits[split] = splits.get(split, 0) + shard["rows"]
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
        "steps": [_step(name, planned, accounts[name]) for name in names],
        "tags": dict(sorted(last["tags"].items(), key=lambda item: (-item[1], item[0]))),
        "splits": splits,
        "shards": shards,
    }


def _step(name: str, planned: Plan, account: dict[str, Any]) -> dict[str, Any]:
    section = next((step for step in planned.job.prepare.steps if step.step == name), None)
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
    }


def _shard(path: Path, result: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    rows = pq.ParquetFile(path).metadata.num_rows
    name = path.relative_to(result).as_posix()
    return {"file": name, "rows": rows, "bytes": path.stat().st_size, "sha256": digest}


def _content_digest(shards: list[dict[str, Any]]) -> str:
    """Return a digest of all shards: equal for equal rows in the same order."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"{shard['file']} {shard['sha256']}\n".encode())
    return digest.hexdigest()
