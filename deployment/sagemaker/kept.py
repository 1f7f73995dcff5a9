"""Values of a deployment that a swap keeps, read from what runs in SageMaker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployment.account import DeploymentAccount
from deployment.record import kept_by_tags
from deployment.sagemaker.calls import SageMakerCalls
from deployment.sagemaker.requests import SETTINGS
from deployment.sagemaker.scaling import ScalableResource, scaling_of

_NAME = f"{SETTINGS}NAME"


def kept_values(
    account: DeploymentAccount,
    *,
    model: str,
    resource: ScalableResource,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the keys of a specification that the resources of a deployment show.

    Args:
        account: Account of the deployment.
        model: Name of its model.
        resource: Its variant or component, which may be scaled.
        config: Description of its endpoint's configuration, if calls are captured there.
    """
    calls = SageMakerCalls(account.client("sagemaker"))
    described = calls.describe("model", ModelName=model) or {}
    tags = calls.tags(described["ModelArn"]) if described else {}
    container = described.get("PrimaryContainer", {})
    values: dict[str, Any] = {
        "settings": {
            key.removeprefix(SETTINGS): value
            for key, value in container.get("Environment", {}).items()
            if key.startswith(SETTINGS) and key != _NAME
        },
        "scaling": scaling_of(account, resource),
        "image": _own_image(account, container.get("Image")),
    }
    capture = (config or {}).get("DataCaptureConfig", {})
    if capture.get("EnableCapture"):
        values["capture"] = f"{capture['InitialSamplingPercentage']}%"
    return {**kept_by_tags(tags), **{key: value for key, value in values.items() if value}}


def _own_image(account: DeploymentAccount, image: str | None) -> str | None:
    """Return an image that a user named; None for one of the environment, which may be newer."""
    repository = (image or "").partition("@")[0]
    known = (account.platform.get(f"images/{kind}/uri") for kind in ("serve", "serve-gpu"))
    return None if repository in {(uri or "").partition("@")[0] for uri in known} else image
