"""Emulated environment of a rehearsal: the account, the deployed platform, the training service."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.bedrock_account import BedrockTimings
from emulator.bedrock_api import BedrockEmulator
from emulator.bedrock_runtime import StartProcess
from emulator.clock import FakeClock
from emulator.instance import ContainerRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.log_sink import LOG_GROUP
from emulator.model_process import ModelProcess
from emulator.moto_account import (
    ACCOUNT,
    DEPLOY,
    ROOT,
    app_options,
    cdk,
    cdk_environment,
    credentials,
    moto_server,
)
from emulator.sagemaker_api import EmulatorServer, SageMakerEmulator
from launch.aws.session import new_session
from launch.environment import LaunchEnvironment, read_environment

STACKS = ("training", "images")
"""Stacks of the places where jobs run."""
_ADVANCE_S = 5.0
_IN_MEMORY_S = 30 * 86_400.0


@dataclass(frozen=True)
class EmulatedEnvironment:
    """Deployed platform in an emulated account, with an emulated training service.

    Attributes:
        environment: Environment of the deployed platform.
        service: Emulated SageMaker; records its calls and injects events.
        bedrock: Emulated Bedrock.
        clock: Clock of deployments, which a rehearsal advances.
        variables: Environment variables that point a program to the emulated account only.
        work: Folder of all files of the rehearsal.
    """

    environment: LaunchEnvironment
    service: SageMakerEmulator
    bedrock: BedrockEmulator
    clock: FakeClock
    variables: dict[str, str]
    work: Path

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return self.work / "runs"

    def client(self, service: str) -> Any:
        """Return a boto3 client of the account, as a program of the user has it."""
        name = f"AWS_ENDPOINT_URL_{service.replace('-', '_').upper()}"
        url = self.variables.get(name, self.variables["AWS_ENDPOINT_URL"])
        session = new_session(
            self.environment.region, aws_access_key_id="test", aws_secret_access_key="test"
        )
        return session.client(service, endpoint_url=url)

    def advance(self, seconds: float) -> None:
        """Advance the clock of deployments, and let processes start and answer meanwhile."""
        end = self.clock.now() + seconds
        while (left := end - self.clock.now()) > 0:
            self.service.hosting.settle()
            self.bedrock.settle()
            self.clock.advance(min(_ADVANCE_S, left))
        self.service.hosting.settle()

    def run_temper(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `temper …` in the environment, with every question confirmed."""
        return subprocess.run(
            [sys.executable, "-m", "temper", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.variables, "YES": "1", "COLUMNS": "160", **variables},
            text=True,
            capture_output=True,
            check=False,
        )

    def promote_image(self, kind: str) -> str:
        """Push an empty image, publish its address as the platform does, and return the address.

        On a real account the platform's own function publishes it after a clean scan.
        """
        repository = f"{self.environment.prefix}/{kind}"
        empty = {"digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}", "size": 2}
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **empty},
            "layers": [],
        }
        answer = self.service.client("ecr").put_image(
            repositoryName=repository, imageManifest=json.dumps(manifest), imageTag="rehearsal"
        )
        digest = answer["image"]["imageId"]["imageDigest"]
        registry = f"{ACCOUNT}.dkr.ecr.{self.environment.region}.amazonaws.com"
        uri = f"{registry}/{repository}@{digest}"
        self.service.client("ssm").put_parameter(
            Name=f"/{self.environment.prefix}/images/{kind}/uri",
            Value=uri,
            Type="String",
            Overwrite=True,
        )
        return uri

    def log_lines(self, job: str, group: str = LOG_GROUP) -> dict[str, list[str]]:
        """Return the log lines of a job by stream, oldest stream first.

        Args:
            job: Name of the job.
            group: Log group of its kind.
        """
        logs = self.service.client("logs")
        answer: dict[str, Any] = logs.describe_log_streams(
            logGroupName=group, logStreamNamePrefix=f"{job}/"
        )
        lines = {}
        for stream in sorted(answer["logStreams"], key=lambda s: s["creationTime"]):
            name = stream["logStreamName"]
            events = logs.get_log_events(logGroupName=group, logStreamName=name, startFromHead=True)
            lines[name] = [event["message"] for event in events["events"]]
        return lines


@contextmanager
def emulated_environment(
    name: str,
    work: Path,
    runtime: ContainerRuntime,
    timings: ServiceTimings,
    environments: Path | None = None,
    stacks: Sequence[str] = STACKS,
) -> Iterator[EmulatedEnvironment]:
    """Deploy an environment of the platform to an emulated account, and start the service.

    Args:
        name: Name of the environment.
        work: Folder for all files of the rehearsal.
        runtime: Runs the containers.
        timings: Delays and periods of the emulated service.
        environments: Folder of the environment's file; the repository's by default.
        stacks: Stacks to deploy, with those that they use.
    """
    environment = read_environment(name, environments or ROOT / "environments")
    with moto_server(work / "moto.log") as port:
        variables = cdk_environment(port, environment.region, work)
        target = f"aws://{ACCOUNT}/{environment.region}"
        cdk("bootstrap", ["bootstrap", target], variables, work, cwd=work)
        names = [f"{environment.prefix}-{stack}" for stack in stacks]
        app = app_options(work, name, environments)
        cdk("deploy", [*DEPLOY, *names, *app], variables, work)
        with emulated_services(environment, work, port, runtime, timings) as emulated:
            yield emulated


@contextmanager
def emulated_services(
    environment: LaunchEnvironment,
    work: Path,
    port: int,
    runtime: ContainerRuntime,
    timings: ServiceTimings,
    start_model: StartProcess = ModelProcess,
) -> Iterator[EmulatedEnvironment]:
    """Start the emulated SageMaker and Bedrock of an account.

    Args:
        environment: Environment of the platform.
        work: Folder for all files.
        port: Port of the moto server.
        runtime: Runs the containers.
        timings: Delays and periods of the emulated training service.
        start_model: Starts the process of a model in Bedrock.
    """
    endpoint = f"http://localhost:{port}"
    clock = FakeClock()
    service = SageMakerEmulator(
        endpoint, environment.region, work / "disks", runtime, timings, clock
    )
    bedrock = BedrockEmulator(
        environment.region,
        service.client,
        clock,
        work / "bedrock",
        BedrockTimings(idle_s=_IN_MEMORY_S),  # another start would show nothing more
        start_model,
    )
    with EmulatorServer(service, bedrock.services) as server:
        client_variables = {
            **credentials(port, environment.region),
            **server.variables(),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        try:
            yield EmulatedEnvironment(environment, service, bedrock, clock, client_variables, work)
        finally:
            bedrock.close()
