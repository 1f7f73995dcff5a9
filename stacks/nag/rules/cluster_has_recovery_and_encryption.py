"""A HyperPod cluster must run in the VPC, replace failed nodes and encrypt their volumes."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield clusters that lack any of the three."""
    for logical_id, cluster in template.of_type("AWS::SageMaker::Cluster"):
        if cluster.get("NodeRecovery") != "Automatic":
            yield RuleViolation(logical_id, f"NodeRecovery: {cluster.get('NodeRecovery')}")
        if "VpcConfig" not in cluster:
            yield RuleViolation(logical_id, "outside the VPC")
        for group in cluster.get("InstanceGroups", []):
            volumes = [
                storage["EbsVolumeConfig"]
                for storage in group.get("InstanceStorageConfigs", [])
                if "EbsVolumeConfig" in storage
            ]
            if not volumes or any("VolumeKmsKeyId" not in volume for volume in volumes):
                yield RuleViolation(
                    logical_id,
                    f"{group['InstanceGroupName']}: volume without a customer-managed key",
                )
