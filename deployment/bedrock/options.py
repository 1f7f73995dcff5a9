"""Keys and ends of a specification that do not apply to Bedrock."""

from __future__ import annotations

from collections.abc import Iterator

from deployment.lifetime import past_end_problems
from deployment.targets.base import DeploymentRequest, ignored_problems
from training.errors import Problem

_OF_SAGEMAKER = (
    "instance",
    "copies",
    "scaling",
    "rollout",
    "capture",
    "adapter_of",
    "devices",
    "image",
    "ami",
    "settings",
    "chat",
    "batch",
)


def option_problems(request: DeploymentRequest, *also: str) -> Iterator[Problem]:
    """Yield a problem for each key that is given and has no effect, and for an end in the past.

    Args:
        request: The deployment.
        also: Further keys without an effect.
    """
    yield from ignored_problems(request, *_OF_SAGEMAKER, *also)
    yield from past_end_problems(request.spec.end)


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
