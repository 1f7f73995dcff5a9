"""Reads the tables: which Regions exist and what they lack, what an instance type is."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

HERE = Path(__file__).parent


@dataclass(frozen=True)
class InstanceFacts:
    """An accelerated instance type, without the `ml.` that SageMaker puts before it."""

    devices: int
    efa: int
    zones: frozenset[str]


@cache
def regions() -> dict[str, frozenset[str]]:
    """Every known Region, with the resource types it lacks."""
    content = yaml.safe_load((HERE / "regions.yaml").read_text(encoding="utf-8"))
    return {region: frozenset(lacking) for region, lacking in content["table"].items()}


@cache
def instances() -> dict[str, InstanceFacts]:
    """The accelerated instance types by name, `p5.48xlarge`."""
    content = yaml.safe_load((HERE / "instances.yaml").read_text(encoding="utf-8"))
    return {
        name: InstanceFacts(row["devices"], row["efa"], frozenset(row["zones"]))
        for name, row in content["table"].items()
    }


def region_has(region: str, resource_type: str) -> bool:
    """Whether CloudFormation knows the type in the Region."""
    return resource_type not in regions()[region]
