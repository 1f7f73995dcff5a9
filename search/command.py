"""Command `temper search`."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from launch.confirm import confirm
from launch.errors import InvalidOptionError
from search.best import best_trial, passes
from search.budget import SearchBudget
from search.job_file import SearchJob, load_search_job
from search.mlflow_parent import MlflowParent
from search.population import schedule
from search.quote import SearchQuote, quote_search, target_lines
from search.report import write_report
from search.run import BASELINE, Search, trial_line, values_text
from search.seed_runs import SeedRuns
from search.seeds import SeedResult
from search.storage import hold_exclusively, search_folder
from search.targets import POLL_S, make_runner, trial_target
from search.trial_runner import TrialRunner
from training.config import Job, Pipeline
from training.config.input_paths import require_inputs
from training.errors import RunError
from training.run_folder import point_latest, resolved_yaml, write_whole

if TYPE_CHECKING:
    from search.remote_trial import TrialTarget
    from search.tuning_service.run import TuningSearch


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


def run_search(
    job_file: Path,
    overrides: str = "",
    *,
    home: Path,
    fresh: bool = False,
    target: str = "local",
    env: str = "dev",
) -> None:
    """Search the hyperparameters of a job, or resume a search.

    Args:
        job_file: Job file with a section `search:`.
        overrides: `key=value` pairs.
        home: Folder of all searches.
        fresh: Discard what an earlier start has found.
        target: Where the trials run.
        env: Environment of the platform, for targets that need one.

    Raises:
        InvalidOptionError: The algorithm or the target needs another one.
        RunError: No trial succeeded, or none passes the gates.
        TemperError: The job is invalid, or the search was stopped.
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
        _say(line)
    where = "" if place is None else f"{target} {'' if target == 'slurm' else env}".strip()
    files = SearchFiles(search_folder(search, home, where))
    if fresh and files.folder.exists():
        shutil.rmtree(files.folder)
    files.folder.mkdir(parents=True, exist_ok=True)
    point_latest(files.folder)
    _say(f"search folder: {files.folder}")
    mlflow = MlflowParent(search, files.folder) if _tracks(search.job) else None
    variables = mlflow.environment if mlflow is not None else None
    runner = make_runner(search, files.folder, place, env, variables)
    with hold_exclusively(files.folder):
        quote = quote_search(search, runner, SearchBudget(files.folder, search.settings.max_cost))
        for line in (*quote.lines, *target_lines(quote.priced, place)):
            _say(line)
        if search.settings.uses_service:
            loop: Search | TuningSearch = _tune(search, files, place, quote)
        else:
            if place is not None and place.name == "sagemaker":
                confirm(quote.question)
            loop = Search(search, files.folder, _say, runner, quote.kept_usd)
            _run_trials(loop, files)
        _conclude(search, files, loop, runner, mlflow)


def _run_trials(loop: Search, files: SearchFiles) -> None:
    try:
        loop.run()
    finally:
        write_report(files.report, loop.search, loop.journal.study, loop.best, None)


def _tune(
    search: SearchJob,
    files: SearchFiles,
    target: TrialTarget | None,
    quote: SearchQuote,
) -> TuningSearch:
    """Create the tuning job if it does not exist, and wait for its end."""
    # Imported here: a search on this machine needs no AWS SDK.
    from launch.targets.sagemaker import SageMakerTarget
    from search.tuning_service.run import TuningSearch

    assert isinstance(target, SageMakerTarget), "checked before"
    tuning = TuningSearch(search, files.folder, target, _say)
    if not tuning.exists:
        trials = tuning.num_trials(quote.priced, quote.kept_usd)
        if trials < search.settings.num_trials:
            _say(f"max_cost allows for {trials} of {search.settings.num_trials} trials")
        confirm(quote.question)
        tuning.create(quote.priced, trials)
    tuning.follow(POLL_S["sagemaker"])
    best = best_trial(search.settings, tuning.journal.trials)
    write_report(files.report, search, tuning.journal.study, best, None)
    for trial in tuning.journal.trials:
        _say(trial_line(trial, len(tuning.journal.trials)))
    return tuning


def _conclude(
    search: SearchJob,
    files: SearchFiles,
    loop: Search | TuningSearch,
    runner: TrialRunner,
    mlflow: MlflowParent | None,
) -> None:
    """Train the best values with other seeds, and write and print the result.

    Raises:
        RunError: No trial succeeded, or none passes the gates.
    """
    best = best_trial(search.settings, loop.journal.trials)
    if best is None:
        raise RunError(_why_none(search, files, loop.journal.trials))
    seeds = _train_seeds(search, loop, best, SeedRuns(search, files.folder, runner, loop.budget))
    loop.fetch_model(best.number)
    _write_result(files, search, loop, best, seeds)
    if mlflow is not None:
        assert best.value is not None
        if runner.name != "local":
            mlflow.log_children(loop.journal.trials)
        mlflow.end(best.value, seeds, [path for path in files.results if path.exists()])
    for line in result_lines(search, best, seeds):
        _say(line)
    if loop.budget.most_usd:
        _say(f"cost: {loop.budget.most_usd:.2f} USD")
    _say(f"done: {files.best_run}, {', '.join(str(p) for p in files.results if p.exists())}")


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
    search: SearchJob, loop: Search | TuningSearch, best: FrozenTrial, runs: SeedRuns
) -> SeedResult:
    """Train the best point and the job as written with further seeds."""
    assert best.value is not None
    if not search.settings.seeds:
        return SeedResult((best.value,))
    _say(f"training the best values with {search.settings.seeds} other seeds")
    values = runs.train(f"trial-{best.number:04d}", best.params)
    baseline = loop.journal.trials[0]
    written = baseline.user_attrs.get("kind") == BASELINE and passes(search.settings, baseline)
    if not written or baseline.number == best.number:
        return SeedResult((best.value, *values))
    assert baseline.value is not None
    others = runs.train(BASELINE, baseline.params)
    return SeedResult((best.value, *values), (baseline.value, *others))


def _write_result(
    files: SearchFiles,
    search: SearchJob,
    loop: Search | TuningSearch,
    best: FrozenTrial,
    seeds: SeedResult,
) -> None:
    result: dict[str, Any] = {
        "trial": best.number,
        "values": best.params,
        "objective": search.settings.objective.metric,
        "value": best.value,
        "metrics": best.user_attrs["metrics"],
        "seeds": seeds.document(),
        "trials": len(loop.journal.trials),
        "cost_usd": round(loop.budget.most_usd, 4) or None,
    }
    if search.settings.algorithm == "pbt":
        trials = loop.journal.trials
        result["schedule"] = schedule(search.settings, search.job, trials, best.number)
    else:
        write_whole(files.best_job, resolved_yaml(search.trial_job(best.params)))
    write_whole(files.result, json.dumps(result, indent=1) + "\n")
    files.best_run.unlink(missing_ok=True)
    files.best_run.symlink_to(Path("trials") / f"{best.number:04d}")
    write_report(files.report, search, loop.journal.study, best, seeds)


def _why_none(search: SearchJob, files: SearchFiles, trials: list[FrozenTrial]) -> str:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        last = trials[-1].user_attrs.get("message", "") if trials else ""
        why = f", the last one because {last}" if last else ""
        return f"no trial was completed{why}. Logs: {files.folder / 'trials'}"
    gates = ", ".join(
        f"{gate.metric}{'' if gate.min is None else f' >= {gate.min:g}'}"
        f"{'' if gate.max is None else f' <= {gate.max:g}'}"
        for gate in search.settings.objective.gates
    )
    return (
        f"none of {len(complete)} complete trials passes the gates ({gates}). The metrics of each "
        f"are in {files.report}; widen the space or the gates"
    )


def _tracks(job: Job | Pipeline) -> bool:
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    return any(stage.tracking.mlflow for stage in stages)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
