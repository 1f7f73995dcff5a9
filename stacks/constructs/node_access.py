"""Access of engineers to the nodes of a Slurm cluster, through Session Manager."""

from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow_node_sessions

AUTHORIZE_KEY = "/opt/temper/bin/authorize-key"
"""Command on the nodes that adds a public key; the lifecycle scripts install it."""


class NodeAccess(Construct):
    """Session document that adds a person's public key, and the permission to run it and ssh.

    The two documents are all that engineers may run.

    Attributes:
        document_name: Name of the session document.
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
        self.document_name = f"{names.prefix}-authorize-key"
        ssm.CfnDocument(
            self,
            "AuthorizeKey",
            name=self.document_name,
            document_type="Session",
            document_format="JSON",
            update_method="NewVersion",
            content=session_document(),
        )
        documents = [
            names.arn("ssm", f"document/{self.document_name}"),
            f"arn:{Aws.PARTITION}:ssm:{names.region}::document/AWS-StartSSHSession",
        ]
        iam.ManagedPolicy(
            self,
            "Policy",
            roles=[engineer],
            # IAM knows the cluster, not the instance groups: compute nodes refuse the key.
            statements=[allow_node_sessions("ConnectToNodes", cluster_arn, documents)],
        )


def session_document() -> dict[str, Any]:
    """Return the session document, whose parameters cannot contain a shell's special characters.

    docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-schema.html
    """
    parameters = {
        "user": ("User on the node", r"^[a-z][a-z0-9_-]{0,31}$"),
        "keyType": ("Type of the key", r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384)|ssh-rsa)$"),
        "publicKey": ("Key in base64", r"^[A-Za-z0-9+/]{40,4000}={0,2}$"),
        "owner": ("Comment of the key", r"^[A-Za-z0-9@._-]{1,64}$"),
    }
    placeholders = " ".join(f"{{{{ {name} }}}}" for name in parameters)
    return {
        "schemaVersion": "1.0",
        "description": "Add a public key to the authorized keys of a user on this node",
        "sessionType": "NonInteractiveCommands",
        "parameters": {
            name: {"type": "String", "description": description, "allowedPattern": pattern}
            for name, (description, pattern) in parameters.items()
        },
        "properties": {
            "linux": {"commands": f"{AUTHORIZE_KEY} {placeholders}", "runAsElevated": True}
        },
    }
