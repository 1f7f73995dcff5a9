"""Opening of a search: its job, its folder, and where its trials run."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from launch.errors import InvalidOptionError
from search.claims import TrialClaims
from search.job_file import SearchJob, load_search_job
from search.mlflow_parent import MlflowParent
from search.remote_trial import TrialTarget
from search.run import Search
from search.storage import holder_of, search_folder
from search.targets import make_runner, trial_target
from search.trial_runner import TrialRunner
from training.config import Job, Pipeline
from training.config.input_paths import require_inputs
from training.errors import RunError
from training.run_folder import point_latest


@dataclass(frozen=True)
class SearchFiles:
    """Files of a search in its folder.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def result(self) -> Path:
        """Best values, their metrics and the values over seeds, as JSON."""
        return self.folder / "result.json"

    @property
    def best_job(self) -> Path:
        """Job file with the best values."""
        return self.folder / "best.yaml"

    @property
    def best_run(self) -> Path:
        """Link to the run folder of the best trial."""
        return self.folder / "best"

    @property
    def report(self) -> Path:
        """Page of the search."""
        return self.folder / "report.html"

    @property
    def results(self) -> tuple[Path, ...]:
        """Files of the result; a population has no job with the best values."""
        return (self.best_job, self.result, self.report)


@dataclass(frozen=True)
class SearchSession:
    """A search in its folder, with the place where its trials run.

    Attributes:
        search: The search.
        files: Its files.
        target: Target of its trials; None for this machine.
        runner: Runner of its trials.
        mlflow: Its run in MLflow; None if it has none.
    """

    search: SearchJob
    files: SearchFiles
    target: TrialTarget | None
    runner: TrialRunner
    mlflow: MlflowParent | None

    def loop(self, kept_usd: float, slots: int | None) -> Search:
        """Return the loop that runs the trials.

        Args:
            kept_usd: Part of `max_cost` that is kept for the runs with other seeds.
            slots: Trials that this process runs at the same time.
        """
        # Trials on this machine write into MLflow themselves.
        remote = self.mlflow is not None and self.target is not None
        on_change = self.mlflow.children.update if self.mlflow is not None and remote else None
        return Search(self.search, self.files.folder, say, self.runner, kept_usd, slots, on_change)


def open_session(
    job_file: Path,
    overrides: str,
    home: Path,
    *,
    target: str = "local",
    env: str = "dev",
    fresh: bool = False,
) -> SearchSession:
    """Return a search whose inputs exist, in its folder, which is created.

    Args:
        job_file: Job file with a section `search:`.
        overrides: `key=value` pairs.
        home: Folder of all searches.
        target: Where the trials run.
        env: Environment of the platform, for targets that need one.
        fresh: Discard what an earlier start has found.

    Raises:
        InvalidOptionError: The algorithm or the target needs another one.
        RunError: What is to be discarded is in use.
        TemperError: The job is invalid.
    """
    place = trial_target(target, env)
    search = load_search_job(job_file, overrides)
    if search.settings.uses_service and target != "sagemaker":
        raise InvalidOptionError(
            f"algorithm {search.settings.algorithm} is SageMaker's: add --target sagemaker"
        )
    if search.settings.algorithm == "pbt" and place is not None:
        raise InvalidOptionError(
            f"--target {target}: a population is trained on this machine, where its members copy "
            "each other's weights. Use --target local, or algorithm tpe"
        )
    for line in require_inputs(search.job, job_file.parent, here=place is None):
        say(line)
    where = "" if place is None else f"{target} {'' if target == 'slurm' else env}".strip()
    files = SearchFiles(search_folder(search, home, where))
    if fresh and files.folder.exists():
        _discard(files.folder)
    files.folder.mkdir(parents=True, exist_ok=True)
    point_latest(files.folder)
    say(f"search folder: {files.folder}")
    mlflow = MlflowParent(search, files.folder) if _tracks(search.job) else None
    variables = mlflow.environment if mlflow is not None else None
    runner = make_runner(search, files.folder, place, env, variables)
    return SearchSession(search, files, place, runner, mlflow)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _discard(folder: Path) -> None:
    """Delete the folder of a search.

    Raises:
        RunError: A process searches in it.
    """
    holder = holder_of(folder) or TrialClaims(folder).holder
    if holder:
        raise RunError(f"--fresh: process {holder} searches in {folder}. Stop it first")
    shutil.rmtree(folder)


def _tracks(job: Job | Pipeline) -> bool:
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    return any(stage.tracking.mlflow for stage in stages)
