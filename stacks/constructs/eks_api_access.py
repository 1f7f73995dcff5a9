"""Access of engineers to the private API server of an EKS cluster, through its nodes."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow_node_sessions


class EksApiAccess(Construct):
    """Permission to forward a port through a node of the cluster, which `temper connect` does.

    Other session documents are refused. The host behind the node is not restricted: engineers run
    containers on these nodes, which reach the same hosts.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        cluster_arn: str,
        engineer: iam.IRole,
    ) -> None:
        super().__init__(scope, id)
        document = "document/AWS-StartPortForwardingSessionToRemoteHost"
        documents = [f"arn:{Aws.PARTITION}:ssm:{names.region}::{document}"]
        iam.ManagedPolicy(
            self,
            "Policy",
            roles=[engineer],
            statements=[allow_node_sessions("ForwardToApiServer", cluster_arn, documents)],
        )
