"""Rehearsal of a pipeline in SageMaker Pipelines: created, executed, and executed again.

The user's steps are `temper pipeline render --upsert --start`, `temper pipeline run --package` for
the promotion, and `temper pipeline run` on this machine, which must train the same weights.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from emulator.command import say
from emulator.deployments.serving_platform import publish_serving
from emulator.environment import STACKS, EmulatedEnvironment, emulated_environment
from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.moto_account import ROOT
from emulator.pipeline_scenario import LIMITS, moving_clock
from launch.errors import LaunchError
from training.models.weights_digest import weights_digest

_TICK_S = 0.2
_LIMIT_S = 900.0
_LOG_LINES = 15


@dataclass
class ExecutionRehearsal:
    """Observations of a pipeline that was executed.

    Attributes:
        steps: Outcome of each step of each execution: its status or `cached`; of a condition its
            result, and of a Lambda step its outputs.
        digests: Digest of the weights of the executed training, and of the run here.
        seconds: Duration of each part.
    """

    steps: list[dict[str, str]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class ExecutionScenario:
    """Rehearsal of a pipeline in an emulated environment that has the stack of pipelines.

    Args:
        environment: The environment.
        file: Pipeline file.
        name: Name of the pipeline.
        print_line: Prints a line to the user.
    """

    def __init__(
        self,
        environment: EmulatedEnvironment,
        file: Path,
        name: str,
        print_line: Callable[[str], None],
    ):
        self.environment, self.file, self.name = environment, file, name
        self.print_line, self.result = print_line, ExecutionRehearsal()
        self.sagemaker = environment.client("sagemaker")

    def run(self) -> ExecutionRehearsal:
        """Run the rehearsal to its end.

        Raises:
            LaunchError: A part had another outcome than it must have.
        """
        package = self._execute("executed")
        if package is None:
            raise LaunchError("the execution has registered no model package")
        self._promote(package)
        self._run_here("the same model here")
        first, second = self.result.digests
        if first != second:
            raise LaunchError(f"the execution trained {first}, and this machine {second}")
        if self._execute("executed again") is not None:
            raise LaunchError("a model that is not better was registered")
        return self.result

    def _execute(self, part: str) -> str | None:
        """Execute the pipeline; return the ARN of the model package that it has registered, if any.

        Raises:
            LaunchError: It did not succeed.
        """
        began = time.monotonic()
        env = self.environment.environment.name
        command = ("pipeline", "render", str(self.file), "--env", env, "--upsert", "--start")
        arn = self._temper(*command).strip().splitlines()[-1].removeprefix("execution: ")
        status, steps = self._wait(arn)
        self.result.steps.append({step["StepName"]: _outcome(step) for step in steps})
        if status != "Succeeded":
            raise LaunchError("\n".join(self._failure(steps)))
        self.result.seconds[part] = time.monotonic() - began
        packages = [
            str(step["Metadata"]["RegisterModel"]["Arn"])
            for step in steps
            if "RegisterModel" in step.get("Metadata", {})
        ]
        return packages[0] if packages else None

    def _wait(self, arn: str) -> tuple[str, list[dict[str, Any]]]:
        """Print each step when it ends; return the status of the execution, and its steps.

        Raises:
            LaunchError: It takes too long.
        """
        seen: dict[str, float] = {}
        deadline = time.monotonic() + _LIMIT_S
        while True:
            described = self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
            status = str(described["PipelineExecutionStatus"])
            steps: list[dict[str, Any]] = self.sagemaker.list_pipeline_execution_steps(
                PipelineExecutionArn=arn, SortOrder="Ascending"
            )["PipelineExecutionSteps"]
            for step in steps:
                began = seen.setdefault(step["StepName"], time.monotonic())
                if began and "EndTime" in step:
                    seconds = time.monotonic() - began
                    self.print_line(f"  {step['StepName']}: {_outcome(step)} ({seconds:.0f} s)")
                    seen[step["StepName"]] = 0.0
            if status not in ("Executing", "Stopping"):
                return status, steps
            if time.monotonic() > deadline:
                raise LaunchError(f"{arn} has not ended after {_LIMIT_S:.0f} s")
            time.sleep(_TICK_S)

    def _failure(self, steps: list[dict[str, Any]]) -> list[str]:
        """Return the reason of each step that failed, with the end of its log."""
        lines = []
        for step in steps:
            if step["StepStatus"] != "Failed":
                continue
            lines.append(f"{step['StepName']}: {step.get('FailureReason')}")
            for kind, job in step.get("Metadata", {}).items():
                if kind in ("TrainingJob", "ProcessingJob"):
                    name, group = job["Arn"].rpartition("/")[2], f"/aws/sagemaker/{kind}s"
                    for log in self.environment.log_lines(name, group).values():
                        lines += log[-_LOG_LINES:]
        return lines

    def _promote(self, package: str) -> None:
        """Register, promote and deploy the model of the execution; nothing is trained.

        Raises:
            LaunchError: It was not promoted.
        """
        began, runs = time.monotonic(), self.environment.work / "executed"
        env = ("--env", self.environment.environment.name)
        home = ("--home", str(self.environment.work / "promotions"))
        options = ("--runs", str(runs))
        with moving_clock(self.environment):
            done = self._temper(
                *("pipeline", "run", str(self.file), *env, "--package", package),
                unseen=(*options, *home),
            )
        last = done.splitlines()[-1]
        self.print_line(f"  {last}")
        if f": promoted: {self.name}@1.0.0 is production" not in last or "train: starts" in done:
            raise LaunchError(f"the model of the execution was not promoted:\n{done}")
        again = self._temper("pipeline", "register", package, *env, unseen=options)
        if f"{self.name}@1.0.0 is registered already" not in again:
            raise LaunchError(f"one model has two versions:\n{again}")
        self.result.digests.append(_digest_of_model(runs))
        self.result.seconds["promoted"] = time.monotonic() - began

    def _run_here(self, part: str) -> None:
        """Run the pipeline on this machine, against the version that the execution has trained.

        Raises:
            LaunchError: It failed, or promoted the same model again.
        """
        began, runs = time.monotonic(), self.environment.runs
        home = str(self.environment.work / "pipeline-runs")
        options = ("--runs", str(runs), "--home", home)
        last = self._temper("pipeline", "run", str(self.file), unseen=options).splitlines()[-1]
        self.print_line(f"  {last}")
        if ": not promoted: " not in last:
            raise LaunchError(f"a model that is not better was promoted: {last}")
        self.result.digests.append(_digest_of_model(runs))
        self.result.seconds[part] = time.monotonic() - began

    def _temper(self, *arguments: str, unseen: tuple[str, ...] = ()) -> str:
        """Run a command and return its output.

        Args:
            arguments: Arguments of `temper`.
            unseen: Further ones, which name folders of the rehearsal.

        Raises:
            LaunchError: It failed.
        """
        self.print_line(f"$ temper {shlex.join(arguments)}")
        registry = str(self.environment.work / "model-registry")
        done = self.environment.run_temper(*arguments, *unseen, TEMPER_REGISTRY=registry)
        if done.returncode:
            raise LaunchError(f"{done.stdout}{done.stderr}")
        return done.stdout


def _digest_of_model(runs: Path) -> str:
    """Return the digest of the weights of the only run in a folder."""
    (model,) = {path.resolve() for path in runs.glob("*/*/model")}
    return weights_digest(model)


def _outcome(step: dict[str, Any]) -> str:
    """Return the outcome of a step, as a reader of the console sees it."""
    metadata = step.get("Metadata", {})
    if "Condition" in metadata:
        return str(metadata["Condition"]["Outcome"])
    if outputs := metadata.get("Lambda", {}).get("OutputParameters"):
        return ", ".join(one["Value"] for one in outputs)
    return "cached" if "CacheHitResult" in step else str(step["StepStatus"])


def rehearse_execution(file: Path, name: str, env: str = "dev") -> ExecutionRehearsal:
    """Deploy the platform to an emulated account, and execute a pipeline in it twice.

    Args:
        file: Pipeline file.
        name: Name of the pipeline.
        env: A file of `environments/`.

    Raises:
        LaunchError: A part had another outcome than it must have.
    """
    work = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    try:
        environments = _with_pipeline(env, name, work / "environments")
        say("deploying the platform to an emulated account …")
        began = time.monotonic()
        with emulated_environment(
            *(env, work, NamespaceRuntime(), ServiceTimings()),
            environments,
            (*STACKS, "pipelines"),
        ) as environment:
            deployed = time.monotonic() - began
            say(f"deployed in {deployed:.0f} s")
            for image in ("gpu", "prepare"):
                environment.promote_image(image)
            publish_serving(environment)
            result = ExecutionScenario(environment, file, name, say).run()
            result.seconds = {"platform": deployed, **result.seconds}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for part, seconds in result.seconds.items():
        say(f"{part}: {seconds:.0f} s")
    say(LIMITS)
    return result


def _with_pipeline(env: str, name: str, folder: Path) -> Path:
    """Write a copy of an environment in which a pipeline can run, and return its folder."""
    document = yaml.safe_load((ROOT / "environments" / f"{env}.yaml").read_text(encoding="utf-8"))
    pipelines = document.setdefault("pipelines", {})
    retraining = pipelines.setdefault("retraining", [])
    if name not in [one["name"] for one in retraining]:
        retraining.append({"name": name})
    folder.mkdir(parents=True)
    (folder / f"{env}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder
