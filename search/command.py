"""Command `temper search`."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.job_file import SearchJob, load_search_job
from search.mlflow_parent import MlflowParent
from search.report import write_report
from search.run import BASELINE, Search, values_text
from search.seed_runs import train_seeds
from search.seeds import SeedResult
from search.storage import search_folder
from training.config import Job, Pipeline
from training.config.input_paths import require_inputs
from training.errors import RunError
from training.run_folder import point_latest, resolved_yaml, write_whole


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


def run_search(job_file: Path, overrides: str = "", *, home: Path, fresh: bool = False) -> None:
    """Search the hyperparameters of a job on this machine, or resume one.

    Args:
        job_file: Job file with a section `search:`.
        overrides: `key=value` pairs.
        home: Folder of all searches.
        fresh: Discard what an earlier start has found.

    Raises:
        RunError: No trial succeeded, or none passes the gates.
        TemperError: The job is invalid, or the search was stopped.
    """
    search = load_search_job(job_file, overrides)
    require_inputs(search.job, job_file.parent, here=True)
    files = SearchFiles(search_folder(search, home))
    if fresh and files.folder.exists():
        shutil.rmtree(files.folder)
    files.folder.mkdir(parents=True, exist_ok=True)
    point_latest(files.folder)
    _say(f"search folder: {files.folder}")
    _say(_plan_line(search))
    mlflow = MlflowParent(search, files.folder) if _tracks(search.job) else None
    environment = mlflow.environment if mlflow is not None else None
    loop = Search(search, files.folder, _say, environment)
    try:
        loop.run()
    finally:
        write_report(files.report, search, loop.journal.study, loop.best, None)
    best = loop.best
    if best is None:
        raise RunError(_why_none(loop))
    seeds = _train_seeds(search, loop, best, files.folder, environment)
    _write_result(files, search, loop, best, seeds)
    if mlflow is not None:
        assert best.value is not None
        mlflow.end(best.value, seeds, [files.result, files.best_job, files.report])
    for line in result_lines(search, best, seeds):
        _say(line)
    _say(f"done: {files.best_run}, {files.best_job}, {files.report}")


def result_lines(search: SearchJob, best: FrozenTrial, seeds: SeedResult) -> list[str]:
    """Return the result as lines for the terminal.

    Args:
        search: The search.
        best: Its best trial.
        seeds: Values over seeds.
    """
    metric = search.settings.objective.metric
    lines = [f"best: trial {best.number}, {metric} {best.value:.4f}: {values_text(best.params)}"]
    if seeds.fresh is not None and seeds.spread is not None:
        lines.append(
            f"with {len(seeds.best) - 1} other seeds: mean {seeds.fresh:.4f}, standard deviation "
            f"over all seeds {seeds.spread:.4f}"
        )
    if seeds.difference is not None:
        mean, low, high = seeds.difference
        shown = "" if low > 0 or high < 0 else ": no difference is shown"
        lines.append(
            f"against the job as written, same seeds: {mean:+.4f} "
            f"(95 % interval {low:+.4f} to {high:+.4f}){shown}"
        )
    return lines


def _train_seeds(
    search: SearchJob,
    loop: Search,
    best: FrozenTrial,
    folder: Path,
    environment: dict[str, str] | None,
) -> SeedResult:
    """Train the best point and the job as written with further seeds."""
    assert best.value is not None
    if not search.settings.seeds:
        return SeedResult((best.value,))
    _say(f"training the best values with {search.settings.seeds} other seeds")
    values = train_seeds(
        search, folder / "seeds" / f"trial-{best.number:04d}", best.params, environment
    )
    baseline = loop.journal.trials[0]
    written = baseline.user_attrs.get("kind") == BASELINE and loop.passes(baseline)
    if not written or baseline.number == best.number:
        return SeedResult((best.value, *values))
    assert baseline.value is not None
    others = train_seeds(search, folder / "seeds" / BASELINE, baseline.params, environment)
    return SeedResult((best.value, *values), (baseline.value, *others))


def _write_result(
    files: SearchFiles, search: SearchJob, loop: Search, best: FrozenTrial, seeds: SeedResult
) -> None:
    result: dict[str, Any] = {
        "trial": best.number,
        "values": best.params,
        "objective": search.settings.objective.metric,
        "value": best.value,
        "metrics": best.user_attrs["metrics"],
        "seeds": seeds.document(),
        "trials": len(loop.journal.trials),
    }
    write_whole(files.result, json.dumps(result, indent=1) + "\n")
    write_whole(files.best_job, resolved_yaml(search.trial_job(best.params)))
    files.best_run.unlink(missing_ok=True)
    files.best_run.symlink_to(Path("trials") / f"{best.number:04d}")
    write_report(files.report, search, loop.journal.study, best, seeds)


def _why_none(loop: Search) -> str:
    complete = [trial for trial in loop.journal.trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return f"no trial was completed. Logs: {loop.folder / 'trials'}"
    gates = ", ".join(
        f"{gate.metric}{'' if gate.min is None else f' >= {gate.min:g}'}"
        f"{'' if gate.max is None else f' <= {gate.max:g}'}"
        for gate in loop.settings.objective.gates
    )
    return (
        f"none of {len(complete)} complete trials passes the gates ({gates}). The metrics of each "
        f"are in {loop.folder / 'report.html'}; widen the space or the gates"
    )


def _plan_line(search: SearchJob) -> str:
    """Return how long the search takes if every trial runs to its end.

    Raises:
        RunError: The job as written does not fit this machine.
    """
    from planning import make_plan
    from training.report.formatting import duration

    settings = search.settings
    plan = make_plan(search.job)
    if not plan.fits:
        raise RunError("\n".join(plan.refused))
    runs = math.ceil(settings.num_trials / settings.parallel) + 2 * settings.seeds
    low, high = (duration(3600 * runs * hours) for hours in (plan.hours.low, plan.hours.high))
    parallel = f", {settings.parallel} at a time" if settings.parallel > 1 else ""
    return (
        f"{settings.algorithm}, {settings.num_trials} trials{parallel} and "
        f"{2 * settings.seeds} runs with other seeds: {low} to {high} if none ends early"
    )


def _tracks(job: Job | Pipeline) -> bool:
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    return any(stage.tracking.mlflow for stage in stages)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
