"""Checks of the environment's EKS cluster: connection, permissions, volume, training operator."""

from __future__ import annotations

from functools import cached_property

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.session import AwsSession
from launch.doctor.checks import Check, CheckFailed
from launch.eks.api_server import kubectl_of
from launch.eks.cluster_objects import CLAIM, SERVICE_ACCOUNT
from launch.eks.job_lookup import JOB_KIND
from launch.eks.kubectl import Kubectl
from launch.eks.namespaces import published_namespaces
from launch.eks.setup import has_kind

REQUESTS = (
    ("create", JOB_KIND),
    ("patch", JOB_KIND),
    ("delete", JOB_KIND),
    ("create", "configmaps"),
    ("get", "persistentvolumeclaims"),
    ("get", "pods/log"),
)
"""One request of each kind that the launcher sends: verb, and resource."""


class EksChecks:
    """Checks of what `temper cluster-setup` prepares, made with the caller's own permissions.

    Args:
        account: Session of the account.
    """

    def __init__(self, account: AwsSession):
        self.account = account
        self._setup = f"temper cluster-setup --env {account.environment.name}"

    def checks(self) -> list[Check]:
        """Return the checks in the order in which they are run."""
        return [
            Check("cluster", self.connection, needs="platform"),
            Check("operator", self.operator, needs="cluster"),
            Check("permissions", self.permissions, needs="cluster"),
            Check("volume", self.volume, needs="cluster"),
        ]

    @cached_property
    def platform(self) -> PlatformParameters:
        """Parameters that the platform published."""
        return read_platform_parameters(self.account.environment, self.account.client("ssm"))

    @cached_property
    def _kubectl(self) -> Kubectl:
        return kubectl_of(self.account, self.platform)

    @property
    def _namespaces(self) -> tuple[str, ...]:
        namespaces = published_namespaces(self.platform)
        if not namespaces:
            name = self.account.environment.name
            raise CheckFailed("the platform publishes no namespace", f"make deploy ENV={name}")
        return namespaces

    def connection(self) -> str:
        """Check that kubectl reaches this cluster, and that it accepts the caller."""
        version = self._kubectl.run("get", "--raw=/version")
        return f"{self.platform['hyperpod/eks']}, {' '.join(version.split())[:60]}"

    def operator(self) -> str:
        """Check that the cluster serves the kind of our jobs.

        Raises:
            CheckFailed: Kubeflow's training operator is not installed.
        """
        if not has_kind(self._kubectl, JOB_KIND):
            raise CheckFailed(
                f"the cluster has no {JOB_KIND}",
                "install HyperPod's Helm chart: docs/platform/hyperpod.md",
            )
        return JOB_KIND

    def permissions(self) -> str:
        """Check that the caller may send every request of the launcher.

        Raises:
            CheckFailed: Lists what the caller may not do.
        """
        denied = [
            f"{verb} {resource} in {namespace}"
            for namespace in self._namespaces
            for verb, resource in REQUESTS
            if not self._kubectl.in_namespace(namespace).allows(verb, resource)
        ]
        if denied:
            raise CheckFailed(
                f"you may not {', '.join(denied)}", f"as administrator: {self._setup}"
            )
        return f"jobs in {', '.join(self._namespaces)}"

    def volume(self) -> str:
        """Check that each namespace has the bound claim of the shared file system.

        Raises:
            CheckFailed: A claim is missing, or bound to no volume.
        """
        for namespace in self._namespaces:
            claim = self._kubectl.in_namespace(namespace).find("persistentvolumeclaim", CLAIM)
            if claim is None:
                raise CheckFailed(
                    f"{namespace} has no claim {CLAIM}", f"as administrator: {self._setup}"
                )
            phase = claim.get("status", {}).get("phase", "Pending")
            if phase != "Bound":
                raise CheckFailed(
                    f"the claim {CLAIM} in {namespace} is {phase}",
                    f"kubectl describe persistentvolumeclaim {CLAIM} --namespace {namespace}",
                )
        return f"{CLAIM} bound, pods run as {SERVICE_ACCOUNT}"
