"""Emulated operations on configurations of endpoints: create, describe, list, delete.

A configuration in use can be deleted, as on AWS; the next update of its endpoint then fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator.aws_service import Handler
from emulator.hosting.config_rules import check_endpoint_config
from emulator.hosting.context import HostingContext
from emulator.hosting.models import EmulatedModel
from emulator.hosting.resources import ResourceTable, list_page


@dataclass(frozen=True)
class EmulatedConfig:
    """Configuration of endpoints.

    Attributes:
        request: The CreateEndpointConfig request.
        models: Model of each variant that has one.
        arn: ARN of the configuration.
        created: Time of its creation.
    """

    request: Mapping[str, Any]
    models: Mapping[str, EmulatedModel]
    arn: str
    created: float

    @property
    def name(self) -> str:
        """Name of the configuration."""
        return str(self.request["EndpointConfigName"])

    @property
    def variants(self) -> list[Mapping[str, Any]]:
        """The production variants."""
        return list(self.request["ProductionVariants"])

    @property
    def shadows(self) -> list[Mapping[str, Any]]:
        """The shadow variants."""
        return list(self.request.get("ShadowProductionVariants", ()))

    @property
    def has_components(self) -> bool:
        """True if the endpoint runs inference components."""
        return not self.models


class EndpointConfigApi:
    """Configurations of the emulated service.

    Args:
        context: Clock, account and containers.
        models: The models.
    """

    def __init__(self, context: HostingContext, models: ResourceTable[EmulatedModel]):
        self._context, self._models = context, models
        self.table = ResourceTable[EmulatedConfig](
            context, "endpoint-config", "endpoint configuration"
        )

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "CreateEndpointConfig": self._create,
            "DescribeEndpointConfig": self._describe,
            "ListEndpointConfigs": self._list,
            "DeleteEndpointConfig": self._delete,
        }

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["EndpointConfigName"]
        with self._context.lock:
            self.table.check_free(name)
            check_endpoint_config(request, self._context)
            variants = (
                *request["ProductionVariants"],
                *request.get("ShadowProductionVariants", ()),
            )
            models = {
                variant["VariantName"]: self._models.get(variant["ModelName"])
                for variant in variants
                if "ModelName" in variant
            }
            arn, now = self.table.arn(name), self._context.clock.now()
            config = EmulatedConfig(request, models, arn, now)
            self.table.add(name, config, request)
        return {"EndpointConfigArn": arn}

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        config = self.table.get(request["EndpointConfigName"])
        described = {key: value for key, value in config.request.items() if key != "Tags"}
        return {**described, "EndpointConfigArn": config.arn, "CreationTime": config.created}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        summaries = [
            {"EndpointConfigName": c.name, "EndpointConfigArn": c.arn, "CreationTime": c.created}
            for c in self.table
        ]
        return list_page(request, summaries, "EndpointConfig", "EndpointConfigs")

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            self.table.remove(request["EndpointConfigName"])
        return {}
