"""Namespace and queue of a job: one story for the launcher, access rights, quotas and auto-resume.

The platform publishes the namespaces that its set-up has prepared. Task governance gives each team
a namespace `hyperpod-ns-<team>` with a queue; without teams there is one namespace. HyperPod
resumes jobs in `kubeflow` and in namespaces whose name begins with `hyperpod` only:
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-eks-run-jobs-hyperpod-cli.html
"""

from __future__ import annotations

import dataclasses
import os

from catalog.run_metrics import metric_namespace
from launch.aws.platform_parameters import PlatformParameters
from launch.eks.cluster_objects import CLAIM, SERVICE_ACCOUNT
from launch.eks.manifests import KubernetesSettings
from launch.errors import LaunchError

TEAM_NAMESPACE = "hyperpod-ns-{}"
QUEUE = "hyperpod-ns-{}-localqueue"
"""Names that task governance gives to the namespace and the queue of a team:
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-eks-run-jobs-hyperpod-cli.html"""
RESUMED = "kubeflow, or a namespace that begins with hyperpod-ns-"


def published_namespaces(platform: PlatformParameters) -> tuple[str, ...]:
    """Return the namespaces that the platform prepares for jobs; none of an older platform."""
    return tuple(filter(None, (platform.get("hyperpod/namespaces") or "").split(",")))


def published_teams(platform: PlatformParameters) -> tuple[str, ...]:
    """Return the teams that share the cluster."""
    return tuple(filter(None, (platform.get("hyperpod/teams") or "").split(",")))


def is_resumed(namespace: str) -> bool:
    """Return whether HyperPod resumes the jobs of a namespace after a node fails."""
    return namespace == "kubeflow" or namespace.startswith("hyperpod")


def chosen_settings() -> KubernetesSettings:
    """Return the settings that the user's environment variables choose, for any cluster."""
    defaults = KubernetesSettings()
    return KubernetesSettings(
        namespace=os.environ.get("EKS_NAMESPACE", defaults.namespace),
        claim=os.environ.get("EKS_CLAIM", defaults.claim),
    )


def platform_settings(platform: PlatformParameters) -> KubernetesSettings:
    """Return the settings of the platform's cluster, as `temper cluster-setup` prepares it.

    Raises:
        LaunchError: The platform is older than its set-up, or EKS_NAMESPACE names a namespace
            in which HyperPod resumes no job.
    """
    namespaces = published_namespaces(platform)
    if not namespaces:
        name = platform.environment.name
        raise LaunchError(
            f"the platform of {name} publishes no namespace for jobs: it is older than this "
            f"version. Deploy it again: make deploy ENV={name}; then temper cluster-setup "
            f"--env {name}"
        )
    namespace = os.environ.get("EKS_NAMESPACE", namespaces[0])
    if not is_resumed(namespace):
        raise LaunchError(
            f"EKS_NAMESPACE={namespace}: HyperPod would not resume the job after a node fails, "
            f"which it does in {RESUMED}. Unset it, or use --target eks"
        )
    return KubernetesSettings(
        namespace=namespace,
        claim=os.environ.get("EKS_CLAIM", CLAIM),
        service_account=SERVICE_ACCOUNT,
        metric_namespace=metric_namespace(platform.environment.prefix),
        region=platform.environment.region,
    )


def settings_of_job(
    cluster: KubernetesSettings, teams: tuple[str, ...], partition: str | None
) -> KubernetesSettings:
    """Return the settings with the namespace and the queue of the job's team.

    Args:
        cluster: Settings of the cluster.
        teams: Teams that share the cluster; empty without task governance.
        partition: `resources.partition` of the job: a team, or a queue if there are no teams.

    Raises:
        LaunchError: There are several teams and the job names none, or an unknown one.
    """
    if not teams or "EKS_NAMESPACE" in os.environ:
        return dataclasses.replace(cluster, queue=partition or "")
    team = partition or (teams[0] if len(teams) == 1 else None)
    if team not in teams:
        given = f"{partition!r} is no team of the cluster" if partition else "is required"
        raise LaunchError(
            f"resources.partition: {given}; name the team whose quota the job uses, one of "
            f"{', '.join(teams)}"
        )
    return dataclasses.replace(
        cluster, namespace=TEAM_NAMESPACE.format(team), queue=QUEUE.format(team)
    )
