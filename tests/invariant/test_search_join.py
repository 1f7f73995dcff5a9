"""Two processes that share a search, of which one is killed, have the trials of a single one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.run_commands import ROOT, changed

pytestmark = pytest.mark.slow

JOB = changed(
    yaml.safe_load((ROOT / "jobs/search.yaml").read_text()),
    data={"train": {"source": "builtin:python-stdlib", "limit": 12}},
    train={"max_steps": 12},
    evaluate={"every": "4 steps"},
    tracking={"mlflow": False},
    search={"trials": 3, "seeds": 0, "max_cost": "1 USD", "usd_per_hour": 1.0},
)


def _start(job: Path, home: Path, cwd: Path, *options: str) -> subprocess.Popen[str]:
    cwd.mkdir()
    command = [sys.executable, "-m", "temper", "search", str(job), "--out", str(home), *options]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def _evaluations(home: Path) -> dict[str, Any]:
    folder = (home / "search/latest").resolve()
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.glob("trials/*/evaluation.json"))
    }


def test_a_process_that_joined_finishes_the_search_of_one_that_was_killed(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(JOB))
    alone = _start(job, tmp_path / "alone", tmp_path / "a")
    output, _ = alone.communicate()
    assert alone.returncode == 0, output

    home = tmp_path / "shared"
    folder = home / "search/latest"
    first = _start(job, home, tmp_path / "b", "--slots", "1")
    _wait_for(folder / "trials/0000.yaml", first)
    joined = _start(job, home, tmp_path / "c", "--join", "--slots", "1")
    _wait_for(folder / "trials/0001.yaml", joined)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    output, _ = joined.communicate()
    assert joined.returncode == 0, output
    assert f"joins the search of process {first.pid}" in output
    assert _evaluations(home) == _evaluations(tmp_path / "alone")
    results = [json.loads((h / "search/latest/result.json").read_text()) for h in
               (home, tmp_path / "alone")]  # fmt: skip
    assert [r["values"] for r in results] == [results[0]["values"]] * 2
    assert 0 < results[0]["cost_usd"] <= 1
    claims = {path.read_text().split()[0] for path in folder.glob("claims/[0-9]*")}
    assert str(joined.pid) in claims
