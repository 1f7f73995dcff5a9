"""Problems of a deployment on a HyperPod cluster, found before any resource is created."""

from __future__ import annotations

from collections.abc import Iterator

from catalog.instances import instance as described
from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError
from deployment.hyperpod.manifest import KIND
from deployment.sagemaker.checks import model_problems
from deployment.sagemaker.images import serving_image
from deployment.targets.base import DeploymentRequest, ignored_problems
from launch.aws.hyperpod_nodes import describe_cluster
from launch.eks.kubectl import Kubectl
from launch.eks.setup import has_kind
from launch.errors import LaunchError
from training.errors import Problem

_INSTALL = (
    "https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-model-deployment-setup.html"
)


def hyperpod_problems(
    account: DeploymentAccount, request: DeploymentRequest, kubectl: Kubectl
) -> Iterator[Problem]:
    """Yield everything that would make a deployment fail.

    Args:
        account: Account of the deployment.
        request: The deployment.
        kubectl: Client of the namespace of the deployment.
    """
    yield from ignored_problems(request, "batch", "throughput", "rollout", "ami")
    yield from _unsupported(request)
    yield from model_problems(request)
    yield from _instance_problems(account, request)
    yield from _operator_problems(kubectl)


def _unsupported(request: DeploymentRequest) -> Iterator[Problem]:
    """Yield what the operator cannot do, or what the platform cannot do for it."""
    spec = request.spec
    if spec.end.forever is None:
        yield Problem(
            "end",
            "the platform's scheduled function cannot remove objects of the cluster, so that no "
            "time or idle rule would be kept",
            fix="Write --forever REASON, and remove it yourself: temper undeploy. With "
            "scaling.min: 0 it occupies no device while it is idle",
        )
    if spec.capture is not None:
        yield Problem("capture", "is not set up for deployments on a cluster", fix="Omit it")
    if spec.adapter_of is not None:
        yield Problem(
            "adapter_of", "the operator has no components of adapters", fix="Deploy --to component"
        )


def _instance_problems(account: DeploymentAccount, request: DeploymentRequest) -> Iterator[Problem]:
    spec = request.spec
    if spec.instance is None:
        fix = "Name an instance type of the cluster"
        yield Problem("instance", "is missing", fix=fix)
        return
    try:
        groups = describe_cluster(account.session, account.platform).get("InstanceGroups", [])
    except LaunchError as error:
        yield Problem("--env", str(error))
        return
    types = sorted({str(group["InstanceType"]) for group in groups})
    if spec.instance not in types:
        yield Problem(
            "instance",
            "no instance group of the cluster has it",
            spec.instance,
            f"Choose one of {', '.join(types) or 'none'}, or add a group to hyperpod of "
            f"environments/{account.environment.name}.yaml",
        )
    found = described(spec.instance)
    if spec.devices and found is not None and spec.devices > found.devices:
        yield Problem(
            "devices", f"{spec.instance} has {found.devices} accelerators", str(spec.devices)
        )
    try:
        serving_image(account, spec.instance, spec.image)
    except (DeployModelError, LaunchError) as error:
        yield Problem("image", str(error))


def _operator_problems(kubectl: Kubectl) -> Iterator[Problem]:
    """Yield what the cluster lacks, or what the caller may not do in it."""
    try:
        if not has_kind(kubectl, KIND):
            yield Problem(
                "--to",
                f"the cluster has no {KIND}: AWS's inference operator is not installed",
                "hyperpod",
                f"An administrator installs it: {_INSTALL}",
            )
            return
        missing = [verb for verb in ("get", "patch", "delete") if not kubectl.allows(verb, KIND)]
    except LaunchError as error:
        yield Problem("--to", str(error), "hyperpod")
        return
    if missing:
        yield Problem(
            "--to",
            f"you may not {' or '.join(missing)} {KIND} in {kubectl.namespace}",
            "hyperpod",
            "An administrator binds you to the operator's inferenceendpointconfig-editor-role",
        )
