"""Fixtures: an emulated account with the platform's parameters, and the emulated service."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from emulator.bedrock_api import BedrockEmulator
from emulator.clock import FakeClock
from emulator.environment import EmulatedEnvironment
from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.moto_account import moto_server
from emulator.sagemaker_api import EmulatorServer, SageMakerEmulator
from launch.aws.session import AwsSession
from launch.environment import LaunchEnvironment
from launch.submission import Submission
from launch.submit import SubmitRequest, submit
from launch.targets.sagemaker import SageMakerTarget
from tests.factories import write_jsonl
from tests.unit.launch.fake_accounts import DEV

CONTAINER = Path(__file__).with_name("fake_container.py")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a moto server, and yield its address.

    It is a process of its own: a test with `mock_aws` resets all of moto's state in its process.
    """
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as port:
        yield f"http://localhost:{port}"


@pytest.fixture(scope="session")
def emulated_platform(
    emulator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmulatedEnvironment]:
    """Yield a deployed platform, with a service whose containers run `fake_container.py`."""
    home = tmp_path_factory.mktemp("platform")
    runtime = NamespaceRuntime((sys.executable, str(CONTAINER)))
    timings = ServiceTimings(grace_s=10, sync_s=0.1, capacity_s=0.1)
    service = SageMakerEmulator(emulator, DEV.region, home / "disks", runtime, timings)
    deploy_by_hand(service, DEV)
    with EmulatorServer(service) as server:
        variables = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": DEV.region,
            "AWS_ENDPOINT_URL": emulator,
            "AWS_ENDPOINT_URL_SAGEMAKER": server.url,
            "AWS_ENDPOINT_URL_SERVICE_QUOTAS": server.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        yield environment_of(service, variables, home)


@pytest.fixture
def emulated(
    emulated_platform: EmulatedEnvironment, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatedEnvironment]:
    """Yield the platform without jobs, with the environment variables that point boto3 to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in emulated_platform.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("YES", "1")
    yield emulated_platform
    emulated_platform.service.close()


@pytest.fixture(scope="session")
def account() -> AwsSession:
    """Return one session for all tests: creating clients takes most of a test's time."""
    return AwsSession(DEV)


@pytest.fixture
def target(emulated: EmulatedEnvironment, account: AwsSession) -> SageMakerTarget:
    return SageMakerTarget(account)


@pytest.fixture
def make_request(tmp_path: Path) -> Callable[..., SubmitRequest]:
    """Return a factory of requests for a job that counts to `steps`."""
    model = tmp_path / "shape"
    model.mkdir()
    shape = {
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 320,
    }
    (model / "config.json").write_text(json.dumps(shape))
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a"}])

    def make(steps: int = 20, name: str = "count", **resources: Any) -> SubmitRequest:
        document = {
            "name": name,
            "model": {"source": str(model)},
            "data": {"train": str(rows)},
            "method": {"kind": "sft"},
            "train": {"max_steps": steps},
            "checkpoint": {"every": "5 steps"},
            "tracking": {"mlflow": False},
            "resources": {"instance": "ml.g5.2xlarge", **resources},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return SubmitRequest(path, "", "sagemaker", "dev", tmp_path / "runs")

    return make


def deploy_by_hand(service: SageMakerEmulator, environment: LaunchEnvironment) -> None:
    """Create and publish what a job needs of the platform, once per emulated account."""
    ssm: Any = service.client("ssm")
    root = f"/{environment.prefix}/"
    if ssm.get_parameters_by_path(Path=root, Recursive=True)["Parameters"]:
        return
    ec2, iam, kms, s3 = (service.client(name) for name in ("ec2", "iam", "kms", "s3"))
    trust = '{"Statement": [{"Principal": {"Service": "sagemaker.amazonaws.com"}}]}'
    role = iam.create_role(RoleName="temper-dev-training", AssumeRolePolicyDocument=trust)
    keys = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    buckets = {kind: f"temper-dev-{kind}-123456789012" for kind in ("data", "runs", "models")}
    for bucket in buckets.values():
        s3.create_bucket(Bucket=bucket)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    # By default moto picks a random zone, and not every zone offers every instance.
    made = ec2.create_subnet(
        VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone=f"{ec2.meta.region_name}a"
    )
    subnet = made["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)
    service.client("ecr").create_repository(repositoryName="temper-dev/gpu")
    values = {
        "roles/training": role["Role"]["Arn"],
        "keys/data": keys[0],
        "keys/models": keys[1],
        **{f"buckets/{kind}": name for kind, name in buckets.items()},
        "network/subnets": subnet,
        "network/security-groups": group["GroupId"],
        "training/log-group": "/aws/sagemaker/TrainingJobs",
        "training/encrypt-traffic": "false",
    }
    for name, value in values.items():
        ssm.put_parameter(Name=root + name, Value=value, Type="String")
    environment_of(service, {}, Path(), environment).promote_image("gpu")


def environment_of(
    service: SageMakerEmulator,
    variables: dict[str, str],
    home: Path,
    environment: LaunchEnvironment = DEV,
) -> EmulatedEnvironment:
    """Return an environment without models in Bedrock."""
    clock = FakeClock()
    bedrock = BedrockEmulator(environment.region, service.client, clock, home / "bedrock")
    return EmulatedEnvironment(environment, service, bedrock, clock, variables, home)


def boto(emulated: EmulatedEnvironment, name: str) -> Any:
    """Return a client of the emulated account."""
    return boto3.client(name, region_name=emulated.environment.region)


def until(happened: Callable[[], bool], timeout_s: float = 200) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.05)


def await_end(target: SageMakerTarget, submission: Submission) -> str:
    until(lambda: target.status(submission).is_over)
    return target.status(submission).state


def steps_of(emulated: EmulatedEnvironment, job: str) -> list[list[int]]:
    """Return the steps of each start of a job."""
    streams = emulated.log_lines(job).values()
    return [
        [int(ln.split()[1].partition("/")[0]) for ln in s if ln.startswith("step")] for s in streams
    ]


def run_to_end(
    target: SageMakerTarget, request: SubmitRequest
) -> tuple[Submission, dict[str, Any]]:
    """Submit a job and wait for its end; return it, and how the service describes it."""
    submission = submit(request, target, print)
    await_end(target, submission)
    job = target.jobs.find(submission.latest.name)
    assert job is not None
    return submission, job
