"""Scenario of a deployment: register, approve, deploy, ask, swap, roll back, remove.

Every step of the user is a `temper` command; only the fault is injected into the service.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from emulator.environment import EmulatedEnvironment
from emulator.moto_account import ACCOUNT
from launch.errors import LaunchError

INSTANCE = "ml.g5.xlarge"
_IMAGE = "serve-gpu"
_REASON = "rehearsal"
_TEXT = {"prompt": "Hello", "max_tokens": 4, "temperature": 0}


@dataclass
class DeploymentResult:
    """Observations of a rehearsed deployment.

    Attributes:
        answers: Answer of the endpoint after each step.
        configs: Name of the configuration that ran after each step.
        seconds: Duration of each step.
    """

    answers: dict[str, str] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class DeploymentScenario:
    """Rehearsal of the deployment of a run's model.

    Args:
        environment: Emulated environment.
        run: Folder of the run.
        print_line: Prints a line to the user.
    """

    def __init__(
        self, environment: EmulatedEnvironment, run: Path, print_line: Callable[[str], None]
    ):
        self.environment, self.run_folder, self.print_line = environment, run, print_line
        self.result = DeploymentResult()

    def run(self) -> DeploymentResult:
        """Run the rehearsal to its end.

        Raises:
            LaunchError: A step had another result than it must have.
        """
        publish_serving(self.environment)
        self._approve("rehearsed@1.0.0")
        self._step("deployed", "deploy-model", "rehearsed@1.0.0", *self._how, "--forever", _REASON)
        self._approve("rehearsed@1.1.0")
        self._step("swapped", "swap", "rehearsed@1.1.0", *self._shift)
        self._approve("rehearsed@1.2.0")
        self._roll_back()
        self._command("undeploy", "rehearsed", "--env", self._env)
        self._expect_nothing_left()
        return self.result

    # --- steps ------------------------------------------------------------------------------

    @property
    def _env(self) -> str:
        return self.environment.environment.name

    @property
    def _how(self) -> tuple[str, ...]:
        return ("--to", "endpoint", "--instance", INSTANCE, "--no-chat")

    @property
    def _shift(self) -> tuple[str, ...]:
        return ("--instance", INSTANCE, "--no-chat", "--rollout", "all-at-once")

    def _approve(self, version: str) -> None:
        """Register the run as a version, and approve it; the one before is archived."""
        name, _, number = version.partition("@")
        self._command(
            *("register", str(self.run_folder), "--name", name, "--version", number),
            *("--override", _REASON, "--env", self._env),
        )
        self._command("promote", version, "production", "--env", self._env)

    def _step(self, name: str, *arguments: str) -> None:
        began = time.monotonic()
        self._command(*arguments, "--env", self._env)
        self._observe(name, began)

    def _roll_back(self) -> None:
        """Swap once more, while the service rolls the deployment back without a reason.

        Raises:
            LaunchError: The rollback was not noticed.
        """
        self.print_line("the next deployment is rolled back by the service, without a reason")
        self.environment.service.hosting.context.faults.silent_rollbacks = 1
        began = time.monotonic()
        arguments = ("rehearsed@1.2.0", *self._shift, "--env", self._env)
        done = self._command("swap", *arguments, must_fail=True)
        if "rehearsed@1.1.0 serves" not in done:
            raise LaunchError(f"the rollback is not reported:\n{done}")
        self._observe("rolled back", began)
        if self.result.configs["rolled back"] != self.result.configs["swapped"]:
            raise LaunchError("after the rollback, another configuration runs than before")

    def _observe(self, step: str, began: float) -> None:
        sagemaker = self._client("sagemaker")
        (endpoint,) = sagemaker.list_endpoints()["Endpoints"]
        name = endpoint["EndpointName"]
        described = sagemaker.describe_endpoint(EndpointName=name)
        answer = self._client("sagemaker-runtime").invoke_endpoint(
            EndpointName=name, ContentType="application/json", Body=json.dumps(_TEXT).encode()
        )
        text = json.loads(answer["Body"].read())["choices"][0]["text"]
        self.result.answers[step] = text
        self.result.configs[step] = described["EndpointConfigName"]
        self.result.seconds[step] = time.monotonic() - began
        self.print_line(f"{step}: {described['EndpointConfigName']} answers {text!r}")

    def _expect_nothing_left(self) -> None:
        """Wait until the endpoint is gone.

        Raises:
            LaunchError: Something remains.
        """
        sagemaker, left = self._client("sagemaker"), []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            left = [
                *(e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]),
                *(
                    c["EndpointConfigName"]
                    for c in sagemaker.list_endpoint_configs()["EndpointConfigs"]
                ),
                *(m["ModelName"] for m in sagemaker.list_models()["Models"]),
            ]
            if not left:
                self.print_line("nothing of the deployment is left")
                return
            time.sleep(1)
        raise LaunchError(f"left behind: {', '.join(left)}")

    def _client(self, name: str) -> Any:
        import boto3

        url = self.environment.variables[f"AWS_ENDPOINT_URL_{name.replace('-', '_').upper()}"]
        session = boto3.Session("test", "test", region_name=self.environment.environment.region)
        return session.client(name, endpoint_url=url)

    def _command(self, name: str, *arguments: str, must_fail: bool = False) -> str:
        shown = " ".join(("temper", name, *arguments))
        self.print_line(f"$ {shown}")
        registry = str(self.environment.work / "model-registry")
        done = self.environment.run_temper(name, *arguments, TEMPER_REGISTRY=registry)
        output = done.stdout + done.stderr
        if bool(done.returncode) != must_fail:
            raise LaunchError(f"{shown} ended with {done.returncode}: {output}")
        for line in output.splitlines():
            self.print_line(f"  {line}")
        return output


def publish_serving(environment: EmulatedEnvironment) -> None:
    """Publish what endpoints need of the platform, unless the deployed platform has done so.

    An environment without `serving` lacks the role, the security group and the image of endpoints.
    """
    service, prefix = environment.service, environment.environment.prefix
    function = f"arn:aws:lambda:{service.region}:{ACCOUNT}:function:{prefix}"
    ssm, ec2 = service.client("ssm"), service.client("ec2")
    known = {
        parameter["Name"].removeprefix(f"/{prefix}/"): parameter["Value"]
        for page in ssm.get_paginator("get_parameters_by_path").paginate(
            Path=f"/{prefix}/", Recursive=True
        )
        for parameter in page["Parameters"]
    }
    group_arn = known["training/model-package-group"]
    with suppress(ClientError):  # moto's CloudFormation accepts the group, and creates none
        service.client("sagemaker").create_model_package_group(
            ModelPackageGroupName=group_arn.rpartition("/")[2]
        )
    if f"images/{_IMAGE}/uri" not in known:
        service.client("ecr").create_repository(repositoryName=f"{prefix}/{_IMAGE}")
        environment.promote_image(_IMAGE)
    if "roles/serving" in known:
        return
    trust = '{"Statement": [{"Principal": {"Service": "sagemaker.amazonaws.com"}}]}'
    role = service.client("iam").create_role(
        RoleName=f"{prefix}-serving", AssumeRolePolicyDocument=trust
    )
    subnet = known["network/subnets"].split(",")[0]
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="serving", Description="serving", VpcId=vpc)
    values = {
        "roles/serving": role["Role"]["Arn"],
        "serving/security-group": group["GroupId"],
        "serving/undeploy-function": function,
    }
    for name, value in values.items():
        ssm.put_parameter(Name=f"/{prefix}/{name}", Value=value, Type="String")
