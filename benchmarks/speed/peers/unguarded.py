"""Temper's training process without its guards, to measure their cost.

`python -m benchmarks.speed.peers.unguarded JOB RUN_FOLDER`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import training.pipeline
from training.config import Job, load_job
from training.run_folder import RunFolder


def main(job_file: Path, path: Path) -> None:
    """Run a job in a new run folder, as a worker process does, without guards."""
    job = load_job(job_file)
    assert isinstance(job, Job)
    training.pipeline.guards_for = lambda *_, **__: []
    training.pipeline.run(RunFolder.create(path, job))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)
