"""Ways round a change that CloudFormation refuses, or that loses data."""

from stacks.transitions.changes import Change

OFF_AND_ON = (
    "set hyperpod.enabled: false, deploy, then enable it with the new setting and deploy again; "
    "nodes and what is on their disks are lost, Lustre and the buckets are not part of the cluster"
)
ANOTHER_ENVIRONMENT = (
    "keep the old value, or make an environment with another name and prefix and copy the data"
)
SAME_ADDRESSES = (
    "set network.reserved_zones to the number of zones at the first deployment, and keep "
    "network.cidr and network.private_mask"
)
# By type and first part of the path of the property; an empty path is any property.
WAYS_ROUND = {
    ("AWS::SageMaker::Cluster", "VpcConfig"): (
        "list the cluster's present zones in hyperpod.zones, and place groups in other zones with "
        "their `zone`; or " + OFF_AND_ON
    ),
    ("AWS::SageMaker::Cluster", ""): OFF_AND_ON,
    ("AWS::EKS::Cluster", ""): OFF_AND_ON,
    ("AWS::EC2::Subnet", "CidrBlock"): SAME_ADDRESSES,
    ("AWS::EC2::NatGateway", "SubnetId"): SAME_ADDRESSES,
    ("AWS::EC2::Subnet", "AvailabilityZone"): (
        "keep the order of network.zones, and add new zones at the end"
    ),
    ("AWS::EC2::Subnet", ""): "keep network.cidr and the order of network.zones",
    ("AWS::EC2::VPC", ""): ANOTHER_ENVIRONMENT,
    ("AWS::FSx::FileSystem", "SubnetIds"): (
        "name the present zone of the file system in storage.lustre.zone; a file system cannot be "
        "moved, and a new one imports the data bucket again"
    ),
    ("AWS::FSx::FileSystem", ""): (
        "copy what is only on Lustre to the data bucket first; a new file system imports it"
    ),
}


def way_round(change: Change) -> str:
    """Return what to do instead of a change."""
    for path in (*change.properties, ""):
        found = WAYS_ROUND.get((change.resource_type, path.partition("/")[0]))
        if found:
            return found
    return ANOTHER_ENVIRONMENT
