"""Emulated Bedrock on an account of moto, with a role, a bucket and a model that it imports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto import mock_aws
from transformers import AutoTokenizer

from emulator.aws_service import AwsServer
from emulator.bedrock_account import BedrockTimings
from emulator.bedrock_api import BedrockEmulator
from emulator.clock import Clock
from tests.factories import make_tiny_model
from tests.unit.serving.conftest import TEMPLATE
from training.export.transformers_4 import write_transformers_4

REGION, BUCKET = "us-east-1", "temper-models"
ADDRESS = f"s3://{BUCKET}/registry/llama/"
LITE = "amazon.nova-lite-v1:0"
SESSION = boto3.Session("test", "test", region_name=REGION)
"""One for all tests: it reads the descriptions of the services once."""


@dataclass
class EmulatedBedrock:
    """Running emulator, with clients of its services and of the account."""

    service: BedrockEmulator
    bedrock: Any
    runtime: Any
    s3: Any
    account: Any
    role: str

    def import_model(self, name: str = "support", **more: Any) -> str:
        """Start an import, and return the ARN of its job."""
        request = {
            "jobName": f"{name}-1",
            "importedModelName": name,
            "roleArn": self.role,
            "modelDataSource": {"s3DataSource": {"s3Uri": ADDRESS}},
            **more,
        }
        return str(self.bedrock.create_model_import_job(**request)["jobArn"])

    def package(self, hub_name: str = "nova-textgeneration-lite") -> str:
        """Create a model package of a model that SageMaker trained, and return its ARN."""
        answer = self.account("sagemaker").create_model_package(
            ModelPackageName=f"trained-{hub_name}",
            InferenceSpecification={
                "Containers": [
                    {
                        "BaseModel": {"HubContentName": hub_name, "HubContentVersion": "1.0.0"},
                        "ModelDataSource": {
                            "S3DataSource": {
                                "S3Uri": ADDRESS,
                                "S3DataType": "S3Prefix",
                                "CompressionType": "None",
                            }
                        },
                    }
                ]
            },
        )
        return str(answer["ModelPackageArn"])

    def custom_model(self, name: str, package: str) -> str:
        """Start the creation of a custom model, and return its ARN."""
        source = {"modelPackageArnDataSource": {"modelPackageArn": package}}
        answer = self.bedrock.create_custom_model(modelName=name, customModelDataSource=source)
        return str(answer["modelArn"])


@contextmanager
def emulated_bedrock(
    clock: Clock, home: Path, timings: BedrockTimings
) -> Iterator[EmulatedBedrock]:
    """Run the emulator while the context lasts."""
    with mock_aws():
        account = cache(SESSION.client)
        account("s3").create_bucket(Bucket=BUCKET)
        service = BedrockEmulator(REGION, account, clock, home, timings)
        settings = Config(retries={"total_max_attempts": 1}, read_timeout=300)
        with AwsServer(service.services, "http://127.0.0.1:9") as server:
            try:
                yield EmulatedBedrock(
                    service,
                    SESSION.client("bedrock", endpoint_url=server.url, config=settings),
                    SESSION.client("bedrock-runtime", endpoint_url=server.url, config=settings),
                    account("s3"),
                    account,
                    make_role(account("iam"), "bedrock.amazonaws.com"),
                )
            finally:
                service.close()


def make_role(iam: Any, service: str) -> str:
    """Create a role that a service may assume, and return its ARN."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        ],
    }
    role = iam.create_role(
        RoleName=service.partition(".")[0], AssumeRolePolicyDocument=json.dumps(trust)
    )
    return str(role["Role"]["Arn"])


def make_importable_model(folder: Path, model_type: str = "llama") -> Path:
    """Save a small model with a chat template as Transformers 4 reads it."""
    make_tiny_model(folder, model_type)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    write_transformers_4(folder)
    return folder


def upload(s3: Any, folder: Path, address: str = ADDRESS) -> None:
    """Upload the files of a folder."""
    prefix = address.removeprefix(f"s3://{BUCKET}/")
    for path in folder.iterdir():
        s3.upload_file(str(path), BUCKET, prefix + path.name)
