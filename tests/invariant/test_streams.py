"""A stream is gone on with where it stood: no row twice, none left out, the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.factories import docstring_pairs, write_jsonl
from tests.run_commands import Run, assert_identical, changed, train_here


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
def test_stream_resumes(document: dict[str, Any], tmp_path: Path, packing: bool) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", docstring_pairs(300))
    job = changed(
        document,
        data={"train": str(rows), "streaming": True, "packing": packing},
        train={"max_steps": 24, "global_batch_size": 4, "micro_batch_size": 2},
        checkpoint={"every": "7 steps", "keep": 5},
    )
    whole = train_here(job, tmp_path / "whole")
    seen = [row for step in whole.samples for row in step["ids"]]
    assert len(seen) > 90

    shutil.copytree(whole.path, tmp_path / "cut")
    cut = Run(tmp_path / "cut")
    for step in (21, 24):
        shutil.rmtree(cut.path / f"checkpoints/checkpoint-{step}")
    shutil.rmtree(cut.path / "model")
    (cut.path / "metrics.jsonl").write_text("")
    again = train_here(job, cut.path)
    assert again.steps[0]["step"] == 15
    assert again.samples == whole.samples
    assert again.losses == whole.losses[14:]
    assert_identical(again, whole)


def test_an_unshuffled_stream_reads_each_row_once_per_epoch(
    document: dict[str, Any], tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", docstring_pairs(50))
    job = changed(
        document,
        data={"train": str(rows), "streaming": True, "shuffle": False},
        train={"max_steps": 25, "global_batch_size": 4, "micro_batch_size": 4},
    )
    run = train_here(job, tmp_path / "run")
    seen = [row for step in run.samples for row in step["ids"]]
    assert len(set(seen[:50])) == 50
    assert len(set(seen[50:])) == 50
