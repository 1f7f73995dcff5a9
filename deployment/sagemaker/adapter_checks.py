"""Problems of an adapter on a base that is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import catalog.deployment_tags as tag
from deployment.account import DeploymentAccount
from deployment.sagemaker.calls import SageMakerCalls
from deployment.sagemaker.components import served
from deployment.targets.base import DeploymentRequest
from registry.remote.package_metadata import weights_of
from registry.remote.sagemaker import SageMakerRegistry
from training.errors import Problem

MAX_RANK = 512
"""Largest rank of a LoRA adapter that vLLM loads (`--max-lora-rank`)."""
_RANK_SETTING = "TEMPER_SERVE_MAX_LORA_RANK"


def adapter_problems(
    account: DeploymentAccount, request: DeploymentRequest, base: Mapping[str, Any] | None
) -> Iterator[Problem]:
    """Yield the problems of adding an adapter to a deployed base.

    Args:
        account: Account of the deployment.
        request: The deployment.
        base: Description of the component of the base; None if there is none.
    """
    spec, model = request.spec, request.model
    name = str(spec.adapter_of)
    if not model.is_adapter:
        yield Problem(
            "form",
            f"is not an adapter; {model.id} has {', '.join(model.forms)}",
            model.form,
            "Set --form adapter, or deploy without --adapter-of",
        )
    if base is None:
        yield Problem(
            "adapter_of",
            "is not deployed as a component",
            name,
            f"Deploy the base first: temper deploy-model BASE@VERSION --to component --name {name}",
        )
        return
    if "BaseInferenceComponentName" in base["Specification"]:
        on = base["Specification"]["BaseInferenceComponentName"]
        yield Problem(
            "adapter_of", f"is itself an adapter, on {on}", name, "Name the deployment of the base"
        )
        return
    if base["InferenceComponentStatus"] != "InService":
        yield Problem(
            "adapter_of",
            f"is {base['InferenceComponentStatus']}, not InService",
            name,
            "Wait until `temper deployments` says that it is deployed",
        )
    if not model.is_adapter:
        return
    calls = SageMakerCalls(account.client("sagemaker"))
    described = calls.describe("model", ModelName=served(base["Specification"])) or {}
    yield from _base_problems(account, request, calls.tags(described["ModelArn"]))
    variables = described.get("PrimaryContainer", {}).get("Environment", {})
    limit = int(variables.get(_RANK_SETTING) or MAX_RANK)
    if model.adapter_rank is not None and model.adapter_rank > limit:
        yield Problem(
            "model",
            f"has rank {model.adapter_rank}, and the engine of {name} loads up to {limit}",
            model.id,
            "Lower it: temper export --format adapter-svd --rank 64, then register the run",
        )


def _base_problems(
    account: DeploymentAccount, request: DeploymentRequest, tags: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield a problem if the adapter was trained on other weights than the base has.

    Args:
        account: Account of the deployment.
        request: The deployment of the adapter.
        tags: Tags of the base's model.
    """
    registry = SageMakerRegistry(
        account.platform, account.client("sagemaker"), account.client("s3")
    )
    name, number = tags.get(tag.MODEL, ""), tags.get(tag.VERSION)
    for version in registry.versions(name) if name else ():
        weights = weights_of(registry.metadata(version)).values()
        trained_on = request.model.base_digest
        if str(version.version) == number and weights and trained_on not in (None, *weights):
            yield Problem(
                "adapter_of",
                f"serves {version.id}, whose weights are not those that {request.model.id} was "
                f"trained on ({str(trained_on)[:12]}…)",
                str(request.spec.adapter_of),
                "Deploy its base, or train the adapter on this one",
            )
