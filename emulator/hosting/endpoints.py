"""Emulated operations on endpoints: create, update, scale, describe, list, delete.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateEndpoint.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emulator.aws_service import Handler
from emulator.hosting.context import HostingContext
from emulator.hosting.deployment_rules import check_deployment_config
from emulator.hosting.endpoint import RETAINED, EmulatedEndpoint
from emulator.hosting.endpoint_configs import EmulatedConfig
from emulator.hosting.resources import ResourceTable, list_page
from emulator.request_validation import check_quota, reject


class EndpointApi:
    """Endpoints of the emulated service.

    Args:
        context: Clock, account and containers.
        configs: The configurations.
        components_of: Returns the names of the inference components on an endpoint.
    """

    def __init__(
        self,
        context: HostingContext,
        configs: ResourceTable[EmulatedConfig],
        components_of: Callable[[str], list[str]],
    ):
        self._context, self._configs = context, configs
        self._components_of = components_of
        self.table = ResourceTable[EmulatedEndpoint](context, "endpoint")

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "CreateEndpoint": self._create,
            "UpdateEndpoint": self._update,
            "UpdateEndpointWeightsAndCapacities": self._scale,
            "DescribeEndpoint": self._describe,
            "ListEndpoints": self._list,
            "DeleteEndpoint": self._delete,
        }

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["EndpointName"]
        with self._context.lock:
            self.table.check_free(name)
            config = self._configs.get(request["EndpointConfigName"])
            self._check_deployment(request.get("DeploymentConfig"), config, {})
            self._check_quota(config, {})
            endpoint = EmulatedEndpoint(self._context, request, config, self.table.arn(name))
            self.table.add(name, endpoint, request)
            endpoint.create()
            self._context.when_hosting()
        return {"EndpointArn": endpoint.arn}

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            endpoint = self.table.get(request["EndpointName"])
            endpoint.check_idle()
            config = self._configs.get(request["EndpointConfigName"])
            self._configs.get(endpoint.config.name)  # the running configuration must still exist
            self._check_variants(endpoint, config)
            deployment = request.get("DeploymentConfig")
            if request.get("RetainDeploymentConfig"):
                if deployment:
                    reject("DeploymentConfig and RetainDeploymentConfig exclude each other.")
                deployment = endpoint.deployment_config
            retained = set()
            if request.get("RetainAllVariantProperties"):
                excluded = request.get("ExcludeRetainedVariantProperties", ())
                retained = set(RETAINED) - {each["VariantPropertyType"] for each in excluded}
            elif request.get("ExcludeRetainedVariantProperties"):
                reject("ExcludeRetainedVariantProperties needs RetainAllVariantProperties.")
            counts = endpoint.desired if "DesiredInstanceCount" in retained else {}
            if deployment:
                self._check_names(endpoint, config)
            self._check_deployment(deployment, config, counts)
            self._check_quota(config, counts)
            endpoint.update(config, deployment, retained)
        return {"EndpointArn": endpoint.arn}

    def _check_variants(self, endpoint: EmulatedEndpoint, config: EmulatedConfig) -> None:
        """Reject a configuration that cannot follow the one that runs."""
        if config.has_components != endpoint.config.has_components:
            reject("An endpoint cannot change between models and inference components.")
        if config.has_components and self._components_of(endpoint.name):
            old = {variant["VariantName"] for variant in endpoint.config.variants}
            if {variant["VariantName"] for variant in config.variants} != old:
                reject("The variant of an endpoint with inference components cannot be removed.")

    def _check_names(self, endpoint: EmulatedEndpoint, config: EmulatedConfig) -> None:
        """Reject other variant names, which deployment guardrails exclude.

        https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-exclusions.html
        """
        old = {variant["VariantName"] for variant in endpoint.config.variants}
        if {variant["VariantName"] for variant in config.variants} != old:
            reject("A DeploymentConfig needs the variant names of the running configuration.")

    def _check_deployment(
        self,
        deployment: Mapping[str, Any] | None,
        config: EmulatedConfig,
        counts: Mapping[str, int],
    ) -> None:
        smallest = min(
            counts.get(variant["VariantName"], variant["InitialInstanceCount"])
            for variant in config.variants
        )
        variants = len(config.variants)
        check_deployment_config(deployment, max(1, smallest), variants, self._context.client)

    def _check_quota(self, config: EmulatedConfig, counts: Mapping[str, int]) -> None:
        totals: dict[str, int] = {}
        for variant in (*config.variants, *config.shadows):
            count = counts.get(variant["VariantName"], variant["InitialInstanceCount"])
            totals[variant["InstanceType"]] = totals.get(variant["InstanceType"], 0) + count
        for instance_type, count in totals.items():
            check_quota(instance_type, count, "endpoint", self._context.faults.quotas)

    def _scale(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            endpoint = self.table.get(request["EndpointName"])
            endpoint.check_idle()
            desired, weights = {}, {}
            for wanted in request["DesiredWeightsAndCapacities"]:
                name = wanted["VariantName"]
                if name not in endpoint.weights:
                    reject(f"The endpoint {endpoint.name} has no variant {name}.")
                if "DesiredInstanceCount" in wanted:
                    desired[name] = wanted["DesiredInstanceCount"]
                if "DesiredWeight" in wanted:
                    weights[name] = wanted["DesiredWeight"]
            self._check_quota(endpoint.config, {**endpoint.desired, **desired})
            endpoint.scale(desired, weights)
        return {"EndpointArn": endpoint.arn}

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            return self.table.get(request["EndpointName"]).describe()

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            summaries = [endpoint.summary() for endpoint in self.table]
        return list_page(request, summaries, "Endpoint", "Endpoints")

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            endpoint = self.table.get(request["EndpointName"])
            endpoint.check_idle()
            if names := self._components_of(endpoint.name):
                reject(
                    f'Cannot delete endpoint "{endpoint.arn}" with inference component(s) '
                    f"{', '.join(names)}. Delete them first."
                )
            endpoint.delete(lambda: self._remove(endpoint))
        return {}

    def _remove(self, endpoint: EmulatedEndpoint) -> None:
        if self.table.find(endpoint.name) is endpoint:
            self.table.remove(endpoint.name)
