"""Checking a job needs no torch, no Transformers, no network, and so next to no time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.run_commands import ROOT

HEAVY = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "numpy",
    "pyarrow", "boto3", "aws_cdk", "mlflow",
)  # fmt: skip

CHECK = f"""
import sys
from temper.cli import main
code = main(["check", sys.argv[1]])
print(code, sorted(m for m in {HEAVY} if m in sys.modules))
"""


@pytest.fixture
def path(tmp_path: Path, minimal: dict[str, Any]) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(minimal))
    return file


def test_nothing_heavy_is_imported(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout
