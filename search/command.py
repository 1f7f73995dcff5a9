"""Command `temper search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from launch.confirm import confirm
from launch.errors import InvalidOptionError
from search.best import best_trial, passes
from search.budget import SearchBudget
from search.job_file import SearchJob
from search.population import schedule
from search.quote import SearchQuote, quote_search, target_lines
from search.report import write_report
from search.run import BASELINE, Search, trial_line, values_text
from search.seed_runs import SeedRuns
from search.seeds import SeedResult
from search.session import SearchFiles, SearchSession, open_session, say
from search.storage import hold_exclusively, holder_of
from search.targets import POLL_S
from training.errors import RunError
from training.run_folder import resolved_yaml, write_whole

if TYPE_CHECKING:
    from search.remote_trial import TrialTarget
    from search.tuning_service.run import TuningSearch


def run_search(
    job_file: Path,
    overrides: str = "",
    *,
    home: Path,
    fresh: bool = False,
    target: str = "local",
    env: str = "dev",
    slots: int | None = None,
) -> None:
    """Search the hyperparameters of a job, or resume a search.

    Args:
        job_file: Job file with a section `search:`.
        overrides: `key=value` pairs.
        home: Folder of all searches.
        fresh: Discard what an earlier start has found.
        target: Where the trials run.
        env: Environment of the platform, for targets that need one.
        slots: Trials that this process runs at the same time; `search.parallel` if None.

    Raises:
        InvalidOptionError: The algorithm or the target needs another one.
        RunError: No trial succeeded, or none passes the gates.
        TemperError: The job is invalid, or the search was stopped.
    """
    session = open_session(job_file, overrides, home, target=target, env=env, fresh=fresh)
    search, files, place = session.search, session.files, session.target
    with hold_exclusively(files.folder):
        budget = SearchBudget(files.folder, search.settings.max_cost)
        quote = quote_search(search, session.runner, budget)
        for line in (*quote.lines, *target_lines(quote.priced, place)):
            say(line)
        if search.settings.uses_service:
            loop: Search | TuningSearch = _tune(search, files, place, quote)
        else:
            if place is not None and place.name == "sagemaker":
                confirm(quote.question)
            loop = session.loop(quote.kept_usd, slots)
            _run_trials(loop, files)
        _conclude(session, loop)


def join_search(
    job_file: Path, overrides: str = "", *, home: Path, slots: int | None = None
) -> None:
    """Run trials of a search that another process runs in the same folder.

    If that process has died, its trials are continued and its result is written.

    Args:
        job_file: Job file with a section `search:`.
        overrides: `key=value` pairs, the same as those of the other process.
        home: Folder of all searches.
        slots: Trials that this process runs at the same time; `search.parallel` if None.

    Raises:
        InvalidOptionError: The search cannot be shared.
        TemperError: The job is invalid, or the search was stopped.
    """
    session = open_session(job_file, overrides, home)
    search, folder = session.search, session.files.folder
    if search.settings.algorithm == "pbt":
        raise InvalidOptionError("--join: one process trains all members of a population")
    holder = holder_of(folder)
    say(f"joins the search of process {holder}" if holder else "no process runs this search")
    quote = quote_search(search, session.runner, SearchBudget(folder, search.settings.max_cost))
    loop = session.loop(quote.kept_usd, slots)
    _run_trials(loop, session.files)
    if holder := holder_of(folder):
        say(f"all trials have ended; process {holder} writes the result")
        return
    with hold_exclusively(folder):
        _conclude(session, loop)


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
    tuning = TuningSearch(search, files.folder, target, say)
    if not tuning.exists:
        trials = tuning.num_trials(quote.priced, quote.kept_usd)
        if trials < search.settings.num_trials:
            say(f"max_cost allows for {trials} of {search.settings.num_trials} trials")
        confirm(quote.question)
        tuning.create(quote.priced, trials)
    tuning.follow(POLL_S["sagemaker"])
    best = best_trial(search.settings, tuning.journal.trials)
    write_report(files.report, search, tuning.journal.study, best, None)
    for trial in tuning.journal.trials:
        say(trial_line(trial, len(tuning.journal.trials)))
    return tuning


def _conclude(session: SearchSession, loop: Search | TuningSearch) -> None:
    """Train the best values with other seeds, and write and print the result.

    Raises:
        RunError: No trial succeeded, or none passes the gates.
    """
    search, files, runner = session.search, session.files, session.runner
    best = best_trial(search.settings, loop.journal.trials)
    if best is None:
        raise RunError(_why_none(search, files, loop.journal.trials))
    seeds = _train_seeds(search, loop, best, SeedRuns(search, files.folder, runner, loop.budget))
    loop.fetch_model(best.number)
    _write_result(files, search, loop, best, seeds)
    if session.mlflow is not None:
        assert best.value is not None
        if runner.name != "local":
            session.mlflow.children.update(loop.journal.trials)
        session.mlflow.end(best.value, seeds, [path for path in files.results if path.exists()])
    for line in result_lines(search, best, seeds):
        say(line)
    if loop.budget.most_usd:
        say(f"cost: {loop.budget.most_usd:.2f} USD")
    say(f"done: {files.best_run}, {', '.join(str(p) for p in files.results if p.exists())}")


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
    say(f"training the best values with {search.settings.seeds} other seeds")
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
