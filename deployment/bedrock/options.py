"""Keys of a specification that a deployment to Bedrock would ignore."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from deployment.targets.base import DeploymentRequest
from training.errors import Problem

_OF_SAGEMAKER = (
    *("instance", "copies", "scaling", "rollout", "capture", "adapter_of", "devices", "image"),
    *("ami", "settings", "chat", "batch"),
)


def option_problems(request: DeploymentRequest, *also: str) -> Iterator[Problem]:
    """Yield a problem for each key that is given and has no effect, and for an end in the past.

    Args:
        request: The deployment.
        also: Further keys without an effect.
    """
    spec = request.spec
    for key in (*_OF_SAGEMAKER, *also):
        value = getattr(spec, key)
        if key in spec.model_fields_set and value != type(spec).model_fields[key].get_default():
            yield Problem(key, f"has no effect on a deployment to {spec.to}", fix="Leave it out")
    if spec.end.until is not None and spec.end.until <= datetime.now(UTC):
        text = spec.end.until.strftime("%FT%TZ")
        yield Problem("end.until", "is in the past", text, "Name a later time")


def end_problems(request: DeploymentRequest) -> Iterator[Problem]:
    """Yield a problem for an end that nothing would bring about.

    The platform's schedule removes what is paid by the hour.
    """
    if request.spec.end.forever is None:
        yield Problem(
            "end",
            f"the platform's schedule removes what is paid by the hour, and a deployment to "
            f"{request.spec.to} is paid while it is called",
            fix="Give a reason with --forever, and remove it with `temper undeploy`",
        )
