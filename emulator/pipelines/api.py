"""Emulated operations on pipelines and their executions."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from emulator.aws_service import Handler
from emulator.moto_account import ACCOUNT
from emulator.pipelines.definition import ParsedDefinition, parse_definition
from emulator.pipelines.definition_rules import definition_errors
from emulator.pipelines.execution import EmulatedExecution, ExecutionRequest
from emulator.pipelines.references import UnresolvedReference
from emulator.pipelines.step_cache import StepCache
from emulator.pipelines.step_run import StepServices
from emulator.request_validation import Client, RequestRejected, check_role, reject

_ID_CHARACTERS = 12
_TYPES: dict[str, type | tuple[type, ...]] = {
    "String": str,
    "Integer": int,
    "Float": (int, float),
    "Boolean": bool,
}
_PAGE = 100


@dataclass
class EmulatedPipeline:
    """Pipeline of the account.

    Attributes:
        request: Members that DescribePipeline repeats.
        definition: The definition.
        created: Creation in seconds since the epoch.
        modified: Last update.
        cache: Results of its steps.
        executions: Executions by ARN, oldest first.
        tokens: Execution that each token started.
    """

    request: dict[str, Any]
    definition: ParsedDefinition
    created: float
    modified: float
    cache: StepCache = field(default_factory=StepCache)
    executions: dict[str, EmulatedExecution] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return str(self.request["PipelineName"])


class PipelineApi:
    """Pipelines of one Region.

    Args:
        client: Returns the boto3 client of a service of the emulated account.
        region: The Region.
        services: Services of the steps.
    """

    def __init__(self, client: Client, region: str, services: StepServices):
        self._client, self._services = client, services
        self._prefix = f"arn:aws:sagemaker:{region}:{ACCOUNT}:pipeline/"
        self._pipelines: dict[str, EmulatedPipeline] = {}
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "CreatePipeline": self._create,
            "UpdatePipeline": self._update,
            "DescribePipeline": self._describe,
            "ListPipelines": self._list,
            "DeletePipeline": self._delete,
            "StartPipelineExecution": self._start,
            "DescribePipelineExecution": lambda r: self._execution(r).describe(),
            "DescribePipelineDefinitionForExecution": self._definition_of,
            "ListPipelineParametersForExecution": self._parameters_of,
            "ListPipelineExecutions": self._list_executions,
            "ListPipelineExecutionSteps": self._list_steps,
            "StopPipelineExecution": self._stop,
            "RetryPipelineExecution": self._retry,
        }

    def close(self, grace_s: float) -> None:
        """Stop every execution and forget all."""
        executions = [one for p in self._pipelines.values() for one in p.executions.values()]
        for execution in executions:
            execution.stop()
        for execution in executions:
            execution.join(grace_s)
        self._pipelines = {}

    # --- pipelines --------------------------------------------------------------------------

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        definition = self._check(request)
        name, now = request["PipelineName"], self._services.clock.now()
        with self._lock:
            if name in self._pipelines:
                reject(
                    "Pipeline names must be unique within an AWS account and region. "
                    f"Pipeline with name ({name}) already exists."
                )
            self._pipelines[name] = EmulatedPipeline(_kept(request), definition, now, now)
        return {"PipelineArn": self._prefix + name}

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        pipeline = self._pipeline(request["PipelineName"])
        definition = self._check({**pipeline.request, **request})
        pipeline.request |= _kept(request)
        pipeline.definition, pipeline.modified = definition, self._services.clock.now()
        return {"PipelineArn": self._prefix + pipeline.name}

    def _check(self, request: dict[str, Any]) -> ParsedDefinition:
        """Return the definition of a request that the service accepts.

        Raises:
            RequestRejected: It does not.
        """
        check_role(request["RoleArn"], self._client)
        if "PipelineDefinition" not in request:
            reject("PipelineDefinitionS3Location is not emulated: give PipelineDefinition")
        try:
            definition = parse_definition(request["PipelineDefinition"])
            errors = definition_errors(definition)
        except (ValueError, KeyError, TypeError, AttributeError, UnresolvedReference) as error:
            errors = [str(error)]
        if errors:
            reject(f"Unable to parse pipeline definition. {' '.join(errors)}")
        return definition

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        pipeline = self._pipeline(request["PipelineName"])
        starts = [one.started for one in pipeline.executions.values()]
        return {
            **pipeline.request,
            "PipelineArn": self._prefix + pipeline.name,
            "PipelineStatus": "Active",
            "CreationTime": pipeline.created,
            "LastModifiedTime": pipeline.modified,
            **({"LastRunTime": max(starts)} if starts else {}),
        }

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        keys = (
            *("PipelineName", "PipelineArn", "PipelineDisplayName", "PipelineDescription"),
            *("RoleArn", "CreationTime", "LastModifiedTime"),
        )
        items = []
        for name in self._pipelines:
            described = self._describe({"PipelineName": name})
            if name.startswith(request.get("PipelineNamePrefix", "")):
                last = {"LastExecutionTime": described.get("LastRunTime")}
                summary = {key: described[key] for key in keys if key in described}
                items.append({**summary, **(last if last["LastExecutionTime"] else {})})
        items.sort(
            key=lambda one: one["CreationTime"], reverse=request.get("SortOrder") != "Ascending"
        )
        return _page(items, request, "PipelineSummaries")

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        pipeline = self._pipeline(request["PipelineName"])
        if any(one.status in ("Executing", "Stopping") for one in pipeline.executions.values()):
            raise RequestRejected("ConflictException", f"{pipeline.name} has running executions.")
        del self._pipelines[pipeline.name]
        return {"PipelineArn": self._prefix + pipeline.name}

    def _pipeline(self, name: str) -> EmulatedPipeline:
        """Return a pipeline by its name or ARN.

        Raises:
            RequestRejected: It does not exist.
        """
        name = name.removeprefix(self._prefix)
        if name not in self._pipelines:
            raise RequestRejected(
                "ResourceNotFound", f"Pipeline '{self._prefix}{name}' does not exist."
            )
        return self._pipelines[name]

    # --- executions -------------------------------------------------------------------------

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        pipeline, token = self._pipeline(request["PipelineName"]), request["ClientRequestToken"]
        for key in ("SelectiveExecutionConfig", "PipelineVersionId", "PipelineVersionAlias"):
            if key in request:
                reject(f"{key} is not emulated")
        parameters = _parameters(pipeline.definition, request.get("PipelineParameters", ()))
        with self._lock:
            if token in pipeline.tokens:
                return {"PipelineExecutionArn": pipeline.tokens[token]}
            keys = ("PipelineExecutionDisplayName", "PipelineExecutionDescription")
            parallelism = {**pipeline.request, **request}.get("ParallelismConfiguration", {})
            started = ExecutionRequest(
                (pipeline.name, self._prefix + pipeline.name),
                secrets.token_hex(_ID_CHARACTERS // 2),
                pipeline.definition,
                parameters,
                {key: request[key] for key in keys if key in request},
                parallelism.get("MaxParallelExecutionSteps", ExecutionRequest.parallel),
            )
            execution = EmulatedExecution(started, self._services, pipeline.cache)
            pipeline.executions[started.arn] = execution
            pipeline.tokens[token] = started.arn
        execution.start()
        return {"PipelineExecutionArn": started.arn}

    def _execution(self, request: dict[str, Any]) -> EmulatedExecution:
        """Return the execution of a request.

        Raises:
            RequestRejected: It does not exist.
        """
        arn = request["PipelineExecutionArn"]
        for pipeline in self._pipelines.values():
            if arn in pipeline.executions:
                return pipeline.executions[arn]
        raise RequestRejected("ResourceNotFound", f"Pipeline execution '{arn}' does not exist.")

    def _definition_of(self, request: dict[str, Any]) -> dict[str, Any]:
        execution = self._execution(request)
        return {
            "PipelineDefinition": execution.request.definition.text,
            "CreationTime": execution.started,
        }

    def _parameters_of(self, request: dict[str, Any]) -> dict[str, Any]:
        parameters = self._execution(request).request.parameters
        items = [{"Name": name, "Value": str(value)} for name, value in parameters.items()]
        return _page(items, request, "PipelineParameters")

    def _list_executions(self, request: dict[str, Any]) -> dict[str, Any]:
        keys = (
            *("PipelineExecutionArn", "PipelineExecutionStatus", "PipelineExecutionDescription"),
            "PipelineExecutionDisplayName",
        )
        items = []
        for execution in self._pipeline(request["PipelineName"]).executions.values():
            described = execution.describe()
            summary = {key: described[key] for key in keys if key in described}
            failure = {"PipelineExecutionFailureReason": execution.failure}
            items.append(
                {
                    **summary,
                    "StartTime": execution.started,
                    **(failure if execution.failure else {}),
                }
            )
        if request.get("SortOrder") != "Ascending":
            items.reverse()
        return _page(items, request, "PipelineExecutionSummaries")

    def _list_steps(self, request: dict[str, Any]) -> dict[str, Any]:
        items = self._execution(request).list_steps()
        if request.get("SortOrder") != "Ascending":
            items.reverse()
        return _page(items, request, "PipelineExecutionSteps")

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._change(request, EmulatedExecution.stop, "stopped")

    def _retry(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._change(request, EmulatedExecution.retry, "retried")

    def _change(
        self, request: dict[str, Any], change: Callable[[EmulatedExecution], bool], done: str
    ) -> dict[str, Any]:
        execution = self._execution(request)
        if not change(execution):
            status = f"is in status {execution.status}, and cannot be {done}."
            raise RequestRejected("ConflictException", f"{execution.request.arn} {status}")
        return {"PipelineExecutionArn": execution.request.arn}


def _kept(request: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a request that the description repeats."""
    return {key: one for key, one in request.items() if key not in ("ClientRequestToken", "Tags")}


