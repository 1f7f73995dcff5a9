"""A search on a real Slurm cluster: trials are batch jobs, and a killed search finds them again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.launch.slurm_cluster import SlurmCluster, slurm_cluster, why_not
from tests.run_commands import ROOT, changed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(why_not() != "", reason=why_not()),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with slurm_cluster() as started:
        yield started


def test_trials_are_batch_jobs_which_a_killed_search_finds_again(
    cluster: SlurmCluster, document: dict[str, Any], tmp_path: Path
) -> None:
    job = changed(
        document,
        name="tune",
        train={"max_steps": 6},
        data={"validation": {"split": 0.2}},
        tracking={"mlflow": False},
    )
    space = {"train.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True}}
    job["search"] = {"space": space, "trials": 2, "parallel": 2, "seeds": 0}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    environment = {
        **os.environ,
        **cluster.variables,
        "SLURM_ROOT": str(tmp_path / "shared"),
        "SLURM_PYTHON": sys.executable,
    }
    command = [sys.executable, "-m", "temper", "search", str(path), "--target", "slurm"]
    command += ["--out", str(tmp_path / "searches")]
    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while len(list((tmp_path / "shared").glob("runs/tune/*/*.id"))) < 2:
            said = (tmp_path / "first.log").read_text()
            assert first.poll() is None and time.monotonic() < end, said
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        first.wait()
    again = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    folder = tmp_path / "searches/tune/latest"
    result = json.loads((folder / "result.json").read_text())
    assert result["trials"] == 2 and (folder / "best/model").is_dir()
    jobs = list((tmp_path / "shared").glob("runs/tune/*/*.id"))
    assert len(jobs) == 2, "no trial ran twice"
    values = {
        json.loads((trial / "evaluation.json").read_text())["after"]["validation"]["loss"]
        for trial in (folder / "trials").iterdir()
    }
    assert len(values) == 2 and min(values) == result["value"]
