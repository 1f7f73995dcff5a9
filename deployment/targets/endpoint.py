"""Deployment to an endpoint of SageMaker with one model.

The traffic shifts to another version by blue/green deployment, which alarms on errors and latency
roll back. An endpoint that was rolled back is in service, so that the configuration that runs is
compared with the one that was asked for.
https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError, RolledBackError
from deployment.lifetime import cancel_end, schedule_end
from deployment.quote import DeploymentQuote, instance_quote
from deployment.record import Deployment, end_tags, end_words
from deployment.sagemaker.alarms import (
    alarms_in_alarm,
    delete_alarms,
    of_endpoint,
    put_rollback_alarms,
    rollback_names,
    wake_name,
)
from deployment.sagemaker.checks import common_problems, no_zero_problems
from deployment.sagemaker.endpoints import Endpoints
from deployment.sagemaker.invoke import invoke_endpoint
from deployment.sagemaker.kept import kept_values
from deployment.sagemaker.requests import (
    config_request,
    deployment_config,
    endpoint_request,
    model_request,
)
from deployment.sagemaker.scaling import (
    deregister_scaling,
    is_scaled,
    register_scaling,
    variant_of,
)
from deployment.targets.base import DeploymentRequest, ignored_problems, require
from training.console import say
from training.errors import Problem

OF_OTHERS = ("adapter_of", "devices", "batch", "throughput")
"""Keys of a specification that endpoints with one model do not read."""


def connect(account: DeploymentAccount) -> EndpointTarget:
    """Return the target in an account."""
    return EndpointTarget(account)


class EndpointTarget:
    """Endpoints with one model.

    Args:
        account: The account.
    """

    kind = "endpoint"
    form: str | None = None

    def __init__(self, account: DeploymentAccount):
        self.account = account
        self.endpoints = Endpoints(account, self.kind)

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        yield from ignored_problems(request, *OF_OTHERS)
        yield from common_problems(self.account, request)
        yield from no_zero_problems(request)

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the deployment costs: an endpoint costs as much idle as in use."""
        spec = request.spec
        assert spec.instance is not None
        least, most = spec.copy_limits
        notes = []
        if least == 1 and spec.rollout.kind != "all-at-once":
            notes.append("a canary of one instance is the whole of it: with two, a part is shifted")
        return instance_quote(
            spec.instance,
            (least, least, most),
            end_words(end_tags(spec.end)),
            region=self.account.environment.region,
            notes=tuple(notes),
        )

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""
        return self.endpoints.find(name)

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment."""
        return list(self.endpoints.all())

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Make a deployment, or continue one that was interrupted, and wait until it serves.

        Raises:
            DeployModelError: It failed, with the service's reason.
        """
        self.put_alarms(request)
        _, config = self.make(request)
        self.endpoints.create(endpoint_request(self.account, request, config))
        self.scale(request)
        schedule_end(self.account, request.spec.name, request.spec.end)
        if request.verify is not None:
            request.verify()
        return require(self, request.spec.name)

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Serve another version behind the same name, and wait until it does.

        Raises:
            RolledBackError: The service went back to the version before, or the new one does not
                answer as it should.
            DeployModelError: It failed, with the service's reason.
        """
        spec, name = request.spec, self.endpoints.name(request.spec.name)
        before = self.endpoints.describe(spec.name)
        if before is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        ringing = alarms_in_alarm(self.account, *rollback_names(self.account, spec.name))
        if ringing and "PendingDeploymentSummary" not in before:
            raise DeployModelError(
                f"{', '.join(ringing)} is in alarm, so that a shift would be rolled back at once. "
                f"Mend the version that runs, or raise rollout.max_error_rate or max_latency"
            )
        alarms = self.put_alarms(request)
        model, config = self.make(request)
        shift = deployment_config(spec.rollout, alarms)
        old = str(before["EndpointConfigName"])
        retain = is_scaled(self.account, variant_of(name))
        try:
            self.endpoints.update(name, config, shift, retain=retain)
            if request.verify is not None:
                self._verify(request, name, old, config)
        except RolledBackError as error:
            ringing = alarms_in_alarm(self.account, *alarms)
            self.endpoints.remove_leftovers(spec.name, keep=self._used_by(old))
            why = f" In alarm: {', '.join(ringing)}." if ringing else ""
            raise RolledBackError(f"{error}.{why} {self._still(spec.name)}") from None
        self.endpoints.remove_leftovers(spec.name, keep=(model, config))
        return require(self, spec.name)

    def _verify(self, request: DeploymentRequest, name: str, old: str, config: str) -> None:
        """Verify the version that serves now, and restore the one before if it fails.

        Raises:
            RolledBackError: It fails, and the version before serves.
            DeployModelError: It fails, and there was no other version.
        """
        assert request.verify is not None
        try:
            request.verify()
        except DeployModelError as error:
            if old == config:
                raise
            say(f"{request.model.id} does not answer as it should: the version before is restored")
            self.endpoints.update(name, old, None, retain=True)
            raise RolledBackError(str(error)) from None

    def undeploy(self, name: str) -> None:
        """Remove a deployment with everything that was made for it; a repetition is no error."""
        endpoint = self.endpoints.name(name)
        deregister_scaling(self.account, variant_of(endpoint))
        self.endpoints.remove(endpoint)
        self.endpoints.remove_leftovers(name)
        delete_alarms(self.account, *rollback_names(self.account, name), wake_name(endpoint))
        cancel_end(self.account, name)

    def kept(self, name: str) -> dict[str, Any]:
        """Return keys of the specification that a deployment was made with."""
        endpoint = self.endpoints.describe(name) or {}
        config = self.endpoints.calls.describe(
            "endpoint_config", EndpointConfigName=str(endpoint.get("EndpointConfigName"))
        )
        variants = (config or {}).get("ProductionVariants", ())
        models = [variant["ModelName"] for variant in variants if "ModelName" in variant]
        if not models:
            return {}
        resource = variant_of(self.endpoints.name(name))
        return kept_values(self.account, model=models[0], resource=resource, config=config)

    def ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of a deployment to a body of OpenAI's protocol."""
        return invoke_endpoint(self.account, self.endpoints.name(name), body)

    def serving_since(self, name: str) -> datetime | None:
        """Return when the model of the version that serves was created: minutes before it does."""
        described = self.endpoints.describe(name)
        return None if described is None else self.endpoints.models_since(described)

    def make(self, request: DeploymentRequest) -> tuple[str, str]:
        """Create the model and the configuration unless they exist, and return their names."""
        calls = self.endpoints.calls
        model = model_request(self.account, request)
        calls.create("model", model, "ModelName")
        config = self.config(request, model["ModelName"])
        calls.create("endpoint_config", config, "EndpointConfigName")
        return str(model["ModelName"]), str(config["EndpointConfigName"])

    def config(self, request: DeploymentRequest, model_name: str) -> dict[str, Any]:
        """Return the request CreateEndpointConfig."""
        return config_request(self.account, request, model_name)

    def put_alarms(self, request: DeploymentRequest) -> tuple[str, ...]:
        """Create the alarms that roll a shift back, and return their names."""
        spec = request.spec
        watched = of_endpoint(self.endpoints.name(spec.name))
        return put_rollback_alarms(self.account, spec.name, spec.rollout, watched)

    def scale(self, request: DeploymentRequest) -> None:
        """Scale the instances by the load, if their number may change."""
        scaling = request.spec.scaling
        if scaling is not None and scaling.max > scaling.min:
            name = self.endpoints.name(request.spec.name)
            register_scaling(self.account, variant_of(name), scaling)

    def _used_by(self, config: str) -> tuple[str, ...]:
        return (config, *self.endpoints.models_of(config))

    def _still(self, name: str) -> str:
        deployment = self.find(name)
        return f"{deployment.model} serves" if deployment else "nothing serves"
