"""A search that is killed and resumed, or taken over, has the trials of one that was not."""

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


def _start(
    job: Path, home: Path, *options: str, folder: Path | None = None
) -> subprocess.Popen[str]:
    """Start a search, or join one, in a working folder; in the checkout if it is None."""
    if folder is not None:
        folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "temper", "search", str(job), "--out", str(home), *options],
        cwd=folder or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


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
    _wait_for(tmp_path / "killed/search/latest/trials/0002.yaml", killed)
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


def test_a_process_that_joined_finishes_the_search_of_one_that_was_killed(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(changed(JOB, search={"max_cost": "1 USD", "usd_per_hour": 1.0})))
    alone = _start(job, tmp_path / "alone")
    output, _ = alone.communicate()
    assert alone.returncode == 0, output

    home = tmp_path / "shared"
    folder = home / "search/latest"
    first = _start(job, home, "--slots", "1", folder=tmp_path / "a")
    _wait_for(folder / "trials/0000.yaml", first)
    joined = _start(job, home, "--join", "--slots", "1", folder=tmp_path / "b")
    _wait_for(folder / "trials/0001.yaml", joined)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    output, _ = joined.communicate()
    assert joined.returncode == 0, output
    assert f"joins the search of process {first.pid}" in output
    shared, whole = _results(home), _results(tmp_path / "alone")
    assert shared["trials"] == whole["trials"] and len(shared["trials"]) == 3
    assert shared["result"]["values"] == whole["result"]["values"]
    assert 0 < shared["result"]["cost_usd"] <= 1