def _parameters(definition: ParsedDefinition, given: Any) -> dict[str, Any]:
    """Return the values of all parameters.

    Raises:
        RequestRejected: One is unknown, has no value, or one of another type.
    """
    values = {name: one.get("DefaultValue") for name, one in definition.parameters.items()}
    for item in given:
        if item["Name"] not in values:
            reject(f"Parameter {item['Name']} is not defined in the pipeline definition.")
        values[item["Name"]] = _parsed(definition.parameters[item["Name"]], item["Value"])
    for name, value in values.items():
        kind = definition.parameters[name]["Type"]
        if value is None:
            reject(f"Parameter {name} has no value.")
        if not isinstance(value, _TYPES[kind]):
            reject(f"Parameter {name}: {value!r} is not of type {kind}.")
    return values


def _parsed(parameter: dict[str, Any], text: str) -> Any:
    """Return the value of a parameter, which a request has as text."""
    try:
        if parameter["Type"] in ("Integer", "Float"):
            return int(text) if parameter["Type"] == "Integer" else float(text)
    except ValueError:
        return text
    if parameter["Type"] == "Boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def _page(items: list[dict[str, Any]], request: dict[str, Any], member: str) -> dict[str, Any]:
    """Return one page of a list."""
    first, size = int(request.get("NextToken", "0")), request.get("MaxResults", _PAGE)
    more = {"NextToken": str(first + size)} if first + size < len(items) else {}
    return {member: items[first : first + size], **more}
