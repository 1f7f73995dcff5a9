"""Custom models of Amazon Bedrock: their bases, Regions, and the commitments of their throughput.

Sources: Amazon Bedrock API Reference, "CreateCustomModel" (a model that SageMaker trained from
Amazon Nova; open models are imported), and User Guide, "Deploy a custom model for on-demand
inference" and "Purchase a Provisioned Throughput", read on 2026-11-29. AWS re:Post,
"ModelNotReadyException": there is no provisioned throughput for imported models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BASES = {
    "nova-textgeneration-lite": "amazon.nova-lite-v1:0",
    "nova-textgeneration-micro": "amazon.nova-micro-v1:0",
    "nova-textgeneration-pro": "amazon.nova-pro-v1:0",
}
"""Foundation models by their names in SageMaker's hub."""
ON_DEMAND_REGIONS = ("us-east-1", "us-west-2")
"""Regions of on-demand deployments of custom models."""
COMMITMENT_DAYS = {"OneMonth": 30, "SixMonths": 180}
"""Days of each `commitmentDuration`, in which provisioned throughput cannot be deleted."""


def base_of_package(description: Mapping[str, Any]) -> str | None:
    """Return the foundation model that a model package was trained from, None for another model.

    Args:
        description: Response of DescribeModelPackage.
    """
    containers = description.get("InferenceSpecification", {}).get("Containers", ())
    names = (container.get("BaseModel", {}).get("HubContentName") for container in containers)
    return next((BASES[name] for name in names if name in BASES), None)
