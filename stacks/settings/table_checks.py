"""Checks against tables of AWS that age. The environment file can override each, with a reason.

A table is a snapshot: AWS adds instance types, zones and Regions. A finding ends synthesis unless
`overrides` names the check; then it is a warning that repeats the reason. A training plan for a
zone proves that the zone offers the type, so this finding is a warning in any case.
"""

import difflib
import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from stacks.aws_data.tables import (
    eks_versions,
    hyperpod_instances,
    instances,
    lacking_types,
    regions,
    training_instances,
)
from stacks.settings.account_rules import in_other_partition
from stacks.settings.environment import CheckName, Environment
from stacks.settings.hyperpod import InstanceGroup
from stacks.settings.placement import cluster_zones, pinned_zone
from stacks.settings.serving_rules import instance_findings

# Shared address space of providers (RFC 6598), which VPCs often use for pods and nodes.
SHARED = IPv4Network("100.64.0.0/10")


# Read in 2026: docs.aws.amazon.com/sagemaker/latest/dg/
# sagemaker-hyperpod-eks-prerequisites.html
HYPERPOD_KUBERNETES = tuple(eks_versions())


@dataclass(frozen=True)
class TableFinding:
    """Contradiction between an environment and a table.

    Attributes:
        check: Name of the check, as in `overrides`.
        message: Key, value and fix.
        proven: Reason for which the environment is right although the table contradicts, if any.
    """

    check: CheckName
    message: str
    proven: str | None = None


def table_problems(environment: Environment) -> Iterator[str]:
    """Yield the findings that nothing overrides."""
    for finding in _findings(environment):
        if not finding.proven and finding.check not in environment.overrides:
            yield (
                f"{finding.message}; if AWS accepts it, write why: "
                f"`overrides: {{{finding.check}: reason}}`"
            )


def table_warnings(environment: Environment) -> Iterator[tuple[CheckName, str]]:
    """Yield the overridden findings, and the overrides that nothing needs, with their check."""
    findings = list(_findings(environment))
    for finding in findings:
        reason = finding.proven or environment.overrides.get(finding.check)
        if reason:
            yield finding.check, f"{finding.message}. Accepted: {reason}"
    for check in environment.overrides:
        if not any(finding.check == check and not finding.proven for finding in findings):
            yield check, f"overrides.{check}: nothing contradicts the table any more; remove it"


def _findings(environment: Environment) -> Iterator[TableFinding]:
    region = environment.region
    if region not in regions() and not in_other_partition(region):
        likely = _likely_region(environment)
        hint = f"; did you mean {likely!r}?" if likely else ""
        yield TableFinding("regions", f"region: there is no Region {region!r}{hint}")
    yield from _range_findings(environment)
    yield from _region_findings(environment)
    yield from _allowed_type_findings(environment)
    for message in instance_findings(environment):
        yield TableFinding("instance-types", message)
    if not environment.hyperpod.enabled:
        return
    eks = environment.hyperpod.eks
    if eks and eks.version not in HYPERPOD_KUBERNETES:
        yield TableFinding(
            "kubernetes-versions",
            f"hyperpod.eks.version: HyperPod does not support Kubernetes {eks.version}; take one "
            f"of {', '.join(HYPERPOD_KUBERNETES)} (docs.aws.amazon.com/sagemaker/latest/dg/"
            "sagemaker-hyperpod-eks-prerequisites.html)",
        )
    for index, group in enumerate(environment.hyperpod.groups):
        key_path = f"hyperpod.groups.{index}"
        yield from _type_findings(group, key_path)
        yield from _zone_findings(environment, group, key_path)
        if group.spot and environment.hyperpod.orchestrator == "slurm":
            yield TableFinding(
                "spot-on-slurm",
                f"{key_path}.spot: AWS documents Spot capacity for clusters on EKS only, and "
                f"{group.name!r} is in a Slurm cluster; remove spot, or use orchestrator: eks",
            )


def _likely_region(environment: Environment) -> str | None:
    """Return the Region of the zones if they agree on one, or else the one spelt most alike."""
    of_zones = {zone.name[:-1] for zone in environment.network.zones} & set(regions())
    if len(of_zones) == 1:
        return of_zones.pop()
    close = difflib.get_close_matches(environment.region.lower(), regions(), n=1)
    return close[0] if close else None


