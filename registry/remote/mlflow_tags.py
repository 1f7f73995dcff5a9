"""Tags and description of a version in MLflow, from its record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.record import ModelRecord, StageChange
from registry.remote.base import trees_of

PREFIX = "temper."
VERSION = "temper.version"
CREATED = "temper.created"
REGISTERED_BY = "temper.registered_by"
RECORD = "temper.record_sha256"
STAGE = "temper.stage"
"""Tag of the last change of the stage: one value, so that it is never half-written."""

_TREE = "temper.tree."
# Columns of MLflow's databases: those of servers before 3.0 are no wider.
_LONGEST_TAG = 5000
_LONGEST_DESCRIPTION = 5000
_STAGE = re.compile(
    r"(?P<stage>\w+) by (?P<approver>.*?) at (?P<time>\d{4}-\S+?Z)(?:: (?P<reason>.*))?", re.DOTALL
)


def key(name: str) -> str:
    """Return a name with every character replaced that MLflow does not permit."""
    return "".join(c if (c.isascii() and c.isalnum()) or c in "_-./: " else "_" for c in name)


def tags_of(record: ModelRecord, record_sha256: str) -> dict[str, str]:
    """Return the tags of a version; `None` and long values are left out or cut.

    Args:
        record: The version.
        record_sha256: Digest of its record without the stages.
    """
    origin = record.provenance
    tags: dict[str, Any] = {
        VERSION: str(record.version),
        CREATED: record.created,
        REGISTERED_BY: record.registered_by,
        RECORD: record_sha256,
        "temper.run": origin.run,
        "temper.base": origin.base,
        "temper.base_digest": origin.base_digest,
        "temper.tokenizer": origin.tokenizer,
        "temper.method": origin.method,
        "temper.adapter": origin.adapter,
        "temper.job_sha256": origin.job_sha256,
        "temper.data.train": origin.data.get("train"),
        "temper.data.validation": origin.data.get("validation"),
        "temper.data.prepared": json.dumps(origin.data.get("prepared") or {}, sort_keys=True),
        "temper.code": origin.code.get("commit") or origin.code.get("temper"),
        "temper.seed": origin.seed,
        "temper.cost_usd": origin.cost_usd,
        "temper.override": record.override,
        "temper.overridden": "\n".join(record.overridden) or None,
    }
    tags.update({_TREE + key(form): tree for form, tree in trees_of(record).items()})
    for evaluation in record.evaluations:
        suite = evaluation["suite"]
        tags[f"temper.suite.{key(suite)}"] = evaluation["suite_digest"]
        for metric, value in evaluation["metrics"].items():
            tags[f"temper.metric.{key(suite)}.{key(metric)}"] = (
                f"{value['value']:.4g} (95 % {value['low']:.4g} to {value['high']:.4g}, "
                f"{value['items']} items)"
            )
    return {name: str(value)[:_LONGEST_TAG] for name, value in tags.items() if value is not None}


def trees_from_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tree digest of each form."""
    return {name.removeprefix(_TREE): tree for name, tree in tags.items() if name.startswith(_TREE)}


def stage_tag(change: StageChange) -> str:
    """Return the value of the tag of a change of the stage."""
    reason = f": {change.reason}" if change.reason else ""
    return f"{change.stage} by {change.approver} at {change.time}{reason}"[:_LONGEST_TAG]


def stage_from_tags(tags: Mapping[str, str]) -> StageChange:
    """Return the change that the tag describes; without one, `none` since the registration."""
    match = _STAGE.fullmatch(tags.get(STAGE, ""))
    if match is None:
        return StageChange("none", tags.get(REGISTERED_BY, "unknown"), tags.get(CREATED, ""))
    return StageChange(match["stage"], match["approver"], match["time"], match["reason"])


def description(card: Path) -> str:
    """Return the model card without its metadata, cut to what MLflow's databases hold."""
    text = card.read_text(encoding="utf-8", errors="replace")
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2].lstrip() or text
    cut = "\n\n(cut; the whole card is evidence/model/README.md)"
    return text if len(text) <= _LONGEST_DESCRIPTION else text[: 5000 - len(cut)] + cut
