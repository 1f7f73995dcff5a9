"""Facts of a run, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launch.render import run_facts


@pytest.mark.parametrize(
    ("validation", "text"),
    [
        ({}, ""),
        ({"split": "5%"}, "5% of the training rows"),
        ({"split": "5%", "by": "row"}, "5% of the training rows"),
        (
            {"split": "5%", "by": "group", "column": "user"},
            "5% of the training rows, by group of user",
        ),
    ],
)
def test_held_out_rows(tmp_path: Path, validation: dict[str, Any], text: str) -> None:
    job = {
        "name": "run",
        "data": {"train": [{"source": "rows.jsonl"}], "validation": validation},
        "model": {"source": "org/model"},
        "method": {"kind": "sft"},
        "train": {},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    assert run_facts(tmp_path)["held out"] == text