def _range_findings(environment: Environment) -> Iterator[TableFinding]:
    network = environment.network
    if network.existing is not None:
        return
    docker = IPv4Network("172.17.0.0/16")
    if network.cidr.overlaps(docker):
        yield TableFinding(
            "vpc-range",
            f"network.cidr: {network.cidr} overlaps {docker}, which SageMaker and Docker use "
            "inside of their hosts; take another range, like 10.40.0.0/16 "
            "(docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html)",
        )
    elif not network.cidr.is_private and not network.cidr.subnet_of(SHARED):
        yield TableFinding(
            "vpc-range",
            f"network.cidr: {network.cidr} is publicly routable, so its owner's servers could not "
            "be reached; take a private range, like 10.40.0.0/16 "
            "(docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html)",
        )


def _region_findings(environment: Environment) -> Iterator[TableFinding]:
    region, lacking = environment.region, lacking_types(environment.region)
    hyperpod, budget = environment.hyperpod, environment.monitoring.budget
    wanted = {
        "hyperpod.enabled": ("AWS::SageMaker::Cluster", hyperpod.enabled),
        "storage.lustre": ("AWS::FSx::FileSystem", hyperpod.enabled),
        "training.mlflow": ("AWS::SageMaker::MlflowApp", environment.training.mlflow),
        "bedrock.guardrail": (
            "AWS::Bedrock::Guardrail",
            environment.bedrock.enabled and environment.bedrock.guardrail is not None,
        ),
        "images.pull_through_cache": (
            "AWS::ECR::PullThroughCacheRule",
            environment.images.pull_through_cache,
        ),
        "monitoring.budget.anomaly_monitor": (
            "AWS::CE::AnomalySubscription",
            budget is not None and budget.anomaly_monitor != "none",
        ),
        "monitoring.budget": ("AWS::Budgets::Budget", environment.monitoring.budget is not None),
        "serving.deployments": (
            "AWS::SageMaker::InferenceComponent",
            any(each.to == "component" for each in environment.serving.deployments),
        ),
    }
    for key, (resource_type, on) in wanted.items():
        if on and resource_type in lacking:
            message = f"{key}: CloudFormation has no {resource_type} in {region}; disable it"
            yield TableFinding("region-types", message)


def _allowed_type_findings(environment: Environment) -> Iterator[TableFinding]:
    for index, pattern in enumerate(environment.training.allowed_instance_types):
        if not fnmatch.filter(training_instances(), pattern):
            close = difflib.get_close_matches(pattern, training_instances(), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield TableFinding(
                "instance-types",
                f"training.allowed_instance_types.{index}: training jobs have no type "
                f"{pattern}{hint}",
            )


def _type_findings(group: InstanceGroup, key_path: str) -> Iterator[TableFinding]:
    if group.instance not in hyperpod_instances():
        close = difflib.get_close_matches(group.instance, hyperpod_instances(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        yield TableFinding(
            "instance-types", f"{key_path}.instance: HyperPod has no type {group.instance}{hint}"
        )


def _zone_findings(
    environment: Environment, group: InstanceGroup, key_path: str
) -> Iterator[TableFinding]:
    facts = instances().get(group.instance.removeprefix("ml."))
    ids = {zone.name: zone.id for zone in environment.network.zones}
    in_plan = group.training_plan_zone in ids
    pinned = pinned_zone(group)
    names = [pinned] if pinned in ids and pinned else list(cluster_zones(environment))
    if facts is None or not all(ids.get(name) for name in names):
        return  # a missing id is a problem of its own
    if any(ids[name] in facts.zones for name in names):
        return
    of_region = sorted(zone for zone in facts.zones if zone[:4] == (ids[names[0]] or "")[:4])
    zones = ", ".join(f"{name} ({ids[name]})" for name in names)
    yield TableFinding(
        "instance-zones",
        f"{key_path}.instance: no zone of {zones} offers {group.instance}; "
        f"in this Region it is in {', '.join(of_region) or 'none'}",
        proven=f"the training plan {group.training_plan} is for that zone"
        if in_plan and group.training_plan
        else None,
    )
