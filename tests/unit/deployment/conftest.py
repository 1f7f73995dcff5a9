"""Fixtures: an environment whose account has an emulated hosting and a model registry."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deployment.account import DeploymentAccount
from deployment.model import find_model
from deployment.polling import Polling
from deployment.spec import read_spec
from deployment.targets.base import DeploymentRequest
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession
from registry.command import RegisterOptions, register_model
from registry.record import ModelRecord, StageChange
from registry.remote.sagemaker import SageMakerRegistry
from registry.store import LocalRegistry
from tests.unit.deployment.interruption import killed_after
from tests.unit.emulator.conftest import (
    IMAGE,
    ROLE,
    HostedAccount,
    account,
    moto_account,
    running_account,
)
from tests.unit.launch.fake_accounts import DEV, VALUES
from tests.unit.registry.runs import evaluate, make_run
from training.export.checksums import write_checksums

__all__ = ["account", "moto_account", "running_account"]
_GROUPS = itertools.count()
NAMES = {"models": VALUES["buckets/models"], "runs": VALUES["buckets/runs"]}


class EmulatedSession(AwsSession):
    """Session whose clients are those of the emulated account."""

    def __init__(self, hosted: HostedAccount):
        super().__init__(DEV)
        self._hosted = hosted

    def client(self, service: str) -> Any:
        return self._hosted.client(service)


@dataclass
class Deployments:
    """Environment in which versions are registered and deployed.

    Attributes:
        hosted: The emulated account.
        account: Account of deployments.
        root: Folder of runs and of the registry.
    """

    hosted: HostedAccount
    account: DeploymentAccount
    root: Path

    @property
    def store(self) -> LocalRegistry:
        """The local registry."""
        return LocalRegistry(self.root / "registry")

    @property
    def remote(self) -> SageMakerRegistry:
        """The registry of the environment."""
        client = self.hosted.client
        return SageMakerRegistry(self.account.platform, client("sagemaker"), client("s3"))

    def register(
        self,
        name: str = "a",
        *,
        approved: bool = True,
        template: bool = True,
        gguf: bool = False,
        **files: str,
    ) -> ModelRecord:
        """Register and push a version whose container answers with its name.

        Args:
            name: Name of the run, and the answer.
            approved: Whether it is approved.
            template: Whether it has a chat template.
            gguf: Whether it has a GGUF file.
            files: Further text files of the model, by name with `__` for the dot.
        """
        run = make_run(self.root, name)
        texts = {"answer__txt": name, **files}
        if template:
            texts["chat_template__jinja"] = "{{ messages }}"
        for file, text in texts.items():
            (run / "model" / file.replace("__", ".")).write_text(text, encoding="utf-8")
        write_checksums(run / "model")
        if gguf:
            (run / "export").mkdir()
            (run / "export" / "support.gguf").write_bytes(b"GGUF" + name.encode())
        evaluate(run)
        record = register_model(RegisterOptions(run, self.store.root))
        self.remote.push(record, self.store)
        if approved:
            self.approve(record)
        return record

    def approve(self, record: ModelRecord) -> None:
        """Approve a version."""
        change = StageChange("production", "anna", "2026-11-29T12:00:00Z")
        self.remote.set_stage(record, change)

    def request(self, model: str, **values: Any) -> DeploymentRequest:
        """Return a request to deploy a version."""
        given = {
            "to": "endpoint",
            "instance": "ml.g5.xlarge",
            "end": {"idle_hours": 6},
            **values,
            "model": model,
        }
        spec = read_spec(None, given)
        return DeploymentRequest(spec, find_model(self.account, model, spec.form), "anna")

    def names(self, kind: str) -> list[str]:
        """Return the names of all resources of a kind, such as `EndpointConfig`."""
        client = self.hosted.client("sagemaker")
        word = {"EndpointConfig": "endpoint_configs", "Model": "models", "Endpoint": "endpoints"}
        answer = getattr(client, f"list_{word[kind]}")()
        return [one[f"{kind}Name"] for one in answer[f"{kind}s"]]

    def killed_after(self, pauses: int) -> DeploymentAccount:
        """Return the account of a command that is killed in a pause while it waits."""
        polling = killed_after(pauses, self.hosted.advance, self.hosted.clock.now)
        return replace(self.account, polling=polling)

    def calls(self, operation: str) -> int:
        """Return how often an operation of SageMaker was called."""
        return self.hosted.emulator.calls.count(operation)


@pytest.fixture(scope="session")
def platform(running_account: HostedAccount) -> PlatformParameters:
    """Return the parameters of the environment, whose resources exist."""
    client = running_account.client
    for bucket in NAMES.values():
        client("s3").create_bucket(Bucket=bucket)
    keys = [client("kms").create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    subnets = client("ec2").describe_subnets()["Subnets"][:2]
    group = client("ec2").create_security_group(
        GroupName="endpoints", Description="endpoints", VpcId=subnets[0]["VpcId"]
    )
    client("scheduler").create_schedule_group(Name="temper-dev-deployments")
    return PlatformParameters(
        DEV,
        {
            **VALUES,
            "keys/data": keys[0],
            "keys/models": keys[1],
            "network/subnets": ",".join(subnet["SubnetId"] for subnet in subnets),
            "images/serve/uri": IMAGE,
            "images/serve-gpu/uri": IMAGE,
            "roles/serving": ROLE,
            "serving/security-group": group["GroupId"],
            "serving/undeploy-function": "arn:aws:lambda:us-east-1:123456789012:function:undeploy",
            "serving/schedule-group": "temper-dev-deployments",
            "serving/schedule-role": ROLE,
        },
    )


@pytest.fixture
def deployments(
    account: HostedAccount,
    platform: PlatformParameters,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Deployments]:
    """Yield an environment without versions and deployments."""
    monkeypatch.setenv("YES", "1")
    account.emulator.calls.clear()
    # A group for each test: moto does not delete packages.
    group = f"temper-dev-{next(_GROUPS)}"
    account.client("sagemaker").create_model_package_group(ModelPackageGroupName=group)
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:model-package-group/{group}"
    values = {**platform.values, "training/model-package-group": arn}
    polling = Polling(sleep=account.advance, now=account.clock.now)
    caller = "arn:aws:sts::123456789012:assumed-role/temper-dev-deployer/anna"
    parameters = replace(platform, values=values)
    deployment = DeploymentAccount(EmulatedSession(account), parameters, caller, polling)
    yield Deployments(account, deployment, tmp_path)


def reply(text: str, log_prob: float = -0.5) -> str:
    """Return the file of a model that always answers with one token."""
    log_probs = {"tokens": [text], "token_logprobs": [log_prob]}
    return json.dumps({"choices": [{"text": text, "logprobs": log_probs}]})


def with_platform(deployments: Deployments, **values: str | None) -> Deployments:
    """Return an environment with other parameters; None removes one."""
    platform = deployments.account.platform
    names = {name.replace("__", "/").replace("_", "-"): value for name, value in values.items()}
    merged = {**platform.values, **names}
    changed = {name: value for name, value in merged.items() if value is not None}
    other = replace(platform, values=changed)
    return replace(deployments, account=replace(deployments.account, platform=other))
