"""Scenario of a rehearsal: submit, interrupt, fail, stop, resume, finish and fetch a job.

Every step of the user is the `temper` command that a user would type; only the interruption and
the machine failure are injected into the service.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from emulator.environment import EmulatedEnvironment
from emulator.job_lifecycle import EmulatedTrainingJob
from launch.aws.s3 import S3Store, S3Uri
from launch.errors import LaunchError

Print = Callable[[str], None]

_STEP = re.compile(r"^step +(\d+)/(\d+) .*\| loss ")
_STAGE = re.compile(r"^stage (\d+)/\d+ [\w-]+$")
_TIMEOUT_S = 3600.0
_TICK_S = 0.2


@dataclass(frozen=True, order=True)
class JobProgress:
    """Progress of a job: its stage, from 1, and the optimizer steps taken in it."""

    stage: int
    step: int


@dataclass
class ScenarioResult:
    """Observations of a rehearsal.

    Attributes:
        run: Name of the run.
        attempts: Names of the training jobs, oldest first.
        repeated_steps: Steps that were repeated after each break, by the kind of break.
        resumed_at: First step after each break, by the kind of break.
        checkpoint_step: Step of the newest complete checkpoint in S3 when the machine failed.
        fetched: Downloaded files.
        seconds: Duration of each part.
    """

    run: str = ""
    attempts: list[str] = field(default_factory=list)
    repeated_steps: dict[str, int] = field(default_factory=dict)
    resumed_at: dict[str, JobProgress] = field(default_factory=dict)
    checkpoint_step: int = 0
    fetched: list[Path] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Scenario:
    """Rehearsal of one job.

    Args:
        environment: Emulated environment.
        job: Job file.
        overrides: `KEY=VALUE` overrides.
        print_line: Prints a line to the user.
    """

    def __init__(
        self,
        environment: EmulatedEnvironment,
        job: Path,
        overrides: tuple[str, ...],
        print_line: Print,
    ):
        self.environment, self.job, self.overrides = environment, job, overrides
        self.print_line = print_line
        self.result = ScenarioResult()
        self._part_started = time.monotonic()

    def run(self) -> ScenarioResult:
        """Run the rehearsal to its end.

        Raises:
            LaunchError: A step had another result than it must have.
        """
        self._submit()
        self._await_fraction(0.2)
        self._interrupt()
        self._await_fraction(0.4)
        self._lose_machine()
        self._await_fraction(0.6)
        self._stop()
        self._resume()
        self._await_end("Completed")
        self._finish_part("finished")
        self._fetch()
        return self.result

    # --- steps ------------------------------------------------------------------------------

    @property
    def _train_command(self) -> tuple[str, ...]:
        name = self.environment.environment.name
        return ("train", str(self.job), "--target", "sagemaker", "--env", name)

    def _submit(self) -> None:
        output = self._command(*self._train_command)
        match = re.search(r"^run (\S+), job (\S+)$", output, re.MULTILINE)
        assert match is not None, output
        self.result.run = match[1]
        self.result.attempts.append(match[2])
        self._finish_part("submitted")
        repeated = self._command(*self._train_command)
        if self.environment.service.calls.count("CreateTrainingJob") != 1:
            self._raise_if_over(self._training_job)
            raise LaunchError(f"the same command created a second job:\n{repeated}")
        self.print_line("the same command again attached to the job, and created no second one")

    def _interrupt(self) -> None:
        """Reclaim the spot capacity, with the service's notice, and give it back."""
        self.print_line(f"spot capacity is reclaimed at {self._current_step()}")
        self.environment.service.trigger(self._job_name, "interrupt")
        self._await_starts(2)
        self._compare("interrupted", *self._starts()[-2:])

    def _lose_machine(self) -> None:
        """Fail the machine without notice; the service replaces it."""
        self.result.checkpoint_step = self._newest_checkpoint_step()
        self.print_line(f"the machine fails at {self._current_step()}")
        self.environment.service.trigger(self._job_name, "lose")
        self._await_starts(3)
        self._compare("lost", *self._starts()[-2:])

    def _stop(self) -> None:
        self._command("stop", self.result.run)
        self._await_end("Stopped")
        self._finish_part("stopped")
        self._expect("status", "stopped")

    def _resume(self) -> None:
        before = self._starts()[-1]
        output = self._command("resume", self.result.run)
        self.result.attempts.append(output.split()[-1])
        self._await_starts(1)
        self._compare("stopped", before, self._starts()[-1])

    def _fetch(self) -> None:
        self._expect("status", "not deployed")
        self._command("logs", self.result.run)
        output = self._command("fetch", self.result.run)
        self.result.fetched = [Path(line) for line in output.splitlines() if Path(line).exists()]
        self._finish_part("fetched")

    # --- observations -----------------------------------------------------------------------

    @property
    def _job_name(self) -> str:
        return self.result.attempts[-1]

    @property
    def _training_job(self) -> EmulatedTrainingJob:
        job = self.environment.service.job(self._job_name)
        assert isinstance(job, EmulatedTrainingJob), "a rehearsal runs in containers"
        return job

    def _starts(self) -> list[list[JobProgress]]:
        """Return the steps that each start of the latest attempt has logged."""
        return [_logged_steps(lines) for lines in self._streams()]

    def _streams(self) -> list[list[str]]:
        return list(self.environment.log_lines(self._job_name).values())

    def _newest_checkpoint_step(self) -> int:
        """Return the step of the newest checkpoint that is complete in S3; 0 for none.

        `CHECKSUMS.json` lists every file of a checkpoint.
        """
        prefix = S3Uri.parse(self._training_job.request["CheckpointConfig"]["S3Uri"])
        store = S3Store(self.environment.service.client("s3"))
        keys = {uri.key.removeprefix(prefix.key): uri for uri, _ in store.list(prefix)}
        steps = [0]
        for name in [name for name in keys if name.endswith("/CHECKSUMS.json")]:
            folder = name.removesuffix("CHECKSUMS.json")
            text = store.get_text(keys[name])
            files = json.loads(text)["sums"] if text else {"": ""}
            if all(folder + file in keys for file in files):
                steps.append(int(folder.rstrip("/").rpartition("-")[2]))
        return max(steps)

    def _current_step(self) -> str:
        progress = self._starts()[-1][-1]
        stage = f" of stage {progress.stage}" if progress.stage > 1 else ""
        return f"step {progress.step}{stage}"

    def _compare(self, kind: str, before: list[JobProgress], after: list[JobProgress]) -> None:
        """Record the steps of `before` that the next start repeated.

        Raises:
            LaunchError: The job started over, or there is nothing to compare.
        """
        if not before or not after:
            raise LaunchError(
                f"{self._job_name} took no step between two breaks: nothing to compare"
            )
        repeated = [progress for progress in before if progress >= after[0]]
        if after[0] == JobProgress(1, 1):
            raise LaunchError(f"{self._job_name} started over after it was {kind}")
        self.result.repeated_steps[kind] = len(repeated)
        self.result.resumed_at[kind] = after[0]
        self._finish_part(kind)
        self.print_line(f"resumed at step {after[0].step}: {len(repeated)} steps were repeated")

    # --- waiting ----------------------------------------------------------------------------

    def _await_fraction(self, fraction: float) -> None:
        """Wait until a fraction of all steps is taken."""

        def is_reached() -> bool:
            for lines in self._streams()[-1:]:
                steps = [match for match in map(_STEP.match, lines) if match]
                return bool(steps) and int(steps[-1][1]) >= fraction * int(steps[-1][2])
            return False

        self._await(is_reached)

    def _await_starts(self, count: int) -> None:
        """Wait until the latest attempt has started so often, and has taken a step since."""
        self._await(lambda: len(starts := self._starts()) >= count and bool(starts[-1]))

    def _await_end(self, status: str) -> None:
        job = self._training_job
        self._await(lambda: job.is_over, may_end=True)
        described = job.describe()
        if described["TrainingJobStatus"] != status:
            reason = described.get("FailureReason", described["SecondaryStatus"])
            ended = described["TrainingJobStatus"]
            raise LaunchError(f"{self._job_name} ended as {ended}: {reason}")

    def _await(self, condition: Callable[[], bool], *, may_end: bool = False) -> None:
        job = self._training_job
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition():
            if not may_end and job.is_over and not condition():
                self._raise_if_over(job)
            if time.monotonic() > deadline:
                raise LaunchError(f"{self._job_name}: nothing happened for {_TIMEOUT_S:.0f} s")
            time.sleep(_TICK_S)

    def _raise_if_over(self, job: EmulatedTrainingJob) -> None:
        if job.is_over:
            described = job.describe()
            reason = described.get("FailureReason", "give it more steps: --set train.max_steps=…")
            raise LaunchError(f"{self._job_name} ended too early ({reason})")

    # --- commands ---------------------------------------------------------------------------

    def _command(self, name: str, *arguments: str) -> str:
        overrides = [f"--set={override}" for override in self.overrides] if name == "train" else []
        shown = " ".join(("temper", name, *arguments))
        self.print_line(f"$ {shown}")
        runs = str(self.environment.runs)
        done = self.environment.run_temper(name, *arguments, "--runs", runs, *overrides)
        if done.returncode:
            raise LaunchError(f"{shown} ended with {done.returncode}: {done.stderr or done.stdout}")
        if name in ("train", "stop", "status", "fetch", "resume"):
            for line in done.stdout.splitlines():
                self.print_line(f"  {line}")
        return done.stdout

    def _expect(self, command: str, words: str) -> None:
        output = self._command(command)
        if words not in output:
            raise LaunchError(f"{command} does not print {words!r}:\n{output}")

    def _finish_part(self, part: str) -> None:
        now = time.monotonic()
        self.result.seconds[part] = now - self._part_started
        self._part_started = now


def _logged_steps(lines: list[str]) -> list[JobProgress]:
    stage, steps = 1, []
    for line in lines:
        if match := _STAGE.match(line):
            stage = int(match[1])
        elif step := _STEP.match(line):
            steps.append(JobProgress(stage, int(step[1])))
    return steps
