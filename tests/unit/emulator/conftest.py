"""Fixtures: an emulated hosting on a clock that stands still, with real containers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from emulator.clock import FakeClock
from emulator.hosting.context import HostingTimings
from emulator.instance import ContainerSpec, NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.moto_account import moto_server
from emulator.sagemaker_api import EmulatorServer, SageMakerEmulator

REGION = "us-east-1"
BUCKET = "models"
ROLE = "arn:aws:iam::123456789012:role/serving"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/serving:1"
CONTAINER = Path(__file__).with_name("model_container.py")
Request = dict[str, Any]


class PlainRuntime(NamespaceRuntime):
    """Runtime that starts `model_container.py` as a plain process: it needs no `/opt/ml`."""

    def start(self, spec: ContainerSpec) -> subprocess.Popen[bytes]:
        variables = {"SAGEMAKER_BIND_TO_PORT": str(spec.port), **spec.environment}
        return subprocess.Popen(
            [sys.executable, "-S", "-E", str(CONTAINER), str(spec.ml), *spec.arguments],
            env={"PATH": os.environ["PATH"], **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def send_signal(self, process: subprocess.Popen[bytes], number: Any) -> None:
        process.send_signal(number)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()


@dataclass
class HostedAccount:
    """Emulated account with a hosting whose clock stands still.

    Attributes:
        emulator: The services.
        clock: Their clock.
        client: Returns a client of a service.
    """

    emulator: SageMakerEmulator
    clock: FakeClock
    client: Callable[[str], Any]

    def put_model(self, key: str, **files: str) -> str:
        """Write a folder of model files to S3, without others, and return its address."""
        listed = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{key}/")
        for entry in listed.get("Contents", ()):
            self.client("s3").delete_object(Bucket=BUCKET, Key=entry["Key"])
        for name, text in files.items():
            self.client("s3").put_object(Bucket=BUCKET, Key=f"{key}/{name}.txt", Body=text)
        return f"s3://{BUCKET}/{key}/"

    def put_archive(self, key: str, **files: str) -> str:
        """Write an archive of model files to S3, and return its address."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(f"{name}.txt")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=packed.getvalue())
        return f"s3://{BUCKET}/{key}"

    def model(self, name: str, *, answer: str | None = None, **files: str) -> str:
        """Create a model that answers with its name, and return the name."""
        address = self.put_model(name, answer=answer or name, **files)
        self.client("sagemaker").create_model(**model_request(name, address))
        return name

    def config(self, name: str, *models: str, count: int = 1, **changes: Any) -> str:
        """Create a configuration with a variant for each model, and return its name."""
        variants = [
            variant(model, f"v{number}" if number else "main", count)
            for number, model in enumerate(models)
        ]
        self.client("sagemaker").create_endpoint_config(
            EndpointConfigName=name, **{"ProductionVariants": variants, **changes}
        )
        return name

    def advance(self, seconds: float) -> None:
        """Advance the clock in steps of five seconds, and let containers start meanwhile."""
        end = self.clock.now() + seconds
        while (left := end - self.clock.now()) > 0:
            self.emulator.hosting.context.await_containers()
            self.clock.advance(min(5.0, left))

    def until(self, status: str, endpoint: str = "support", seconds: float = 2000) -> Request:
        """Advance the clock until an endpoint has a status, and return its description."""
        found = self.emulator.hosting.endpoints.table.get(endpoint)
        end = self.clock.now() + seconds
        while found.status != status:
            assert self.clock.now() < end, f"{endpoint} is {found.status}, not {status}"
            self.advance(5)
        return self.describe(endpoint)

    def deploy(self, config: str, endpoint: str = "support", **changes: Any) -> Request:
        """Create an endpoint and wait until it is in service."""
        self.client("sagemaker").create_endpoint(
            EndpointName=endpoint, EndpointConfigName=config, **changes
        )
        return self.until("InService", endpoint)

    def describe(self, endpoint: str = "support") -> Request:
        """Return the description of an endpoint."""
        described: Request = self.client("sagemaker").describe_endpoint(EndpointName=endpoint)
        return described

    def component_until(self, status: str, name: str = "base") -> Request:
        """Advance the clock until a component has a status, and return its description."""
        found = self.emulator.hosting.components.table.get(name)
        end = self.clock.now() + 2000
        while found.status != status:
            assert self.clock.now() < end, f"{name} is {found.status}, not {status}"
            self.advance(5)
        described: Request = self.client("sagemaker").describe_inference_component(
            InferenceComponentName=name
        )
        return described

    def ask(self, body: str = "", endpoint: str = "support", **more: Any) -> str:
        """Invoke an endpoint and return the answer."""
        answer = self.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint, Body=body.encode(), **more
        )
        return str(answer["Body"].read().decode())


def model_request(name: str, address: str, **changes: Any) -> Request:
    """Return a CreateModel request."""
    source = {"S3Uri": address, "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    return {
        "ModelName": name,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {**container, **changes},
    }


def variant(model: str, name: str = "main", count: int = 1, **changes: Any) -> Request:
    """Return a production variant."""
    return {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": count,
        **changes,
    }


@pytest.fixture(scope="session")
def moto_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a moto server, and yield its address."""
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as port:
        address = f"http://localhost:{port}"
        session = boto3.Session("test", "test", region_name=REGION)
        trust = '{"Statement": [{"Principal": {"Service": "sagemaker.amazonaws.com"}}]}'
        session.client("iam", endpoint_url=address).create_role(
            RoleName="serving", AssumeRolePolicyDocument=trust
        )
        session.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        yield address


@pytest.fixture(scope="session")
def running_account(
    moto_account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostedAccount]:
    """Yield an account with an emulated hosting, shared by all tests."""
    clock = FakeClock()
    emulator = SageMakerEmulator(
        moto_account,
        REGION,
        tmp_path_factory.mktemp("disks"),
        PlainRuntime(),
        ServiceTimings(),
        clock,
        HostingTimings(),
    )
    session = boto3.Session("test", "test", region_name=REGION)
    settings = Config(retries={"total_max_attempts": 1})
    with EmulatorServer(emulator) as server:
        emulated = {service.name for service in emulator.services}
        clients: dict[str, Any] = {}

        def client(name: str) -> Any:
            if name not in clients:
                address = server.url if name in emulated else moto_account
                clients[name] = session.client(name, endpoint_url=address, config=settings)
            return clients[name]

        yield HostedAccount(emulator, clock, client)


@pytest.fixture
def account(running_account: HostedAccount) -> Iterator[HostedAccount]:
    """Yield the account without models and endpoints."""
    yield running_account
    running_account.emulator.close()
