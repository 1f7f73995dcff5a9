"""Readers of the tables: Regions with the resource types they lack, and instance types."""

from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import yaml

from catalog.instances import instances as catalog_instances

HERE = Path(__file__).parent


@dataclass(frozen=True)
class InstanceFacts:
    """Accelerated instance type, as CloudFormation templates need it.

    Attributes:
        devices: Number of accelerators as EC2 counts them: GPUs, or Trainium chips.
        efa: Maximum number of Elastic Fabric Adapter interfaces.
        zones: Ids of the availability zones that offer the type.
    """

    devices: int
    efa: int
    zones: frozenset[str]


@cache
def regions() -> dict[str, frozenset[str]]:
    """Return every known Region with the resource types it lacks."""
    content = yaml.safe_load((HERE / "regions.yaml").read_text(encoding="utf-8"))
    return {region: frozenset(lacking) for region, lacking in content["table"].items()}


@cache
def hyperpod_instances() -> frozenset[str]:
    """Return the instance types that HyperPod accepts (`ml.p5.48xlarge`)."""
    content = yaml.safe_load((HERE / "hyperpod_instances.yaml").read_text(encoding="utf-8"))
    return frozenset(content["table"])


@cache
def training_instances() -> frozenset[str]:
    """Return the instance types that training jobs accept (`ml.p5.48xlarge`)."""
    content = yaml.safe_load((HERE / "training_instances.yaml").read_text(encoding="utf-8"))
    return frozenset(content["table"])


@cache
def endpoint_instances() -> frozenset[str]:
    """Return the instance types that endpoints accept (`ml.g5.2xlarge`)."""
    content = yaml.safe_load((HERE / "endpoint_instances.yaml").read_text(encoding="utf-8"))
    return frozenset(content["table"])


@cache
def instances() -> dict[str, InstanceFacts]:
    """Return the accelerated instance types by name without SageMaker's `ml.` (`p5.48xlarge`).

    Device and EFA counts come from the catalog; the zones that offer each type from this package.
    """
    content = yaml.safe_load((HERE / "instances.yaml").read_text(encoding="utf-8"))
    hardware = catalog_instances()
    return {
        name: InstanceFacts(hardware[name].chips, hardware[name].efa, frozenset(row["zones"]))
        for name, row in content["table"].items()
    }


@cache
def eks_versions() -> dict[str, date]:
    """Return the Kubernetes versions that HyperPod supports, with the end of standard support."""
    content = yaml.safe_load((HERE / "eks_versions.yaml").read_text(encoding="utf-8"))
    table: dict[str, date] = content["table"]
    return table


def lacking_types(region: str) -> frozenset[str]:
    """Return the resource types that a Region lacks; none if the Region is not in the table."""
    return regions().get(region, frozenset())


def region_has(region: str, resource_type: str) -> bool:
    """Return whether CloudFormation supports the resource type in the Region."""
    return resource_type not in lacking_types(region)
