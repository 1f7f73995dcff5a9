"""`r: auto` keeps the smallest rank that does as well as any, and goes on without trying again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import changed, train_by_command
from training.config.adapters import Lora
from training.config.load import parse_job
from training.errors import JobError
from training.lora_rank_search import smallest_within, table, with_rank


def auto(document: dict[str, Any], **search: Any) -> dict[str, Any]:
    adapter = {"kind": "lora", "r": "auto", "rank_search": search}
    return changed(document, data={"validation": {"split": "20%"}}, adapter=adapter)


def test_smallest_within_a_margin_of_the_least() -> None:
    losses = {4: 2.10, 8: 2.02, 16: 2.00, 32: 2.01}
    assert smallest_within(losses, 0.005) == 16
    assert smallest_within(losses, 0.01) == 8
    assert smallest_within(losses, 0.06) == 4
    said = "\n".join(table(losses, 8, 20, 0.01))
    assert "r   8  2.0200  kept" in said
    assert "r 8 is the smallest within 1.0% of the least" in said


def test_an_update_counts_the_same_at_any_rank(document: dict[str, Any]) -> None:
    job = parse_job(auto(document, ranks=[2, 64]), "test")
    assert isinstance(job.adapter, Lora) and job.adapter.r == 64
    for r in (2, 16, 64):
        settled = with_rank(job, r).adapter
        assert isinstance(settled, Lora)
        assert (settled.r, settled.alpha / settled.r) == (r, 2.0)
        assert settled.rank_search is None


def test_needs_rows_to_compare_on(document: dict[str, Any]) -> None:
    job = changed(auto(document), data={"validation": "none"})
    with pytest.raises(JobError, match=r"adapter\.r: auto compares ranks on held-out rows"):
        parse_job(job, "test")


@pytest.mark.slow
def test_found_by_trials_and_then_trained(document: dict[str, Any], tmp_path: Path) -> None:
    job = auto(document, ranks=[2, 4], steps=4, margin="50%")
    run = train_by_command(job, tmp_path)
    found = json.loads((run.path / "rank.json").read_text())
    assert found["r"] == 2, "any rank is within half of the least"
    assert set(found["losses"]) == {"2", "4"}
    trials = {path.name for path in (run.path / "ranks").iterdir()}
    assert trials == {"r2", "r4"}
    config = json.loads((run.path / "model/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    assert len(run.steps) == 10
