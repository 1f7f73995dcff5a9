"""Check of a job file with `search:`, without the packages of a search."""

from __future__ import annotations

from pathlib import Path

from search.job_file import load_search_job
from training.config.input_paths import require_inputs
from training.console import say


def check_search(job_file: Path, overrides: str = "") -> None:
    """Check a job file with `search:` over its whole space, and print that it is valid.

    Raises:
        JobError: It is not; the error lists every problem.
    """
    search = load_search_job(job_file, overrides)
    require_inputs(search.job, job_file.parent)
    say(f"{job_file}: fine, {search.settings.num_trials} trials")
