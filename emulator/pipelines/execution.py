"""Execution of a pipeline: Executing → Succeeded, Failed, or Stopping → Stopped."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from emulator.pipelines.definition import BRANCHES, DefinedStep, ParsedDefinition
from emulator.pipelines.job_kinds import JOB_KINDS
from emulator.pipelines.references import ReferenceResolver, UnresolvedReference
from emulator.pipelines.step_cache import CachedResult, StepCache
from emulator.pipelines.step_run import (
    EmulatedStepRun,
    EmulatedStepRunner,
    StepFailed,
    StepServices,
    StepStopped,
)

_FAILED = "Step failure: One or multiple steps failed."
_MOST_PARALLEL = 50


@dataclass(frozen=True)
class ExecutionRequest:
    """Definition and values that an execution is started with.

    Attributes:
        pipeline: Name and ARN of the pipeline.
        id: Id of the execution.
        definition: The definition.
        parameters: Values of all parameters.
        shown: Members of the request that the description repeats.
        parallel: Most steps that run at the same time.
    """

    pipeline: tuple[str, str]
    id: str
    definition: ParsedDefinition
    parameters: Mapping[str, Any]
    shown: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = _MOST_PARALLEL

    @property
    def arn(self) -> str:
        """ARN of the execution."""
        return f"{self.pipeline[1]}/execution/{self.id}"


class EmulatedExecution:
    """Execution that runs in a thread from its start to its end.

    Args:
        request: What it is started with.
        services: The emulated services.
        cache: Results of earlier executions of the pipeline.
    """

    def __init__(self, request: ExecutionRequest, services: StepServices, cache: StepCache):
        self.request, self._services, self._cache = request, services, cache
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self.steps = {step.name: step for step in request.definition.steps}
        self.runs = {name: EmulatedStepRun() for name in self.steps}
        self.status, self.failure = "Executing", ""
        self.started = self.changed = services.clock.now()
        self._runner = EmulatedStepRunner(services, request.id, self._stopping)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        self._thread.join(timeout_s)

    def stop(self) -> bool:
        """Stop the execution and its jobs; return False if it is not executing."""
        with self._lock:
            if self.status != "Executing":
                return False
            self.status = "Stopping"
            self._stopping.set()
            return True

    def retry(self) -> bool:
        """Run the steps that did not succeed again; return False if it has not failed."""
        with self._lock:
            if self.status not in ("Failed", "Stopped"):
                return False
            self.status, self.failure = "Executing", ""
            self._stopping.clear()
            for name, run in self.runs.items():
                if run.status != "Succeeded":
                    self.runs[name] = EmulatedStepRun()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return True

    def describe(self) -> dict[str, Any]:
        """Return the execution as DescribePipelineExecution does."""
        return {
            **self.request.shown,
            "PipelineArn": self.request.pipeline[1],
            "PipelineExecutionArn": self.request.arn,
            "PipelineExecutionStatus": self.status,
            "CreationTime": self.started,
            "LastModifiedTime": self.changed,
            **({"FailureReason": self.failure} if self.failure else {}),
        }

    def list_steps(self) -> list[dict[str, Any]]:
        """Return the steps that have started, as ListPipelineExecutionSteps does, oldest first."""
        started = [(name, run) for name, run in self.runs.items() if run.started]
        started.sort(key=lambda one: one[1].started)
        return [
            {
                "StepName": name,
                "StartTime": run.started,
                "StepStatus": run.status,
                "AttemptCount": 1,
                **({"EndTime": run.ended} if run.ended else {}),
                **run.shown,
            }
            for name, run in started
        ]

    def _run(self) -> None:
        running: dict[Future[None], str] = {}
        with ThreadPoolExecutor(self.request.parallel) as pool:
            while True:
                for name in self._ready():
                    self.runs[name].status = "Executing"
                    self.runs[name].started = self._services.clock.now()
                    running[pool.submit(self._run_step, self.steps[name])] = name
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    future.result()
        statuses = {run.status for run in self.runs.values()}
        with self._lock:
            self.changed = self._services.clock.now()
            if "Failed" in statuses:
                self.status, self.failure = "Failed", _FAILED
            else:
                self.status = "Stopped" if self._stopping.is_set() else "Succeeded"

    def _ready(self) -> list[str]:
        """Return the steps that can start, and mark those that never will."""
        if self._stopping.is_set() or any(run.status == "Failed" for run in self.runs.values()):
            return []
        ready = []
        for name, step in self.steps.items():
            if self.runs[name].status:
                continue
            before = [self.runs[other].status for other in step.waits_for]
            if self._is_skipped(step) or "Skipped" in before:
                self.runs[name].status = "Skipped"
            elif all(status == "Succeeded" for status in before):
                ready.append(name)
        return ready

    def _is_skipped(self, step: DefinedStep) -> bool:
        """Return whether a condition has taken the other branch."""
        outcomes = [
            (self.runs[condition].properties.get("Outcome"), BRANCHES[branch])
            for condition, branch in step.branches
        ]
        return any(outcome not in (None, wanted) for outcome, wanted in outcomes)

    def _run_step(self, step: DefinedStep) -> None:
        run = self.runs[step.name]
        try:
            run.properties = self._execute(step, run)
            run.status = "Succeeded"
        except StepStopped:
            run.status = "Stopped"
        except (StepFailed, UnresolvedReference) as error:
            run.status, run.shown["FailureReason"] = "Failed", str(error)
        except Exception as error:  # the service, too, reports its own faults as a failed step
            run.status, run.shown["FailureReason"] = "Failed", f"InternalFailure: {error!r}"
        run.ended = self._services.clock.now()

    def _execute(self, step: DefinedStep, run: EmulatedStepRun) -> Mapping[str, Any]:
        arguments = self._resolver().resolve(step.arguments)
        if step.kind not in JOB_KINDS:
            return self._runner.run(step, arguments, run)
        now = self._services.clock.now()
        cached = self._cache.find(step, arguments, now)
        if cached is not None:
            run.shown["CacheHitResult"] = {"SourcePipelineExecutionArn": cached.execution}
            run.shown["Metadata"] = cached.metadata
            return cached.properties
        properties = self._runner.run(step, arguments, run)
        now = self._services.clock.now()
        result = CachedResult(now, properties, run.shown["Metadata"], self.request.arn)
        self._cache.add(step, arguments, result)
        return properties

    def _resolver(self) -> ReferenceResolver:
        def read_file(name: str, file: str) -> Any:
            properties = self.runs[name].properties
            return self._runner.property_file(self.steps[name], properties, file)

        name, arn = self.request.pipeline
        times = [datetime.fromtimestamp(one, UTC).isoformat() for one in
                 (self.started, self._services.clock.now())]  # fmt: skip
        execution = {
            "PipelineExecutionId": self.request.id,
            "PipelineExecutionArn": self.request.arn,
            "PipelineName": name,
            "PipelineArn": arn,
            "StartDateTime": times[0],
            "CurrentDateTime": times[1],
        }
        return ReferenceResolver(
            self.request.parameters, execution, lambda step: self.runs[step].properties, read_file
        )
