"""Parameters that the platform publishes about itself, under `/<prefix>/` in Parameter Store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.aws.session import explain_aws_errors
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError

# Name of each parameter -> whether jobs cannot run without it.
PARAMETERS = {
    "roles/training": True,
    "roles/training-with-secrets": False,
    "roles/processing": False,
    "roles/pipeline": False,
    "pipelines/step-function": False,
    "keys/data": True,
    "keys/models": True,
    "buckets/data": True,
    "buckets/runs": True,
    "buckets/models": True,
    "network/subnets": True,
    "network/security-groups": True,
    "network/internet": False,
    "training/log-group": True,
    "training/encrypt-traffic": True,
    "storage/upload-days": False,
    "training/max-runtime-hours": False,
    "training/allowed-instance-types": False,
    "training/model-package-group": False,
    "training/grader-log-group": False,
    "training/mlflow-app": False,
    "secrets/hub-token": False,
    "bedrock/judges": False,
    "lustre/file-system": False,
    "hyperpod/cluster": False,
    "hyperpod/eks": False,
    "hyperpod/namespaces": False,
    "hyperpod/teams": False,
    "hyperpod/autoscaled-groups": False,
    "hyperpod/key-document": False,
    "hyperpod/software": False,
    "roles/engineer": False,
    "monitoring/runs-topic": False,
    "roles/serving": False,
    "roles/model-deployer": False,
    "roles/bedrock-import": False,
    "roles/bedrock-customization": False,
    "roles/grader": False,
    "serving/security-group": False,
    "serving/allowed-instance-types": False,
    "serving/undeploy-function": False,
    "serving/schedule-group": False,
    "serving/schedule-role": False,
    "images/build-project": False,
    "images/build-compute": False,
    "images/approval": False,
    "images/refuse-findings-from": False,
}


@dataclass(frozen=True)
class PlatformParameters:
    """Parameters of the deployment that a job runs on.

    Attributes:
        environment: Name, prefix and location of the deployment.
        values: The parameters by name without the prefix, such as `roles/training`.
        lustre_mount: Mount name of the file system; None if there is none or it was not read.
    """

    environment: LaunchEnvironment
    values: Mapping[str, str] = field(default_factory=dict)
    lustre_mount: str | None = None

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def get(self, name: str) -> str | None:
        """Return a parameter, or None if the platform was deployed without it."""
        return self.values.get(name)

    def image(self, kind: str) -> str:
        """Return the address, with digest, of the current image of a kind (`gpu` or `neuron`).

        Raises:
            LaunchError: No image was built yet, or none passed its scan.
        """
        uri = self.get(f"images/{kind}/uri")
        if uri is None:
            name = self.environment.name
            raise LaunchError(
                f"the environment {name} has no {kind} image that passed its scan. Build one: "
                f"temper publish-image {kind} --env {name}; or name one in resources.image"
            )
        return uri

    @property
    def subnets(self) -> list[str]:
        """Private subnets that jobs run in."""
        return self["network/subnets"].split(",")

    @property
    def security_groups(self) -> list[str]:
        """Security groups whose members may connect to each other."""
        return self["network/security-groups"].split(",")

    @property
    def encrypts_traffic(self) -> bool:
        """True if jobs must encrypt the traffic between their instances."""
        return self["training/encrypt-traffic"] == "true"


def read_platform_parameters(environment: LaunchEnvironment, ssm: Any) -> PlatformParameters:
    """Return the parameters that an environment's platform published.

    Args:
        environment: The environment.
        ssm: boto3 client of `ssm`.

    Raises:
        LaunchError: The environment is not deployed, or only in part.
    """
    root = f"/{environment.prefix}/"
    values: dict[str, str] = {}
    with explain_aws_errors(f"reading the parameters under {root}"):
        pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=root, Recursive=True)
        for page in pages:
            values |= {p["Name"].removeprefix(root): p["Value"] for p in page["Parameters"]}
    missing = [name for name, required in PARAMETERS.items() if required and name not in values]
    if missing:
        extent = "only in part" if values else "not"
        lack = f" (no {', '.join(missing[:4])})" if values else ""
        raise LaunchError(
            f"the environment {environment.name} is {extent} deployed in {environment.region} of "
            f"this account{lack}. Deploy it: make deploy ENV={environment.name}"
        )
    return PlatformParameters(environment, values)
