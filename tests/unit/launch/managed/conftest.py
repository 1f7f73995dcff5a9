"""Fixtures: an account of moto with the platform's parameters, and the emulated providers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import yaml
from botocore.config import Config
from moto import mock_aws
from safetensors.numpy import save_file

from emulator.aws_service import AwsServer
from emulator.bedrock_account import BedrockTimings
from emulator.bedrock_api import BedrockEmulator
from emulator.clock import FakeClock
from emulator.hub import HubContent
from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.managed_training import CustomizationWork, Train
from emulator.moto_account import credentials
from emulator.sagemaker_api import SageMakerEmulator
from launch.aws.session import AwsSession
from launch.submission import Submission
from launch.submit import SubmitRequest, submit
from launch.targets.bedrock_customization import BedrockCustomizationTarget
from launch.targets.jumpstart import JumpStartTarget
from launch.targets.recipes import RecipesTarget
from launch.targets.sagemaker_serverless import ServerlessTarget
from tests.factories import write_jsonl
from tests.unit.launch.conftest import deploy_by_hand
from tests.unit.launch.fake_accounts import DEV

ROWS = 120
MICRO, QWEN = "amazon.nova-micro-v1:0", "huggingface-reasoning-qwen3-06b"
NOVA_2 = "amazon.nova-2-lite-v1:0"
GATED = "meta-textgeneration-llama-3-2-1b-instruct"


@dataclass
class ManagedAccount:
    """Emulated account with providers of managed customization.

    Attributes:
        bedrock: Emulated Bedrock.
        sagemaker: Emulated SageMaker, with its hub.
        clock: Clock of Bedrock, which stands still.
        session: Session for targets.
        folder: Folder of weights that stand for every model.
    """

    bedrock: BedrockEmulator
    sagemaker: SageMakerEmulator
    clock: FakeClock
    session: AwsSession
    folder: Path

    @property
    def bedrock_target(self) -> BedrockCustomizationTarget:
        """Target of Bedrock's customization."""
        return BedrockCustomizationTarget(self.session)

    @property
    def serverless_target(self) -> ServerlessTarget:
        """Target of serverless customization."""
        return ServerlessTarget(self.session)

    @property
    def recipes_target(self) -> RecipesTarget:
        """Target of the hub's recipes."""
        return RecipesTarget(self.session)

    @property
    def jumpstart_target(self) -> JumpStartTarget:
        """Target of our training on the hub's weights."""
        return JumpStartTarget(self.session)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of weights that nothing loads, so that no test waits for torch."""
    folder = tmp_path_factory.mktemp("weights")
    shape = {
        "model_type": "qwen2",
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 320,
    }
    (folder / "config.json").write_text(json.dumps(shape))
    save_file({"weight": np.zeros((2, 2), np.float32)}, str(folder / "model.safetensors"))
    return folder


def copy_base(work: CustomizationWork) -> Path:
    """Return a copy of the base model, untrained."""
    return shutil.copytree(work.base, work.home / "model", dirs_exist_ok=True)


@pytest.fixture(scope="package")
def train() -> Train:
    """Return what trains in the emulator: a copy of the base, which takes no time."""
    return copy_base


@pytest.fixture(scope="package")
def managed(
    weights: Path, train: Train, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ManagedAccount]:
    """Yield an account with a small model behind every name."""
    home = tmp_path_factory.mktemp("providers")
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("YES", "1")
        for name, value in credentials(1, DEV.region).items():
            if name != "AWS_ENDPOINT_URL":
                patch.setenv(name, value)
        clock, runtime = FakeClock(), NamespaceRuntime(("false",))
        _client.cache_clear()
        sagemaker = InProcessSageMaker(
            "http://127.0.0.1:9", DEV.region, home, runtime, ServiceTimings(), clock
        )
        sagemaker.train = train
        client = sagemaker.client
        timings = BedrockTimings(customize_s=300)
        bedrock = BedrockEmulator(DEV.region, client, clock, home / "bedrock", timings)
        bedrock.customizations.train = train
        deploy_by_hand(sagemaker, DEV)
        _publish(client)
        for name in (MICRO, NOVA_2):
            bedrock.add_foundation_model(name, weights)
        for name in (QWEN, "nova-textgeneration-micro", "nova-textgeneration-lite-v2"):
            sagemaker.hub.add(HubContent(name, weights))
        sagemaker.hub.add(HubContent(GATED, weights, gated=True))
        services = (*sagemaker.services, *bedrock.services)
        with AwsServer(services, "http://127.0.0.1:9") as server:
            for name, value in server.variables().items():
                patch.setenv(name, value)
            yield ManagedAccount(bedrock, sagemaker, clock, AwsSession(DEV), weights)
        sagemaker.close()
        bedrock.close()


class InProcessSageMaker(SageMakerEmulator):
    """Emulator whose account is moto in this process."""

    def client(self, name: str) -> Any:
        """Return a client of the account."""
        return _client(name)


@cache
def _client(name: str) -> Any:
    # The emulator's own calls do not go to the emulator.
    config = Config(ignore_configured_endpoint_urls=True)
    return boto3.Session("test", "test", region_name=DEV.region).client(name, config=config)


def _publish(client: Callable[[str], Any]) -> None:
    """Publish what only providers need of the platform."""
    trust = '{"Statement": [{"Principal": {"Service": "bedrock.amazonaws.com"}}]}'
    made = client("iam").create_role(RoleName="customization", AssumeRolePolicyDocument=trust)
    role = made["Role"]["Arn"]
    group = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/temper-dev-models"
    trust = trust.replace("bedrock", "lambda")
    grader = client("iam").create_role(RoleName="grader", AssumeRolePolicyDocument=trust)
    values = {
        "roles/bedrock-customization": role,
        "roles/grader": grader["Role"]["Arn"],
        "training/model-package-group": group,
        "training/grader-log-group": "/aws/lambda/temper-dev-graders",
    }
    for name, value in values.items():
        client("ssm").put_parameter(Name=f"/temper-dev/{name}", Value=value, Type="String")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Return a file of prompts with answers."""
    return write_jsonl(
        tmp_path / "rows.jsonl",
        [{"prompt": f"Which number is {n}?", "completion": f"It is {n}."} for n in range(ROWS)],
    )


@pytest.fixture
def job(tmp_path: Path, rows: Path) -> Callable[..., Path]:
    """Return a factory of job files; keys have `__` for the dot."""

    def make(model: str, name: str = "support", **keys: Any) -> Path:
        document: dict[str, Any] = {
            "name": name,
            "model": {"source": model},
            "data": {"train": str(rows)},
            "method": {"kind": "sft"},
            "adapter": {"kind": "lora"},
            "train": {"learning_rate": 1e-5, "num_train_epochs": 2},
        }
        for key, value in keys.items():
            section = document
            *parents, last = key.split("__")
            for part in parents:
                section = section.setdefault(part, {})
            section[last] = value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return make


def submit_job(path: Path, target: Any, **more: Any) -> tuple[Submission, list[str]]:
    """Submit a job, and return the run with the lines that were shown."""
    lines: list[str] = []
    request = SubmitRequest(path, "", target.name, "dev", path.parent / "runs", **more)
    return submit(request, target, lines.append), lines
