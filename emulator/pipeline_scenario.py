"""Rehearsal of a pipeline: promoted and deployed, unchanged, not better, better but rolled back.

Every step of the user is `temper pipeline run`; only the fault is injected into the service.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emulator.command import say
from emulator.deployments.serving_platform import publish_serving
from emulator.environment import EmulatedEnvironment, emulated_environment
from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from launch.errors import LaunchError

_TICK_S = 0.25
_SPEED = 240.0
"""The waits of a canary, some minutes, pass in seconds."""
_REMOVAL_S = 60.0
_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
LIMITS = """\
A rehearsal does not prove that IAM allows these steps (tests/infra/test_permissions.py simulates
that), the quota and capacity of the account, or the speed of the machines."""


@dataclass
class PipelineRehearsal:
    """Observations of a rehearsed pipeline.

    Attributes:
        outcomes: Last line of each run of the pipeline.
        production: Version in production after each run.
        configs: Configuration of the endpoint that ran after each run.
        seconds: Duration of each part.
        cpu_seconds: Processor time of the processes of each part, those of containers included.
    """

    outcomes: list[str] = field(default_factory=list)
    production: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)


class PipelineScenario:
    """Rehearsal of a pipeline in an emulated environment.

    Args:
        environment: The environment.
        file: Pipeline file.
        better: Overrides with which the model becomes significantly better.
        worse: Overrides with which it does not.
        print_line: Prints a line to the user.
    """

    def __init__(
        self,
        environment: EmulatedEnvironment,
        file: Path,
        better: str,
        worse: str,
        print_line: Callable[[str], None],
    ):
        self.environment, self.file = environment, file
        self.better, self.worse = better, worse
        self.print_line, self.result = print_line, PipelineRehearsal()

    def run(self) -> PipelineRehearsal:
        """Run the rehearsal to its end.

        Raises:
            LaunchError: A run had another outcome than it must have.
        """
        publish_serving(self.environment)
        self._run("promoted", ": promoted: ")
        self._run("unchanged", ": unchanged: ")
        self._run("not promoted", ": not promoted: ", "--set", self.worse, "--ignore-cooldown")
        self.print_line("the next deployment is rolled back by the service, without a reason")
        self.environment.service.hosting.context.faults.silent_rollbacks = 1
        self._run("rolled back", ": rolled back: ", "--set", self.better, "--ignore-cooldown")
        production, configs = set(self.result.production), set(self.result.configs)
        if len(production) > 1 or len(configs) > 1:
            raise LaunchError(
                f"one version must stay in production; {', '.join(self.result.production)} were"
            )
        self._undeploy()
        return self.result

    def _undeploy(self) -> None:
        """Remove the deployment, and wait until the endpoint is gone.

        Raises:
            LaunchError: It stays.
        """
        name = self.result.outcomes[0].partition(":")[0]
        env = self.environment.environment.name
        self.print_line(f"$ temper undeploy {name} --env {env}")
        with moving_clock(self.environment):
            self.environment.run_temper("undeploy", name, "--env", env)
            deadline = time.monotonic() + _REMOVAL_S
            while self.environment.service.hosting.operations["ListEndpoints"]({})["Endpoints"]:
                if time.monotonic() > deadline:
                    raise LaunchError(f"{name} is still deployed")
                time.sleep(_TICK_S)

    def _run(self, part: str, expected: str, *options: str) -> None:
        began, cpu, work = time.monotonic(), _cpu_s(), self.environment.work
        env = self.environment.environment.name
        shown = " ".join(("temper pipeline run", str(self.file), "--env", env, *options))
        self.print_line(f"$ {shown}")
        with moving_clock(self.environment):
            done = self.environment.run_temper(
                *("pipeline", "run", str(self.file), "--env", env, *options),
                *("--runs", str(self.environment.runs), "--home", str(work / "pipeline-runs")),
                TEMPER_REGISTRY=str(work / "model-registry"),
            )
        for line in done.stdout.splitlines():
            if not line.startswith("    "):
                self.print_line(f"  {line}")
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
        if expected not in last:
            raise LaunchError(f"{shown} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        self.result.outcomes.append(last)
        self.result.production.append(self._production())
        self.result.configs.append(self._config())
        self.result.seconds[part] = time.monotonic() - began
        self.result.cpu_seconds[part] = _cpu_s() - cpu

    def _production(self) -> str:
        """Return the version in production."""
        done = self.environment.run_temper(
            "models", TEMPER_REGISTRY=str(self.environment.work / "model-registry")
        )
        lines = [line.split() for line in done.stdout.splitlines()]
        return next((words[0] for words in lines if words[1:2] == ["production"]), "none")

    def _config(self) -> str:
        """Return the configuration that the endpoint runs."""
        hosting = self.environment.service.hosting.operations
        [endpoint] = hosting["ListEndpoints"]({})["Endpoints"]
        described = hosting["DescribeEndpoint"]({"EndpointName": endpoint["EndpointName"]})
        return str(described["EndpointConfigName"])


@contextmanager
def moving_clock(environment: EmulatedEnvironment) -> Iterator[None]:
    """Advance the clock of deployments while commands of other processes wait for it.

    Args:
        environment: The environment.
    """
    over = threading.Event()

    def advance() -> None:
        while not over.wait(_TICK_S):
            environment.advance(_TICK_S * _SPEED)

    thread = threading.Thread(target=advance)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in _PROCESSES)


def rehearse_pipeline(file: Path, better: str, worse: str, env: str = "dev") -> PipelineRehearsal:
    """Deploy the platform to an emulated account, and run a pipeline four times.

    Args:
        file: Pipeline file.
        better: Overrides with which the model becomes significantly better.
        worse: Overrides with which it does not.
        env: A file of `environments/`.

    Raises:
        LaunchError: A run had another outcome than it must have.
    """
    work = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    try:
        say("deploying the platform to an emulated account …")
        began, cpu = time.monotonic(), _cpu_s()
        with emulated_environment(env, work, NamespaceRuntime(), ServiceTimings()) as environment:
            deployed, deployed_cpu = time.monotonic() - began, _cpu_s() - cpu
            say(f"deployed in {deployed:.0f} s")
            environment.promote_image("gpu")
            result = PipelineScenario(environment, file, better, worse, say).run()
            result.seconds = {"platform": deployed, **result.seconds}
            result.cpu_seconds = {"platform": deployed_cpu, **result.cpu_seconds}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for part, seconds in result.seconds.items():
        say(f"{part}: {seconds:.0f} s, {result.cpu_seconds[part]:.0f} s of processor time")
    say(LIMITS)
    return result
