"""One step of an execution: its job is created, repeated by its policies, and waited for."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.clock import Clock
from emulator.pipelines.conditions import is_met
from emulator.pipelines.definition import DefinedStep
from emulator.pipelines.functions import FunctionFailed, Invoke
from emulator.pipelines.job_kinds import JOB_KINDS, JobOperations
from emulator.pipelines.references import UnresolvedReference
from emulator.pipelines.retries import retry_delay_s
from emulator.request_validation import RequestRejected

Call = Callable[[str, dict[str, Any]], Mapping[str, Any]]
"""Executes an operation of SageMaker; raises `RequestRejected`."""
_POLL_S = 0.05
_NAME_CHARACTERS = 20
_REASON_CHARACTERS = 1024


class StepFailed(Exception):  # noqa: N818 (a result of the service, not a program error)
    """Failure of a step, whose text is its FailureReason."""


class StepStopped(Exception):  # noqa: N818 (a result of the service, not a program error)
    """End of a step that was stopped."""


@dataclass
class EmulatedStepRun:
    """State of a step in an execution, with the members that ListPipelineExecutionSteps shows.

    Attributes:
        status: Status; empty before it starts, `Skipped` if it will not.
        properties: What references to it find.
        shown: Further members of the response.
        started: Start in seconds since the epoch.
        ended: End in seconds since the epoch.
    """

    status: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True)
class StepServices:
    """Functions of the emulated services that steps use.

    Attributes:
        call: Executes an operation of SageMaker.
        invoke: Invokes a function.
        read: Returns the content of an address in S3.
        clock: Clock of the delays of retries, and of times.
    """

    call: Call
    invoke: Invoke
    read: Callable[[str], bytes]
    clock: Clock


class EmulatedStepRunner:
    """Runner of the steps of one execution.

    Args:
        services: The emulated services.
        execution: Id of the execution.
        stopping: Set when the execution is being stopped.
    """

    def __init__(self, services: StepServices, execution: str, stopping: threading.Event):
        self._services, self._execution, self._stopping = services, execution, stopping

    def run(self, step: DefinedStep, arguments: Any, run: EmulatedStepRun) -> Mapping[str, Any]:
        """Run a step to its end, and return its properties.

        Args:
            step: The step.
            arguments: Its arguments without references.
            run: Its state, into which its metadata are written.

        Raises:
            StepFailed: It failed.
            StepStopped: It was stopped.
        """
        if step.kind == "Condition":
            return self._compare(arguments, run)
        if step.kind == "Fail":
            message = str(arguments["ErrorMessage"])
            run.shown["Metadata"] = {"Fail": {"ErrorMessage": message}}
            raise StepFailed(message)
        if step.kind == "Lambda":
            return self._invoke(step, arguments, run)
        return self._repeat(step, arguments, run)

    def _compare(
        self, conditions: list[Mapping[str, Any]], run: EmulatedStepRun
    ) -> Mapping[str, Any]:
        try:
            outcome = str(all(is_met(one) for one in conditions))
        except TypeError as error:
            raise StepFailed(f"ClientError: {error}") from error
        run.shown["Metadata"] = {"Condition": {"Outcome": outcome}}
        return {"Outcome": outcome}

    def _invoke(self, step: DefinedStep, event: Any, run: EmulatedStepRun) -> Mapping[str, Any]:
        arn = step.document["FunctionArn"]
        try:
            answer = self._services.invoke(arn, event)
        except FunctionFailed as error:
            raise StepFailed(str(error)) from error
        answer = answer if isinstance(answer, dict) else {}
        if missing := [name for name in step.outputs if answer.get(name) is None]:
            raise StepFailed(f"ClientError: the answer of {arn} lacks {', '.join(missing)}")
        outputs = {name: answer[name] for name in step.outputs}
        run.shown["Metadata"] = {
            "Lambda": {
                "Arn": arn,
                "OutputParameters": [
                    {"Name": name, "Value": str(value)} for name, value in outputs.items()
                ],
            }
        }
        return {"OutputParameters": outputs}

    def _repeat(self, step: DefinedStep, arguments: Any, run: EmulatedStepRun) -> Mapping[str, Any]:
        """Run a job, and repeat it as the policies of the step say.

        Raises:
            StepFailed: It failed, and is not repeated.
        """
        kind, attempt, clock = JOB_KINDS[step.kind], 1, self._services.clock
        began = clock.now()
        while True:
            run.shown["AttemptCount"] = attempt
            try:
                return self._run_job(step.name, kind, arguments, run)
            except StepFailed as error:
                policies = step.document.get("RetryPolicies", ())
                delay = retry_delay_s(policies, str(error), attempt, clock.now() - began)
                if delay is None:
                    raise
                self._wait(delay)
                attempt += 1

    def _wait(self, seconds: float) -> None:
        """Wait by the clock of the service.

        Raises:
            StepStopped: The execution was stopped meanwhile.
        """
        over = threading.Event()
        self._services.clock.call_later(seconds, over.set)
        while not over.wait(_POLL_S):
            if self._stopping.is_set():
                raise StepStopped

    def _run_job(
        self, step: str, kind: JobOperations, arguments: dict[str, Any], run: EmulatedStepRun
    ) -> Mapping[str, Any]:
        request = dict(arguments)
        if kind.status:
            random = secrets.token_hex(5)
            short = step[:_NAME_CHARACTERS].rstrip("-")
            request[kind.name] = f"pipelines-{self._execution}-{short}-{random}"
        try:
            created = self._services.call(kind.create, request)
        except RequestRejected as error:
            raise StepFailed(str(error)[:_REASON_CHARACTERS]) from error
        run.shown["Metadata"] = {kind.metadata: {"Arn": created[kind.arn]}}
        if not kind.status:
            return self._services.call(kind.describe, {kind.name: created[kind.arn]})
        return self._wait_for(kind, {kind.name: request[kind.name]})

    def _wait_for(self, kind: JobOperations, name: dict[str, Any]) -> Mapping[str, Any]:
        """Return the description of a job that has completed.

        Raises:
            StepFailed: It failed, or its job was stopped alone.
            StepStopped: It was stopped with the execution.
        """
        pause, stopped = threading.Event(), False
        while True:
            described = self._services.call(kind.describe, dict(name))
            status = described[kind.status]
            if status == "Completed":
                return described
            if status == "Failed":
                raise StepFailed(str(described.get("FailureReason", ""))[:_REASON_CHARACTERS])
            if status == "Stopped":
                if self._stopping.is_set():
                    raise StepStopped
                raise StepFailed("ClientError: the job was stopped")
            if self._stopping.is_set() and not stopped:
                stopped = True
                self._services.call(kind.stop, dict(name))
            pause.wait(_POLL_S)

    def property_file(self, step: DefinedStep, properties: Mapping[str, Any], name: str) -> Any:
        """Return the content of a property file.

        Args:
            step: Step that wrote it.
            properties: Properties of that step.
            name: Name of the file.

        Raises:
            UnresolvedReference: It does not exist, or is not JSON.
        """
        file = step.property_files[name]
        outputs = properties.get("ProcessingOutputConfig", {}).get("Outputs", ())
        found = [
            one["S3Output"]["S3Uri"] for one in outputs if one["OutputName"] == file["OutputName"]
        ]
        if not found:
            raise UnresolvedReference(
                f"the output {file['OutputName']} of {step.name} does not exist"
            )
        address = f"{found[0].rstrip('/')}/{file['FilePath']}"
        try:
            return json.loads(self._services.read(address))
        except (FileNotFoundError, ValueError) as error:
            raise UnresolvedReference(
                f"the property file {address} cannot be read: {error}"
            ) from error
