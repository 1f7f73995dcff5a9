"""Access of engineers to the private API server of an EKS cluster, through its nodes."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow


class EksApiAccess(Construct):
    """Permission to forward a port through a node of the cluster, which `temper connect` does.

    Other session documents are refused, and so is a session without one, which would be a shell as
    root. The host behind the node is not restricted: engineers run containers on these nodes, which
    reach the same hosts.
    docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-sessiondocumentaccesscheck.html
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
        iam.ManagedPolicy(
            self,
            "Policy",
            roles=[engineer],
            statements=[
                allow(
                    "ForwardToApiServer",
                    ["ssm:StartSession"],
                    [cluster_arn, f"arn:{Aws.PARTITION}:ssm:{names.region}::{document}"],
                    {"BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}},
                ),
            ],
        )
