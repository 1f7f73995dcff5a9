"""What happens in a rehearsal: submitted, interrupted, stopped, gone on with, finished, fetched.

Every step a person would take is taken by the command they would type; only the interruption is
the service's own doing.
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

Say = Callable[[str], None]

_STEP = re.compile(r"^step +(\d+)/(\d+) .*\| loss ")
_STAGE = re.compile(r"^stage (\d+)/\d+ [\w-]+$")
_LONGEST_WAIT_S = 3600.0
_TICK_S = 0.2


@dataclass(frozen=True, order=True)
class JobPlacement:
    """How far a job has come: its stage, from 1, and the optimizer steps taken in it."""

    stage: int
    step: int


@dataclass
class ScenarioResult:
    """What was seen.

    Attributes:
        run: The run's name.
        attempts: Names of the training jobs, oldest first.
        repeated_steps: After each break, the steps that were taken a second time.
        kept_step: Of the newest whole checkpoint in S3 when a machine was lost.
        went_on_at: The first step after each break.
        brought: Files that were fetched.
        seconds: How long each part took.
    """

    run: str = ""
    attempts: list[str] = field(default_factory=list)
    repeated_steps: dict[str, int] = field(default_factory=dict)
    went_on_at: dict[str, JobPlacement] = field(default_factory=dict)
    kept_step: int = 0
    brought: list[Path] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Scenario:
    """One rehearsal.

    Args:
        scene: Set up.
        job: The job file.
        settings: `KEY=VALUE` overrides.
        say: Tells the person what happens.
    """

    def __init__(self, scene: EmulatedEnvironment, job: Path, settings: tuple[str, ...], say: Say):
        self.scene, self.job, self.settings, self.say = scene, job, settings, say
        self.outcome = ScenarioResult()
        self._since = time.monotonic()

    def tell(self) -> ScenarioResult:
        """Play it to the end.

        Raises:
            LaunchError: Something did not go as it must.
        """
        self._submit()
        self._await_step(0.2)
        self._interrupt()
        self._await_step(0.4)
        self._lose()
        self._await_step(0.6)
        self._stop()
        self._resume()
        self._await("Completed")
        self._note("finished")
        self._fetch()
        return self.outcome

    @property
    def _train(self) -> tuple[str, ...]:
        environment = self.scene.environment.name
        return ("train", str(self.job), "--target", "sagemaker", "--env", environment)

    def _submit(self) -> None:
        said = self._command(*self._train)
        found = re.search(r"^run (\S+), job (\S+)$", said, re.MULTILINE)
        assert found is not None, said
        self.outcome.run = found[1]
        self.outcome.attempts.append(found[2])
        self._note("submitted")
        again = self._command(*self._train)
        if self.scene.service.calls.count("CreateTrainingJob") != 1:
            self._refuse_end(self.scene.service.job(self._job))
            raise LaunchError(f"the same command made a second job:\n{again}")
        self.say("the same command again attached to it, and made no second job")

    def _interrupt(self) -> None:
        """Take the spot capacity away, with two minutes' notice, and give it back."""
        self.say(f"spot capacity is taken away at {self._reached()}")
        self.scene.service.decide(self._job, "interrupt")
        self._await_streams(2)
        self._compare("interrupted", *self._streams()[-2:])

    def _lose(self) -> None:
        """Take the machine away without a word, and give another."""
        self.outcome.kept_step = self._kept_step()
        self.say(f"the machine is lost at {self._reached()}")
        self.scene.service.decide(self._job, "lose")
        self._await_streams(3)
        self._compare("lost", *self._streams()[-2:])

    def _stop(self) -> None:
        self._command("stop", self.outcome.run)
        self._await("Stopped")
        self._note("stopped")
        self._expect("status", "stopped")

    def _resume(self) -> None:
        before = self._streams()[-1]
        said = self._command("resume", self.outcome.run)
        self.outcome.attempts.append(said.split()[-1])
        self._await_streams(1)
        self._compare("stopped", before, self._streams()[-1])

    def _fetch(self) -> None:
        self._expect("status", "not deployed")
        self._command("logs", self.outcome.run)
        said = self._command("fetch", self.outcome.run)
        self.outcome.brought = [Path(line) for line in said.splitlines() if Path(line).exists()]
        self._note("fetched")

    # --- seeing -----------------------------------------------------------------------------

    @property
    def _job(self) -> str:
        return self.outcome.attempts[-1]

    def _streams(self) -> list[list[JobPlacement]]:
        """Return the steps that each start of the present attempt has logged."""
        return [_places(lines) for lines in self.scene.log_lines(self._job).values()]

    def _kept_step(self) -> int:
        """Return the step of the newest checkpoint of which every file is in S3; 0 for none."""
        request = self.scene.service.job(self._job).request
        prefix = S3Uri.parse(request["CheckpointConfig"]["S3Uri"])
        store = S3Store(self.scene.service.client("s3"))
        keys = {a.key.removeprefix(prefix.key): a for a, _ in store.list(prefix)}
        kept = [0]
        for name in [name for name in keys if name.endswith("/CHECKSUMS.json")]:
            folder = name.removesuffix("CHECKSUMS.json")
            text = store.get_text(keys[name])
            files = json.loads(text)["sums"] if text else {"": ""}
            if all(folder + file in keys for file in files):
                kept.append(int(folder.rstrip("/").rpartition("-")[2]))
        return max(kept)

    def _reached(self) -> str:
        place = self._streams()[-1][-1]
        return f"step {place.step}" + (f" of stage {place.stage}" if place.stage > 1 else "")

    def _compare(self, what: str, before: list[JobPlacement], after: list[JobPlacement]) -> None:
        if not before or not after:
            raise LaunchError(f"{self._job} took no step between two breaks: nothing to compare")
        again = [place for place in before if place >= after[0]]
        if after[0] == JobPlacement(1, 1):
            raise LaunchError(f"{self._job} started over after it was {what}")
        self.outcome.repeated_steps[what] = len(again)
        self.outcome.went_on_at[what] = after[0]
        self._note(what)
        self.say(f"went on at step {after[0].step}: {len(again)} steps were taken again")

    def _await_step(self, share: float) -> None:
        """Wait until a share of all steps is taken."""

        def far_enough() -> bool:
            for lines in list(self.scene.log_lines(self._job).values())[-1:]:
                steps = [m for m in map(_STEP.match, lines) if m]
                return bool(steps) and int(steps[-1][1]) >= share * int(steps[-1][2])
            return False

        self._until(far_enough)

    def _await_streams(self, count: int) -> None:
        """Wait until the present attempt has been started so often, and took a step then."""
        self._until(lambda: len(found := self._streams()) >= count and bool(found[-1]))

    def _await(self, status: str) -> None:
        job = self.scene.service.job(self._job)
        self._until(lambda: job.is_over, may_end=True)
        found = job.describe()
        if found["TrainingJobStatus"] != status:
            why = found.get("FailureReason", found["SecondaryStatus"])
            raise LaunchError(f"{self._job} ended as {found['TrainingJobStatus']}: {why}")

    def _until(self, happened: Callable[[], bool], *, may_end: bool = False) -> None:
        job = self.scene.service.job(self._job)
        end = time.monotonic() + _LONGEST_WAIT_S
        while not happened():
            if not may_end and job.is_over and not happened():
                self._refuse_end(job)
            if time.monotonic() > end:
                raise LaunchError(f"{self._job}: nothing happened for {_LONGEST_WAIT_S:.0f} s")
            time.sleep(_TICK_S)

    def _refuse_end(self, job: EmulatedTrainingJob) -> None:
        if job.is_over:
            found = job.describe()
            why = found.get("FailureReason", "give it more steps: SET=train.max_steps=…")
            raise LaunchError(f"{self._job} was over too early ({why})")

    # --- doing ------------------------------------------------------------------------------

    def _command(self, name: str, *arguments: str) -> str:
        settings = [f"--set={s}" for s in self.settings] if name == "train" else []
        shown = " ".join(("temper", name, *arguments))
        self.say(f"$ {shown}")
        done = self.scene.launch(name, *arguments, "--runs", str(self.scene.runs), *settings)
        if done.returncode:
            raise LaunchError(f"{shown} ended with {done.returncode}: {done.stderr or done.stdout}")
        if name in ("train", "stop", "status", "fetch", "resume"):
            for line in done.stdout.splitlines():
                self.say(f"  {line}")
        return done.stdout

    def _expect(self, command: str, words: str) -> None:
        said = self._command(command)
        if words not in said:
            raise LaunchError(f"{command} does not say {words!r}:\n{said}")

    def _note(self, part: str) -> None:
        now = time.monotonic()
        self.outcome.seconds[part] = now - self._since
        self._since = now


def _places(lines: list[str]) -> list[JobPlacement]:
    stage, found = 1, []
    for line in lines:
        if told := _STAGE.match(line):
            stage = int(told[1])
        elif step := _STEP.match(line):
            found.append(JobPlacement(stage, int(step[1])))
    return found
