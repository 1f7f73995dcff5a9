"""Loop of a search: suggest, train, record, until trials or time are used up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from search.best import best_trial
from search.budget import SearchBudget
from search.claims import TrialClaims
from search.clock import SearchClock
from search.config import Value
from search.job_file import SearchJob
from search.population import stop_step, suggest_member
from search.run_metrics import NOT_MEASURED
from search.stop_signals import StopSignals
from search.suggestions import should_stop, suggest
from search.trial_runner import PricedJob, Trial, TrialRunner
from search.trials import TrialJournal, TrialOutcome
from training.errors import JobError, RunError, TemperError

_POLL_S = 0.5
_MAX_FIRST_FAILURES = 3
_MAX_RESTARTS = 3
BASELINE = "baseline"

Say = Callable[[str], None]


class Search:
    """Search in its folder.

    Args:
        search: The search.
        folder: Its folder, which exists.
        say: Prints a line.
        runner: Place where the trials run.
        kept_usd: Part of `max_cost` that is kept for the runs with other seeds.
        slots: Trials that this process runs at the same time; `parallel` if None.
        on_change: Is told all trials when one has started, measured something or ended.

    Attributes:
        journal: Its trials.
        budget: Their costs.
    """

    def __init__(
        self,
        search: SearchJob,
        folder: Path,
        say: Say,
        runner: TrialRunner,
        kept_usd: float = 0.0,
        slots: int | None = None,
        on_change: Callable[[Sequence[FrozenTrial]], None] | None = None,
    ):
        self.search, self.settings, self.folder, self.say = search, search.settings, folder, say
        self._runner, self._kept_usd = runner, kept_usd
        self.journal = TrialJournal(folder, search.job.name, search.settings)
        self.budget = SearchBudget(folder, search.settings.max_cost)
        self._running: dict[int, Trial] = {}
        self._limits_s: dict[int, float] = {}
        self._over_limit: set[int] = set()
        self._slots = slots or search.settings.parallel
        self._claims = TrialClaims(folder)
        self._on_change, self._is_changed = on_change, True
        self._waiting = self._is_spent = False
        self._ended = 0
        self._restarts: Counter[int] = Counter()
        self._signals = StopSignals()

    def run(self) -> None:
        """Run all trials that are missing.

        Raises:
            Interrupted: A signal stopped the search; the same command resumes.
            RunError: The first trials failed, all of them.
        """
        clock = SearchClock(self.folder, self.settings.max_time)
        with self._signals:
            try:
                while self._step(clock):
                    time.sleep(_POLL_S)
                    clock.save()
            finally:
                self._stop_all()
                clock.save(now=True)
        self._signals.raise_if_received()
        if clock.is_over:
            self.say(f"max_time reached after {len(self.journal.trials)} trials")
        if self._is_spent:
            self.say(
                f"max_cost reached: {self.budget.most_usd:.2f} of {self.settings.max_cost:.2f} USD "
                f"are spent{self._kept_text()}, and a further trial could cost more than the rest"
            )

    @property
    def best(self) -> FrozenTrial | None:
        """Best complete trial that passes the gates; the first of equal ones."""
        return best_trial(self.settings, self.journal.trials)

    def fetch_model(self, number: int) -> None:
        """Download the model of a finished trial, if it is not here."""
        self._runner.fetch_model(self.folder / "trials" / f"{number:04d}")

    # --- one step of the loop -----------------------------------------------------------------

    def _step(self, clock: SearchClock) -> bool:
        """Record what has ended, start what there is room for; return False at the end."""
        ended = sum(trial.state.is_finished() for trial in self.journal.trials)
        if ended != self._ended:  # also by another process: what it did not spend is free
            self._ended, self._waiting = ended, False
        for number in [number for number, trial in self._running.items() if trial.is_over]:
            running = self._running.pop(number)
            self._waiting = False
            if not self._finish(number, running) and self._signals.received is None:
                self._note_restart(number)
        for number, running in self._running.items():
            self._watch(number, running)
        if self._signals.received is not None or clock.is_over:
            return False
        while len(self._running) < self._slots and not self._waiting:
            with self._claims.exclusive():
                following = self._next()
            if following is None:
                break
            self._start(following)
        if self._on_change is not None and self._is_changed:
            self._on_change(self.journal.trials)
            self._is_changed = False
        return bool(self._running) or self._others_run()

    def _others_run(self) -> bool:
        """Return whether other processes run trials of this search."""
        return any(
            trial.state == TrialState.RUNNING and self._claims.is_taken(trial.number)
            for trial in self.journal.trials
        )

    def _next(self) -> int | None:
        """Return the number of a trial to start or to resume; None if there is none now.

        The trial is claimed, so that no other process starts it.
        """
        for trial in self.journal.trials:
            if trial.state != TrialState.RUNNING or trial.number in self._running:
                continue
            if self._claims.take(trial.number):
                if self.journal.trials[trial.number].state == TrialState.RUNNING:
                    return int(trial.number)
                self._claims.release(trial.number)  # it ended before the claim
        trials = self.journal.trials
        number = len(trials)
        if number >= self.settings.num_trials:
            return None
        unfinished = any(not trial.state.is_finished() for trial in trials)
        if number % self.settings.round_size == 0 and unfinished:
            return None  # the next round sees the results of this one
        self._refuse_if_all_failed(trials)
        baseline = self.search.baseline
        if number == 0 and baseline is not None and self.settings.algorithm != "grid":
            self.journal.start(baseline, kind=BASELINE)
        elif self.settings.algorithm == "pbt" and number >= self.settings.round_size:
            suggestion = suggest_member(self.settings, trials)
            self.journal.start(suggestion.values, parent=suggestion.parent)
        else:
            self.journal.start(suggest(self.settings, trials))
        self._is_changed = True
        return number if self._claims.take(number) else None

    def _start(self, number: int) -> None:
        trial = self.journal.trials[number]
        try:
            job = self.search.trial_job(trial.params)
        except JobError as error:
            self._record(trial, TrialOutcome(TrialState.FAIL, message=str(error.problems[0])))
            return
        losses = trial.intermediate_values
        if should_stop(self.settings, self.journal.trials, number, losses):
            # The search was killed between the decision and the end of the trial.
            self._record(trial, TrialOutcome(TrialState.PRUNED, _last(losses)))
            return
        try:
            priced = self._runner.price(job)
        except JobError as error:
            self._record(trial, TrialOutcome(TrialState.FAIL, message=str(error.problems[0])))
            return
        if self.settings.algorithm == "pbt":
            parent = trial.user_attrs.get("parent")
            priced = replace(
                priced,
                stop_step=stop_step(self.settings, self.search.job, number),
                parent=None if parent is None else self.folder / "trials" / f"{parent:04d}",
            )
        self._launch(number, priced)

    def _launch(self, number: int, job: PricedJob) -> None:
        """Attach to a trial or start it; leave it for later if the rest of `max_cost` is less.

        Raises:
            TemperError: The target accepts no trial at all.
        """
        folder = self.folder / "trials" / f"{number:04d}"
        name = trial_name(self.folder, folder)
        running = self._runner.attach(folder, job)
        if running is None:
            spent = self._runner.spent_usd(folder)
            usd = job.most_usd or 0.0
            if not self.budget.reserve(name, usd, spent=spent, kept_usd=self._kept_usd):
                self._waiting = True
                self._claims.release(number)
                self._is_spent = not self._running and not self._others_run()
                return
            try:
                running = self._runner.start(folder, job)
            except TemperError as error:
                # A quota, for instance, that has room again when another trial has ended.
                if not self._running:
                    raise
                self.say(f"trial {number} waits: {error}")
                self._claims.release(number)
                self._waiting = True
                return
        self._running[number] = running
        if job.limit_s is not None and self._runner.name != "sagemaker":
            self._limits_s[number] = job.limit_s

    def _watch(self, number: int, running: Trial) -> None:
        """Record new held-out losses of a trial, and end it if they show that it is hopeless."""
        if running.seconds > self._limits_s.get(number, float("inf")):
            self._over_limit.add(number)
            running.stop()
        trial = self.journal.trials[number]
        losses = running.losses
        for evaluation in sorted(losses.keys() - trial.intermediate_values.keys()):
            if running.stopped_early:
                return  # what it still measures while it ends depends on the machine
            self.journal.report(trial, evaluation, losses[evaluation])
            self._is_changed = True
            seen = {key: loss for key, loss in losses.items() if key <= evaluation}
            if should_stop(self.settings, self.journal.trials, number, seen):
                running.stop(early=True)

    def _finish(self, number: int, running: Trial) -> bool:
        """Record a trial that has ended; return False if it was stopped and can be resumed."""
        self._watch(number, running)
        outcome = running.outcome(self.settings.objective.metric)
        trial = self.journal.trials[number]
        name = trial_name(self.folder, self.folder / "trials" / f"{number:04d}")
        self.budget.settle(name, running.cost_usd(self.budget.before(name)))
        if outcome is None and number in self._over_limit:
            message = f"took longer than {self._limits_s[number]:.0f} s, for which max_cost allows"
            outcome = TrialOutcome(TrialState.FAIL, message=message, seconds=running.seconds)
        if outcome is None:
            return False
        if outcome.state == TrialState.PRUNED:
            outcome = replace(outcome, value=_last(trial.intermediate_values))
        self._record(trial, outcome)
        return True

    def _note_restart(self, number: int) -> None:
        """Let a trial that neither the search nor the user stopped be resumed, a few times."""
        self._restarts[number] += 1
        if self._restarts[number] <= _MAX_RESTARTS:
            self.say(f"trial {number} was stopped from outside and is resumed")
            return
        message = f"stopped from outside {self._restarts[number]} times"
        self._record(self.journal.trials[number], TrialOutcome(TrialState.FAIL, message=message))

    def _record(self, trial: FrozenTrial, outcome: TrialOutcome) -> None:
        self.journal.finish(trial, outcome)
        self._claims.release(trial.number)
        self._is_changed = True
        done = self.journal.trials[trial.number]
        best = self.best
        marks = "  best so far" if best is not None and best.number == done.number else ""
        self.say(f"{trial_line(done, self.settings.num_trials)}{marks}")

    def _refuse_if_all_failed(self, trials: list[FrozenTrial]) -> None:
        messages = [str(trial.user_attrs.get("message", "")) for trial in trials]
        # Another trial of the same job measures no more.
        hopeless = any(NOT_MEASURED in message for message in messages)
        if len(trials) < max(_MAX_FIRST_FAILURES, self.settings.parallel) and not hopeless:
            return
        if any(trial.state != TrialState.FAIL for trial in trials):
            return
        first = "the first trial" if len(trials) == 1 else f"the first {len(trials)} trials"
        raise RunError(
            f"{first} failed, the last one because "
            f"{trials[-1].user_attrs.get('message') or 'of an unknown reason'}. "
            f"Logs: {self.folder / 'trials'}"
        )

    # --- stopping -----------------------------------------------------------------------------

    def _stop_all(self) -> None:
        for trial in self._running.values():
            trial.stop()
        for number, trial in list(self._running.items()):
            trial.wait()
            self._finish(number, trial)
            self._claims.release(number)
        self._running.clear()
        if self._on_change is not None and self._is_changed:
            self._on_change(self.journal.trials)

    def _kept_text(self) -> str:
        return f", {self._kept_usd:.2f} USD are kept for other seeds" if self._kept_usd else ""


def trial_name(search_folder: Path, folder: Path) -> str:
    """Return the name of a trial in the ledger: its folder below that of the search."""
    return folder.relative_to(search_folder).as_posix()


def trial_line(trial: FrozenTrial, total: int) -> str:
    """Return a finished trial as a line for the terminal."""
    values = " ".join(f"{key.rpartition('.')[2]}={_text(v)}" for key, v in trial.params.items())
    state = {TrialState.PRUNED: " ended early", TrialState.FAIL: "failed"}.get(trial.state, "")
    value = "" if trial.value is None else f"{trial.value:.4f}"
    name = " (the job as written)" if trial.user_attrs.get("kind") == BASELINE else ""
    message = trial.user_attrs.get("message", "")
    why = f": {message.splitlines()[0]}" if message else ""
    return f"trial {trial.number:>3} of {total}  {value}{state}  {values}{name}{why}"


def values_text(values: Mapping[str, Value]) -> str:
    """Return values as one line of text, rounded."""
    return " ".join(f"{key}={_text(value)}" for key, value in values.items())


def _text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _last(losses: Mapping[int, float]) -> float:
    return losses[max(losses)]
