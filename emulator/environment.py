"""Everything a rehearsal plays in: the emulated account, the platform in it, the service."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.instance import ContainerRuntime
from emulator.job_lifecycle import ServiceTimings
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
from launch.environment import LaunchEnvironment, read_environment

_STACKS = ("training", "images")


@dataclass(frozen=True)
class EmulatedEnvironment:
    """A rehearsal that is set up.

    Attributes:
        environment: Of the platform that was deployed.
        service: The stand-in; tells what it was asked, and does what only the service can.
        variables: By which a program finds the account and the service, and no real one.
        work: A folder for everything.
    """

    environment: LaunchEnvironment
    service: SageMakerEmulator
    variables: dict[str, str]
    work: Path

    @property
    def runs(self) -> Path:
        """Where its run folders are."""
        return self.work / "runs"

    def launch(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `temper …` as a person would, agreeing to everything."""
        return subprocess.run(
            [sys.executable, "-m", "temper", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.variables, "YES": "1", "COLUMNS": "160", **variables},
            text=True,
            capture_output=True,
            check=False,
        )

    def promote_image(self, kind: str) -> str:
        """Put an image into the registry, and its address where jobs find it; return the address.

        The address is what the platform's own function writes after a clean scan.
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

    def log_lines(self, job: str) -> dict[str, list[str]]:
        """Return what a job has printed, by stream, oldest stream first."""
        logs = self.service.client("logs")
        answer: dict[str, Any] = logs.describe_log_streams(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{job}/"
        )
        found = {}
        for stream in sorted(answer["logStreams"], key=lambda s: s["creationTime"]):
            name = stream["logStreamName"]
            events = logs.get_log_events(
                logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=name, startFromHead=True
            )
            found[name] = [event["message"] for event in events["events"]]
        return found


@contextmanager
def emulated_environment(
    name: str,
    work: Path,
    starter: ContainerRuntime,
    manners: ServiceTimings,
    environments: Path | None = None,
) -> Iterator[EmulatedEnvironment]:
    """Emulate an account, deploy an environment of the platform to it, and open the service.

    Args:
        name: Of the environment.
        work: A folder that may be filled.
        starter: Runs containers.
        manners: Of the service.
        environments: The folder of the environment's file, if not the usual one.
    """
    environment = read_environment(name, environments or ROOT / "environments")
    with moto_server(work / "moto.log") as port:
        variables = cdk_environment(port, environment.region, work)
        where = f"aws://{ACCOUNT}/{environment.region}"
        cdk("bootstrap", ["bootstrap", where], variables, work, cwd=work)
        stacks = [f"{environment.prefix}-{stack}" for stack in _STACKS]
        app = app_options(work, name, environments)
        cdk("deploy", [*DEPLOY, *stacks, *app], variables, work)
        endpoint = f"http://localhost:{port}"
        service = SageMakerEmulator(endpoint, environment.region, work / "disks", starter, manners)
        with EmulatorServer(service) as server:
            found = {
                **credentials(port, environment.region),
                "AWS_ENDPOINT_URL_SAGEMAKER": server.url,
                "AWS_ENDPOINT_URL_SERVICE_QUOTAS": server.url,
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            }
            yield EmulatedEnvironment(environment, service, found, work)
