"""Deployment as an inference component: copies of a model, and adapters that share its copies.

The endpoint of a component scales to zero instances with its copies. An adapter is a component on
that of its base, and costs nothing more.
https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-deploy-models.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import catalog.deployment_tags as tag
from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError, RolledBackError
from deployment.lifetime import cancel_end, past_end_problems, schedule_end
from deployment.quote import DeploymentQuote, instance_quote
from deployment.record import Deployment, DeploymentState, end_tags, end_words, model_of_tags
from deployment.sagemaker.adapter_archive import model_of_archive, upload_archive
from deployment.sagemaker.adapter_checks import adapter_problems
from deployment.sagemaker.alarms import (
    alarms_in_alarm,
    delete_alarms,
    of_component,
    put_rollback_alarms,
    rollback_names,
    wake_alarm,
    wake_name,
)
from deployment.sagemaker.checks import common_problems, platform_problems
from deployment.sagemaker.component_requests import (
    adapter_specification,
    component_config_request,
    component_request,
    model_specification,
    rolling_update,
)
from deployment.sagemaker.components import Components, served
from deployment.sagemaker.endpoints import Endpoints
from deployment.sagemaker.invoke import invoke_endpoint
from deployment.sagemaker.kept import kept_values
from deployment.sagemaker.requests import endpoint_request, model_request
from deployment.sagemaker.scaling import copies_of, deregister_scaling, register_scaling
from deployment.spec import DeploymentSpec
from deployment.targets.base import DeploymentRequest, ignored_problems, require
from training.console import say
from training.errors import Problem

_OF_SPECIFICATION = (
    "ModelName",
    "BaseInferenceComponentName",
    "ComputeResourceRequirements",
    "StartupParameters",
)
_STATES: Mapping[str, DeploymentState] = {
    "Creating": "deploying",
    "Updating": "deploying",
    "InService": "deployed",
    "Deleting": "undeploying",
    "Failed": "failed",
}


def connect(account: DeploymentAccount) -> ComponentTarget:
    """Return the target in an account."""
    return ComponentTarget(account)


class ComponentTarget:
    """Inference components.

    Args:
        account: The account.
    """

    kind = "component"
    form: str | None = None

    def __init__(self, account: DeploymentAccount):
        self.account = account
        self.endpoints = Endpoints(account, self.kind)
        self.components = Components(account)

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        yield from ignored_problems(request, "capture", "batch", "throughput")
        if request.spec.adapter_of is None:
            yield from common_problems(self.account, request)
            return
        yield from platform_problems(self.account)
        yield from past_end_problems(request.spec.end)
        base = self.components.describe(self.account.resource_name(request.spec.adapter_of))
        yield from adapter_problems(self.account, request, base)

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the deployment costs; an adapter costs nothing more than its base."""
        spec, removed = request.spec, end_words(end_tags(request.spec.end))
        if spec.adapter_of is not None:
            what = f"an adapter on {spec.adapter_of}"
            return DeploymentQuote(what, 0.0, 0.0, 0.0, f"{removed}, or with its base", "its base")
        assert spec.instance is not None
        least, most = spec.copy_limits
        wakes = "from zero, requests fail for some minutes until a copy has started"
        return instance_quote(
            spec.instance,
            (spec.first_copies, least, most),
            removed,
            region=self.account.environment.region,
            notes=(wakes,) if least == 0 else (),
        )

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""
        described = self.components.describe(self._name(name))
        if described is not None:
            return self._deployment(described)
        endpoint = self.endpoints.find(name)
        return None if endpoint is None else _without_component(endpoint)

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Make a deployment, or continue one that was interrupted, and wait until it serves.

        Raises:
            DeployModelError: It failed, with the service's reason.
        """
        spec = request.spec
        specification = self._make(request)
        if spec.adapter_of is None:
            config = component_config_request(self.account, request)
            self.endpoints.calls.create("endpoint_config", config, "EndpointConfigName")
            name = config["EndpointConfigName"]
            self.endpoints.create(endpoint_request(self.account, request, name))
        self._put_alarms(request)
        self.components.create(component_request(self.account, request, specification))
        if spec.scaling is not None and spec.scaling.max > spec.scaling.min:
            component = self._name(spec.name)
            wake = (component, wake_alarm)
            register_scaling(self.account, copies_of(component), spec.scaling, wake=wake)
        schedule_end(self.account, spec.name, spec.end)
        if request.verify is not None:
            request.verify()
        return require(self, spec.name)

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Serve another version behind the same name, and wait until all copies do.

        Raises:
            RolledBackError: The service went back to the version before, or the new one does not
                answer as it should.
            DeployModelError: It failed, with the service's reason.
        """
        spec, name = request.spec, self._name(request.spec.name)
        before = self.components.describe(name)
        if before is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        if ringing := alarms_in_alarm(self.account, *rollback_names(self.account, spec.name)):
            raise DeployModelError(
                f"{', '.join(ringing)} is in alarm, so that a shift would be rolled back at once. "
                f"Mend the version that runs, or raise rollout.max_error_rate or max_latency"
            )
        is_adapter = "BaseInferenceComponentName" in before["Specification"]
        spec = spec if not is_adapter else _on_same_base(request, before, self.account)
        request = replace(request, spec=spec)
        shift = None if is_adapter else rolling_update(spec.rollout, self._put_alarms(request))
        specification = self._make(request)
        try:
            self.components.update(name, specification, shift)
            self._verify(request, before)
        except RolledBackError as error:
            self._remove_models(spec.name, keep=served(before["Specification"]))
            still = require(self, spec.name).model
            raise RolledBackError(f"{error}. {still or 'The version before'} serves") from None
        self._remove_models(spec.name, keep=served(specification))
        return require(self, spec.name)

    def _verify(self, request: DeploymentRequest, before: Mapping[str, Any]) -> None:
        """Verify the version that serves now, and restore the one before if it fails.

        Raises:
            RolledBackError: It fails.
        """
        if request.verify is None:
            return
        try:
            request.verify()
        except DeployModelError as error:
            say(f"{request.model.id} does not answer as it should: the version before is restored")
            old = before["Specification"]
            restored = {key: old[key] for key in _OF_SPECIFICATION if key in old}
            if url := old.get("Container", {}).get("ArtifactUrl"):
                restored["Container"] = {"ArtifactUrl": url}
            self.components.update(self._name(request.spec.name), restored, None)
            raise RolledBackError(str(error)) from None

    def undeploy(self, name: str) -> None:
        """Remove a deployment with everything that was made for it; a repetition is no error.

        Raises:
            DeployModelError: Adapters of other deployments are on it.
        """
        component = self._name(name)
        adapters = [
            found["InferenceComponentName"]
            for found in self.components.on(component)
            if found["Specification"].get("BaseInferenceComponentName") == component
        ]
        if adapters:
            prefix = f"{self.account.environment.prefix}-"
            names = [adapter.removeprefix(prefix) for adapter in adapters]
            raise DeployModelError(
                f"{name} is the base of {', '.join(names)}. Remove them first: temper undeploy "
                f"{names[0]}"
            )
        deregister_scaling(self.account, copies_of(component))
        self.components.remove(component)
        if self.endpoints.find(name) is not None:
            self.endpoints.remove(self.endpoints.name(name))
        self.endpoints.remove_leftovers(name)
        delete_alarms(self.account, *rollback_names(self.account, name), wake_name(component))
        cancel_end(self.account, name)

    def kept(self, name: str) -> dict[str, Any]:
        """Return keys of the specification that a deployment was made with."""
        component = self._name(name)
        specification = (self.components.describe(component) or {}).get("Specification", {})
        if base := specification.get("BaseInferenceComponentName"):
            return {"adapter_of": base.removeprefix(f"{self.account.environment.prefix}-")}
        if "ModelName" not in specification:
            return {}
        compute = specification.get("ComputeResourceRequirements", {})
        devices = compute.get("NumberOfAcceleratorDevicesRequired")
        values = kept_values(
            self.account, model=specification["ModelName"], resource=copies_of(component)
        )
        return values if devices is None else {**values, "devices": int(devices)}

    def ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of a deployment to a body of OpenAI's protocol."""
        component = self._name(name)
        described = self.components.describe(component) or {}
        endpoint = str(described.get("EndpointName", component))
        return invoke_endpoint(self.account, endpoint, body, component)

    def serving_since(self, name: str) -> datetime | None:
        """Return when the model of the version was created, or an adapter was last changed."""
        described = self.components.describe(self._name(name))
        if described is None:
            return None
        if "BaseInferenceComponentName" in described["Specification"]:
            changed: datetime = described["LastModifiedTime"]
            return changed
        model = self.components.calls.describe(
            "model", ModelName=served(described["Specification"])
        )
        return model["CreationTime"] if model else None

    def _make(self, request: DeploymentRequest) -> dict[str, Any]:
        """Create the model or the adapter's archive, and return the specification."""
        if request.spec.adapter_of is not None:
            archive = upload_archive(self.account, request.spec.name, request.model)
            return adapter_specification(self._name(request.spec.adapter_of), str(archive))
        model = model_request(self.account, request)
        self.endpoints.calls.create("model", model, "ModelName")
        return model_specification(request, model["ModelName"])

    def _put_alarms(self, request: DeploymentRequest) -> tuple[str, ...]:
        spec = request.spec
        watched = of_component(self._name(spec.name))
        return put_rollback_alarms(self.account, spec.name, spec.rollout, watched)

    def _remove_models(self, name: str, keep: str) -> None:
        endpoint = self.endpoints.describe(name)
        config = str(endpoint["EndpointConfigName"]) if endpoint else ""
        self.endpoints.remove_leftovers(name, keep=(keep, config))

    def _name(self, name: str) -> str:
        return self.account.resource_name(name)

    def _deployment(self, described: Mapping[str, Any]) -> Deployment:
        tags = self.components.calls.tags(described["InferenceComponentArn"])
        name, reason = described["InferenceComponentName"], described.get("FailureReason", "")
        specification = described["Specification"]
        is_adapter = "BaseInferenceComponentName" in specification
        state = _STATES.get(described["InferenceComponentStatus"], "deploying")
        if state == "deployed" and reason:
            state = "rolled back"
        endpoint = str(described["EndpointName"])
        counts: Mapping[str, int] = {}
        if not is_adapter:
            of_endpoint = self.endpoints.find(endpoint.removeprefix(f"{self._name('')}-"))
            counts = of_endpoint.instances if of_endpoint else {}
        copies = described.get("RuntimeConfig", {}).get("CurrentCopyCount")
        on = specification.get("BaseInferenceComponentName")
        return Deployment(
            name=tags.get(tag.DEPLOYMENT, name),
            to=self.kind,
            state=state,
            model=self._model(specification),
            address=f"{endpoint}, component {name}",
            detail=reason
            or (f"adapter on {on}" if on else f"{copies} {'copy' if copies == 1 else 'copies'}"),
            tags=tags,
            instances=counts,
            created=described.get("CreationTime"),
        )

    def _model(self, specification: Mapping[str, Any]) -> str:
        """Return NAME@VERSION of what a component serves: tags of a component do not change."""
        if "BaseInferenceComponentName" in specification:
            return model_of_archive(served(specification))
        calls = self.components.calls
        model = calls.describe("model", ModelName=served(specification))
        return "" if model is None else model_of_tags(calls.tags(model["ModelArn"]))

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment."""
        found = []
        for endpoint in self.endpoints.all():
            components = [*self.components.on(endpoint.address)]
            found += [self._deployment(described) for described in components]
            if not components:
                found.append(_without_component(endpoint))
        return found


def _without_component(endpoint: Deployment) -> Deployment:
    """Return the deployment of an endpoint on which the component is missing yet."""
    return Deployment(
        name=endpoint.name,
        to=endpoint.to,
        state="deploying" if endpoint.state == "deployed" else endpoint.state,
        address=endpoint.address,
        detail=endpoint.detail or "its component is missing: the same command continues",
        tags=endpoint.tags,
        instances=endpoint.instances,
        created=endpoint.created,
    )


def _on_same_base(
    request: DeploymentRequest, before: Mapping[str, Any], account: DeploymentAccount
) -> DeploymentSpec:
    """Return the specification with the base that an adapter is on."""
    base = before["Specification"]["BaseInferenceComponentName"]
    name = base.removeprefix(f"{account.environment.prefix}-")
    return request.spec.model_copy(update={"adapter_of": name})
