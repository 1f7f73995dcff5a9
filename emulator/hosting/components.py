"""Emulated operations on inference components: create, update, scale, describe, list, delete.

https://docs.aws.amazon.com/sagemaker/latest/dg/realtime-endpoints-deploy-models.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.aws_service import Handler
from emulator.hosting.component import CopySet, EmulatedComponent
from emulator.hosting.component_rules import check_fits, check_specification, instances_for
from emulator.hosting.context import HostingContext
from emulator.hosting.deployment import TrafficShift
from emulator.hosting.deployment_rules import check_deployment_config, plan_deployment
from emulator.hosting.endpoint import EmulatedEndpoint
from emulator.hosting.fleet import NO_CAPACITY, Finished
from emulator.hosting.models import ModelApi
from emulator.hosting.resources import ResourceTable, list_page
from emulator.request_validation import reject

NO_ROOM = (
    "The endpoint does not have enough capacity for the requested copies, and its "
    "MaxInstanceCount does not allow more instances."
)
_BUSY = ("Creating", "Updating", "Deleting")


class ComponentApi:
    """Inference components of the emulated service.

    Args:
        context: Clock, account and containers.
        models: The models.
        endpoints: The endpoints.
    """

    def __init__(
        self,
        context: HostingContext,
        models: ModelApi,
        endpoints: ResourceTable[EmulatedEndpoint],
    ):
        self._context, self._models, self._endpoints = context, models, endpoints
        self.table = ResourceTable[EmulatedComponent](
            context, "inference-component", "inference component"
        )
        self._generation = 0

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "CreateInferenceComponent": self._create,
            "UpdateInferenceComponent": self._update,
            "UpdateInferenceComponentRuntimeConfig": self._scale,
            "DescribeInferenceComponent": self._describe,
            "ListInferenceComponents": self._list,
            "DeleteInferenceComponent": self._delete,
        }

    def on(self, endpoint: str) -> list[EmulatedComponent]:
        """Return the components of an endpoint."""
        return [component for component in self.table if component.endpoint == endpoint]

    # --- operations -------------------------------------------------------------------------

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["InferenceComponentName"]
        with self._context.lock:
            self.table.check_free(name)
            endpoint = self._endpoints.get(request["EndpointName"])
            check_specification(request)
            if not endpoint.config.has_components:
                reject(f"The endpoint {endpoint.name} runs models, not inference components.")
            if endpoint.status != "InService":
                reject(f'The endpoint "{endpoint.arn}" is {endpoint.status}, not InService.')
            arn = self.table.arn(name)
            if "BaseInferenceComponentName" in request["Specification"]:
                component = self._adapter(request, arn)
            else:
                component = self._with_copies(request, endpoint, arn)
            self.table.add(name, component, request)
            component.set_status("Creating")
        return {"InferenceComponentArn": arn}

    def _with_copies(
        self, request: dict[str, Any], endpoint: EmulatedEndpoint, arn: str
    ) -> EmulatedComponent:
        if request["VariantName"] not in endpoint.fleets:
            reject(f"The endpoint {endpoint.name} has no variant {request['VariantName']}.")
        fleet = endpoint.fleets[request["VariantName"]]
        check_fits(request["Specification"]["ComputeResourceRequirements"], fleet.instance_type)
        copies = self._copies(request, request["Specification"])
        component = EmulatedComponent(self._context, request, arn, copies=copies)

        def finished(reason: str) -> None:
            if component.status == "Creating":
                component.set_status("Failed" if reason else "InService", reason)

        # After this call, so that the component counts when instances are provided.
        self._context.later(0, lambda: copies.start(component.desired, finished))
        return component

    def _adapter(self, request: dict[str, Any], arn: str) -> EmulatedComponent:
        specification = request["Specification"]
        base = self.table.get(specification["BaseInferenceComponentName"])
        if base.copies is None or base.endpoint != request["EndpointName"]:
            reject(f"{base.name} is an adapter, or on another endpoint: it cannot be the base.")
        if base.status != "InService":
            reject(f"The base inference component {base.name} is {base.status}, not InService.")
        if request.get("VariantName", base.variant) != base.variant:
            reject(f"VariantName must be that of the base, {base.variant}.")
        component = EmulatedComponent(self._context, request, arn, base=base)

        def load() -> None:
            if component.status == "Creating" and base.copies is not None:
                address = specification["Container"]["ArtifactUrl"]
                reason = base.copies.add_adapter(component.name, address)
                component.set_status("Failed" if reason else "InService", reason)

        self._context.later(self._context.timings.shift_s, load)
        return component

    def _copies(self, request: Mapping[str, Any], specification: Mapping[str, Any]) -> CopySet:
        self._generation += 1
        if "ModelName" in specification:
            container = self._models.table.get(specification["ModelName"]).container
        else:
            given = specification["Container"]
            container = {"Image": given["Image"], "Environment": given.get("Environment", {})}
            if "ArtifactUrl" in given:
                container["ModelDataUrl"] = given["ArtifactUrl"]
            self._models.check_files(container)
        name = request["InferenceComponentName"]

        def place(count: int, finished: Finished) -> None:
            self._place(self.table.get(name), count, finished)

        return CopySet(
            self._context,
            name,
            container,
            specification.get("StartupParameters", {}),
            place,
            (f"/aws/sagemaker/InferenceComponents/{name}", f"copy-{self._generation}"),
            self._generation,
        )

    def _scale(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            component = self._idle(request["InferenceComponentName"])
            self.scale(component, request["DesiredRuntimeConfig"]["CopyCount"])
        return {"InferenceComponentArn": component.arn}

    def scale(self, component: EmulatedComponent, count: int) -> None:
        """Change the number of copies."""
        if component.copies is None:
            reject("An adapter has no copies of its own: scale its base inference component.")
        before, component.desired = component.desired, count
        component.set_status("Updating")

        def finished(reason: str) -> None:
            if component.status == "Updating":
                component.desired = before if reason else count
                component.set_status("InService", reason)

        component.copies.start(count, finished)

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            component = self._idle(request["InferenceComponentName"])
            check_specification(request, is_update=True)
            config = request.get("DeploymentConfig")
            alarms = {k: v for k, v in (config or {}).items() if k != "RollingUpdatePolicy"}
            check_deployment_config(alarms, 1, 1, self._context.client)
            if "Specification" not in request:
                self.scale(component, request.get("RuntimeConfig", {}).get("CopyCount", 0))
            elif component.base is not None:
                self._update_adapter(component, request["Specification"])
            else:
                self._roll(component, request)
        return {"InferenceComponentArn": component.arn}

    def _update_adapter(
        self, component: EmulatedComponent, specification: Mapping[str, Any]
    ) -> None:
        assert component.base is not None
        if specification.get("BaseInferenceComponentName", component.base.name) != (
            component.base.name
        ):
            reject("BaseInferenceComponentName of a component cannot be changed.")
        component.set_status("Updating")

        def load() -> None:
            base = component.base
            if component.status == "Updating" and base is not None and base.copies is not None:
                before = component.request["Specification"]["Container"]["ArtifactUrl"]
                base.copies.remove_adapter(component.name)
                reason = base.copies.add_adapter(
                    component.name, specification["Container"]["ArtifactUrl"]
                )
                if reason:
                    base.copies.add_adapter(component.name, before)
                else:
                    component.request["Specification"] = dict(specification)
                component.set_status("InService", reason)

        self._context.later(self._context.timings.shift_s, load)

    def _roll(self, component: EmulatedComponent, request: dict[str, Any]) -> None:
        """Replace the copies by those of another specification, in batches."""
        assert component.copies is not None
        specification = request["Specification"]
        component.deployment_config = request.get("DeploymentConfig")
        component.desired = request.get("RuntimeConfig", {}).get("CopyCount", component.desired)
        fresh = self._copies(component.request, specification)
        fresh.adapters = dict(component.copies.adapters)
        plan = plan_deployment(component.deployment_config, max(1, component.desired))

        def finished(reason: str | None) -> None:
            component.deployment = None
            if reason is None and component.copies is not None:
                component.copies.end()
                component.copies = fresh
                component.request["Specification"] = specification
            component.set_status("InService", reason or "")

        component.deployment = TrafficShift(
            self._context,
            None,
            plan,
            {component.name: fresh},
            {component.name: component.desired},
            finished,
        )
        component.set_status("Updating")
        component.deployment.start()

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            return self.table.get(request["InferenceComponentName"]).describe()

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            summaries = [component.summary() for component in self.table]
        return list_page(request, summaries, "InferenceComponent", "InferenceComponents")

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            component = self._idle(request["InferenceComponentName"])
            if adapters := [c.name for c in self.table if c.base is component]:
                reject(f"{component.name} has adapters: delete {', '.join(adapters)} first.")
            component.set_status("Deleting")
            if component.copies is not None:
                component.copies.end()
            elif component.base is not None and component.base.copies is not None:
                component.base.copies.remove_adapter(component.name)
            self._context.later(self._context.timings.release_s, lambda: self._remove(component))
        return {}

    def _remove(self, component: EmulatedComponent) -> None:
        if self.table.find(component.name) is component:
            self.table.remove(component.name)
            self._place(component, 0, lambda reason: None)

    def _idle(self, name: str) -> EmulatedComponent:
        component = self.table.get(name)
        if component.status in _BUSY:
            reject(f'Cannot update in-progress inference component "{component.arn}".')
        return component

    # --- placement --------------------------------------------------------------------------

    def _place(self, component: EmulatedComponent, count: int, finished: Finished) -> None:
        """Make room for copies of a component, with more or fewer instances if that is managed.

        Args:
            component: The component.
            count: Number of copies.
            finished: Receives the reason if there is no room.
        """
        endpoint = self._endpoints.find(component.endpoint)
        if endpoint is None:
            finished("The endpoint is gone.")
            return
        fleet = endpoint.fleets[component.variant]
        needs = [
            (compute, count if other is component else other.desired)
            for other in self.table
            if (compute := other.compute) and other.variant == component.variant
            if other.endpoint == component.endpoint and other.status != "Deleting"
        ]
        needed = instances_for(needs, fleet.instance_type)
        scaling = fleet.variant.get("ManagedInstanceScaling", {})
        managed = scaling.get("Status") == "ENABLED"
        least = scaling.get("MinInstanceCount", 1) if managed else fleet.count
        most = scaling.get("MaxInstanceCount", needed) if managed else fleet.count
        wanted = max(least, needed)
        if wanted > most:
            finished(NO_ROOM)
        elif wanted == fleet.count:
            finished("")
        elif wanted < fleet.count:
            self._resize(endpoint, component.variant, wanted)
            finished("")
        elif fleet.instance_type in self._context.faults.no_capacity:
            self._context.later(self._context.timings.provision_s, lambda: finished(NO_CAPACITY))
        else:

            def provided() -> None:
                self._resize(endpoint, component.variant, wanted)
                finished("")

            self._context.later(self._context.timings.provision_s, provided)

    def _resize(self, endpoint: EmulatedEndpoint, variant: str, count: int) -> None:
        endpoint.fleets[variant].count = endpoint.desired[variant] = count
