"""What the platform published about itself, under `/<prefix>/` in the parameter store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.aws.session import explained
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError

# Name of the parameter -> whether a platform without it cannot run jobs.
PARAMETERS = {
    "roles/training": True,
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
    "training/model-package-group": False,
    "training/mlflow-app": False,
    "secrets/hub-token": False,
    "bedrock/judges": False,
    "lustre/file-system": False,
    "hyperpod/cluster": False,
    "hyperpod/eks": False,
    "roles/engineer": False,
}


@dataclass(frozen=True)
class PlatformParameters:
    """The deployment that a job runs on.

    Attributes:
        environment: Its name, prefix and place.
        values: The parameters, without the prefix: `roles/training` and so on.
        lustre_mount: The mount name of its file system, where it has one and that was asked for.
    """

    environment: LaunchEnvironment
    values: Mapping[str, str] = field(default_factory=dict)
    lustre_mount: str | None = None

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def get(self, name: str) -> str | None:
        """Return a parameter, or None where the platform was deployed without it."""
        return self.values.get(name)

    def image(self, kind: str) -> str:
        """Return the image in use for `gpu` or `neuron`, by digest.

        Raises:
            LaunchError: None was built yet, or none passed its scan.
        """
        uri = self.get(f"images/{kind}/uri")
        if uri is None:
            name = self.environment.name
            raise LaunchError(
                f"the environment {name} has no {kind} image that passed its scan. Build one: "
                f"make image KIND={kind} ENV={name}; or name one in resources.image"
            )
        return uri

    @property
    def subnets(self) -> list[str]:
        """The private subnets that jobs run in."""
        return self["network/subnets"].split(",")

    @property
    def security_groups(self) -> list[str]:
        """The groups whose members may talk to each other."""
        return self["network/security-groups"].split(",")

    @property
    def encrypts_traffic(self) -> bool:
        """Whether jobs must encrypt what their instances tell each other."""
        return self["training/encrypt-traffic"] == "true"


def read_platform_parameters(environment: LaunchEnvironment, ssm: Any) -> PlatformParameters:
    """Return what the platform of an environment published.

    Args:
        environment: Which one.
        ssm: A client of the parameter store.

    Raises:
        LaunchError: It is not deployed, or only in part.
    """
    root = f"/{environment.prefix}/"
    values: dict[str, str] = {}
    with explained(f"reading the parameters under {root}"):
        pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=root, Recursive=True)
        for page in pages:
            values |= {p["Name"].removeprefix(root): p["Value"] for p in page["Parameters"]}
    missing = [name for name, needed in PARAMETERS.items() if needed and name not in values]
    if missing:
        what = "only in part" if values else "not"
        lack = f" (no {', '.join(missing[:4])})" if values else ""
        raise LaunchError(
            f"the environment {environment.name} is {what} deployed in {environment.region} of "
            f"this account{lack}. Deploy it: make deploy ENV={environment.name}"
        )
    return PlatformParameters(environment, values)
