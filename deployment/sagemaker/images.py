"""Serving image of an instance type, and the operating system that its CUDA needs.

SageMaker's default operating system for endpoints has an older driver than current images need:
the container then fails when it starts. Source: `InferenceAmiVersion`, API_ProductionVariant of the
SageMaker API Reference, read on 2026-11-22.
"""

from __future__ import annotations

import re

from catalog.instances import instance as described
from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError

CUDA_OF_AMI = {
    "al2-ami-sagemaker-inference-gpu-2": (12, 2),
    "al2-ami-sagemaker-inference-gpu-2-1": (12, 2),
    "al2-ami-sagemaker-inference-gpu-3-1": (12, 4),
    "al2023-ami-sagemaker-inference-gpu-4-1": (13, 0),
}
"""Newest CUDA of an image that each operating system runs."""
SERVING_CUDA = (13, 0)
"""CUDA of the base of `containers/serve-gpu`."""
_CUDA_IN_TAG = re.compile(r"[-:.]cu(?:da)?-?(\d\d)\.?(\d)")


def image_kind(instance: str) -> str:
    """Return the kind of serving image of an instance type: `serve` or `serve-gpu`.

    Raises:
        DeployModelError: No image serves on its accelerators.
    """
    found = described(instance)
    kind = found.accelerator.kind if found else "cpu"
    if kind == "neuron":
        raise DeployModelError(
            f"{instance}: no serving image runs on its accelerators. Choose a GPU or CPU instance"
        )
    return "serve-gpu" if kind == "cuda" else "serve"


def serving_image(account: DeploymentAccount, instance: str, image: str | None = None) -> str:
    """Return the address of the image that serves on an instance type.

    Args:
        account: Account of the deployment.
        instance: Instance type.
        image: Image that the user named.

    Raises:
        DeployModelError: The environment has none.
    """
    if image is not None:
        return image
    kind = image_kind(instance)
    found = account.platform.get(f"images/{kind}/uri")
    if found is None:
        name = account.environment.name
        raise DeployModelError(
            f"the environment {name} has no {kind} image that passed its scan. Add {kind} to "
            f"images.kinds of environments/{name}.yaml, deploy it, then: temper publish-image "
            f"{kind} --env {name}"
        )
    return found


def image_cuda(image: str | None) -> tuple[int, int] | None:
    """Return the CUDA version of an image, by its tag; None if the tag has none.

    Args:
        image: Address of the image; None for the environment's own.
    """
    if image is None:
        return SERVING_CUDA
    match = _CUDA_IN_TAG.search(image.rpartition("/")[2])
    return (int(match[1]), int(match[2])) if match else None


def inference_ami(image: str | None, instance: str) -> str | None:
    """Return the operating system that an endpoint needs, None for SageMaker's default.

    Args:
        image: Image that the user named.
        instance: Instance type.
    """
    cuda = image_cuda(image)
    if image_kind(instance) != "serve-gpu" or cuda is None:
        return None
    able = [ami for ami, newest in CUDA_OF_AMI.items() if newest >= cuda]
    return min(able, key=lambda ami: CUDA_OF_AMI[ami]) if able else None
