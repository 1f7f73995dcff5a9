"""Fixtures: pipelines over jobs whose outcomes a test decides."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from emulator.aws_service import AwsServer, AwsService
from emulator.clock import FakeClock
from emulator.pipelines.account_calls import AccountCalls
from emulator.pipelines.api import PipelineApi
from emulator.pipelines.functions import FunctionFailed
from emulator.pipelines.step_run import StepServices

REGION = "us-east-1"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/pipeline"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:step"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/temper:1"
Document = dict[str, Any]


@dataclass
class ScriptedJobs:
    """Jobs that end as a test says, and the account around them.

    Attributes:
        outcomes: Members that the description of each next job gets; `Completed` without one.
        requests: Requests that created jobs.
        objects: Content of objects in S3, by address.
        answers: Answer of the function, by the action of its event.
        holding: Names of steps whose jobs stay in progress until they are stopped.
    """

    outcomes: list[Document] = field(default_factory=list)
    requests: list[Document] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    holding: set[str] = field(default_factory=set)
    _jobs: dict[str, Document] = field(default_factory=dict)

    def create(self, kind: str) -> Callable[[Document], Document]:
        def create(request: Document) -> Document:
            name = request[f"{kind}JobName"]
            arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind.lower()}-job/{name}"
            self.requests.append(request)
            outcome = self.outcomes.pop(0) if self.outcomes else {}
            shown = {k: v for k, v in request.items() if k != "Tags"}
            self._jobs[name] = {
                **shown,
                f"{kind}JobArn": arn,
                f"{kind}JobStatus": "Completed",
                "SecondaryStatus": "Completed",
                "CreationTime": 1.0,
                **outcome,
            }
            return {f"{kind}JobArn": arn}

        return create

    def describe(self, kind: str) -> Callable[[Document], Document]:
        def describe(request: Document) -> Document:
            job = dict(self._jobs[request[f"{kind}JobName"]])
            if kind == "Processing":
                del job["SecondaryStatus"]
            held = job[f"{kind}JobName"].split("-")[2] in self.holding
            if held and job[f"{kind}JobStatus"] == "Completed":
                job[f"{kind}JobStatus"] = "InProgress"
            return job

        return describe

    def stop(self, kind: str) -> Callable[[Document], Document]:
        def stop(request: Document) -> Document:
            self._jobs[request[f"{kind}JobName"]][f"{kind}JobStatus"] = "Stopped"
            return {}

        return stop

    def client(self, service: str) -> Any:
        return self

    def get_role(self, **request: str) -> Document:
        return {"Role": {"AssumeRolePolicyDocument": {"Service": "sagemaker.amazonaws.com"}}}

    def get_object(self, **request: str) -> Document:
        address = f"s3://{request['Bucket']}/{request['Key']}"
        if address not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(json.dumps(self.objects[address]).encode())}

    def create_model_package(self, **request: Any) -> Document:
        self.requests.append(request)
        return {"ModelPackageArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/g/1"}

    def describe_model_package(self, **request: str) -> Document:
        return {"ModelPackageArn": request["ModelPackageName"], "ModelPackageVersion": 1}

    def invoke(self, arn: str, event: Document) -> Any:
        answer = self.answers.get(event["action"])
        if isinstance(answer, str):
            raise FunctionFailed(answer)
        return answer


@dataclass
class PipelineAccount:
    """Account with one pipeline service.

    Attributes:
        jobs: Outcomes of the jobs.
        clock: Clock of the service.
        sagemaker: Client, as a user has it.
    """

    jobs: ScriptedJobs
    clock: FakeClock
    sagemaker: Any

    def create(self, *steps: Document, name: str = "docs", **more: Any) -> str:
        """Create a pipeline, and return its ARN."""
        answer = self.sagemaker.create_pipeline(
            PipelineName=name,
            PipelineDefinition=definition(*steps, **more),
            ClientRequestToken="t" * 32,
            RoleArn=ROLE,
        )
        return str(answer["PipelineArn"])

    def start(self, name: str = "docs", token: str = "s" * 32, **more: Any) -> str:
        """Start an execution, and return its ARN."""
        answer = self.sagemaker.start_pipeline_execution(
            PipelineName=name, ClientRequestToken=token, **more
        )
        return str(answer["PipelineExecutionArn"])

    def wait(self, arn: str) -> Document:
        """Advance the clock until an execution has ended, and return its description."""
        pause = threading.Event()
        for _ in range(2000):
            described: Document = self.sagemaker.describe_pipeline_execution(
                PipelineExecutionArn=arn
            )
            if described["PipelineExecutionStatus"] not in ("Executing", "Stopping"):
                return described
            self.clock.advance(1)
            pause.wait(0.005)
        raise AssertionError(f"{arn} has not ended")

    def run(self, token: str = "s" * 32, **more: Any) -> tuple[str, dict[str, Document]]:
        """Execute the pipeline; return the status, and its steps by name."""
        arn = self.start(token=token, **more)
        return str(self.wait(arn)["PipelineExecutionStatus"]), self.steps(arn)

    def steps(self, arn: str) -> dict[str, Document]:
        """Return the steps of an execution by name, in the order of their starts."""
        steps = self.sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=arn, SortOrder="Ascending"
        )["PipelineExecutionSteps"]
        return {step["StepName"]: step for step in steps}


def definition(*steps: Document, parameters: tuple[Document, ...] = ()) -> str:
    document = {"Version": "2020-12-01", "Parameters": list(parameters), "Steps": list(steps)}
    return json.dumps(document)


def processing(name: str, **more: Any) -> Document:
    """Return a Processing step; `arguments` are added to its arguments."""
    arguments = {
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "VolumeSizeInGB": 10,
            }
        },
        "AppSpecification": {"ImageUri": IMAGE},
        "RoleArn": ROLE,
        **more.pop("arguments", {}),
    }
    return {"Name": name, "Type": "Processing", "Arguments": arguments, **more}


def lambda_step(name: str, action: str, *outputs: str, **inputs: Any) -> Document:
    return {
        "Name": name,
        "Type": "Lambda",
        "Arguments": {"action": action, **inputs},
        "FunctionArn": FUNCTION,
        "OutputParameters": [{"OutputName": one, "OutputType": "String"} for one in outputs],
    }


def condition(name: str, left: Any, right: Any, **branches: list[Document]) -> Document:
    compared = {"Type": "Equals", "LeftValue": left, "RightValue": right}
    branches = {"IfSteps": [], "ElseSteps": [], **branches}
    return {"Name": name, "Type": "Condition", "Arguments": {"Conditions": [compared], **branches}}


@pytest.fixture
def account() -> Iterator[PipelineAccount]:
    """Yield an account whose clock stands still."""
    jobs, clock = ScriptedJobs(), FakeClock()
    calls = AccountCalls(jobs.client, lambda: service)
    services = StepServices(calls.call, jobs.invoke, calls.read, clock)
    pipelines = PipelineApi(jobs.client, REGION, services)
    operations = dict(pipelines.operations())
    for kind in ("Processing", "Training"):
        operations[f"Create{kind}Job"] = jobs.create(kind)
        operations[f"Describe{kind}Job"] = jobs.describe(kind)
        operations[f"Stop{kind}Job"] = jobs.stop(kind)
    service = AwsService("sagemaker", operations)
    with AwsServer([service], "http://localhost:1") as server:
        url = server.variables()["AWS_ENDPOINT_URL_SAGEMAKER"]
        client = boto3.Session("test", "test", region_name=REGION).client(
            "sagemaker", endpoint_url=url
        )
        yield PipelineAccount(jobs, clock, client)
        pipelines.close(5)
