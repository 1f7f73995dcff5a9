"""A search that is killed, and started again, has the trials of one that was not."""

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
    search={"trials": 3, "seeds": 0},
)


def _start(job: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "temper", "search", str(job), "--out", str(home), *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _results(home: Path) -> dict[str, Any]:
    folder = (home / "search/latest").resolve()
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.glob("trials/*/evaluation.json"))
    }
    result = json.loads((folder / "result.json").read_text())
    return {"trials": found, "result": result}


def test_a_killed_search_resumes_with_the_same_trials(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(JOB))
    whole = _start(job, tmp_path / "whole")
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    assert "the job as written" in output

    killed = _start(job, tmp_path / "killed")
    second_round = tmp_path / "killed/search/latest/trials/0002.yaml"
    while not second_round.exists():
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    again = _start(job, tmp_path / "killed")
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert _results(tmp_path / "killed") == _results(tmp_path / "whole")

    more = _start(job, tmp_path / "killed", "--set", "search.seeds=1")
    output, _ = more.communicate()
    assert more.returncode == 0, output
    assert "with 1 other seeds: mean" in output
    folder = tmp_path / "killed/search/latest"
    seeds = json.loads((folder / "result.json").read_text())["seeds"]
    assert len(seeds["best"]) == 2 and seeds["best"][0] != seeds["best"][1]
    assert "With other seeds" in (folder / "report.html").read_text()
