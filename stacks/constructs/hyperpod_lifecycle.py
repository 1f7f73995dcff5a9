"""Lifecycle scripts of a HyperPod Slurm cluster, in a bucket that only the deployment writes."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.constructs.custom_resource import AwaitedProvider
from stacks.constructs.kms_key import DomainKmsKey, KeyUsers
from stacks.constructs.private_bucket import PrivateBucket
from stacks.constructs.service_role import ServiceRole
from stacks.policies.iam_statements import IamContext, allow, read_key, use_key
from stacks.settings import Environment
from stacks.settings.hyperpod import HyperPodSettings

SCRIPTS = Path(__file__).parent.parent / "hyperpod_lifecycle"
ENTRY_POINT = "on_init_complete.sh"
SHARED_FOLDER = "/fsx"
"""Mount path of Lustre on the nodes."""
GROUP_ID = 59000
"""Number of the group `temper` on all nodes; below it are the numbers that useradd takes."""


class HyperPodLifecycle(Construct):
    """Bucket with the lifecycle scripts below a digest of their content.

    Neither engineers nor nodes may write it: HyperPod executes the scripts as root. Its key is its
    own for the same reason.

    Attributes:
        config: `LifeCycleConfig` of the instance groups.
        ready: Constructs that must exist before a node starts.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        environment: Environment,
        context: IamContext,
        nodes: Sequence[iam.IRole],
        access_logs: s3.IBucket,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        writer = ServiceRole(
            self, "Writer", service="lambda.amazonaws.com", description="Writes lifecycle scripts"
        )
        key = DomainKmsKey(
            self,
            "ScriptsKey",
            domain="lifecycle",
            alias=f"{context.names.prefix}/lifecycle",
            users=KeyUsers(writers=[writer.role], readers=nodes),
            administrators=environment.security.key_administrators,
            qualifier=environment.cdk_qualifier,
            removal=removal,
        ).key
        bucket = PrivateBucket(
            self,
            "Scripts",
            name=context.names.lifecycle_bucket,
            key=key,
            access_logs=access_logs,
            lifecycle=[],
            removal=removal,
        ).bucket
        files = lifecycle_files(environment.hyperpod)
        prefix = files_digest(files)
        read = iam.ManagedPolicy(
            self,
            "ReadPolicy",
            roles=list(nodes),
            statements=[
                allow(
                    "ListScripts", ["s3:GetBucketLocation", "s3:ListBucket"], [bucket.bucket_arn]
                ),
                allow("ReadScripts", ["s3:GetObject"], [bucket.arn_for_objects("*")]),
                read_key(key, "Lifecycle"),
            ],
        )
        actions = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject"]
        published = AwaitedProvider(
            self,
            "Publish",
            module="publish_files",
            context=context,
            role=writer.role,
            statements=[
                allow("ListVersions", ["s3:ListBucketVersions"], [bucket.bucket_arn]),
                allow("WriteScripts", actions, [bucket.arn_for_objects("*")]),
                use_key(key, "Lifecycle"),
            ],
            wait=False,
        ).add_resource(
            "Files",
            "LifecycleScripts",
            {"Bucket": bucket.bucket_name, "Prefix": prefix, "Files": files},
        )
        published.node.add_dependency(bucket)
        self.config = sagemaker.CfnCluster.ClusterLifeCycleConfigProperty(
            source_s3_uri=f"s3://{context.names.lifecycle_bucket}/{prefix}/",
            on_init_complete=ENTRY_POINT,
        )
        self.ready = (published, read)


def lifecycle_files(settings: HyperPodSettings) -> dict[str, str]:
    """Return the scripts, and the files that they read their settings from."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(SCRIPTS.glob("*.sh"))}
    files["users.csv"] = "".join(f"{name},{uid}\n" for name, uid in sorted(settings.users.items()))
    files["packages.txt"] = "".join(
        f"{package.sha256} {package.url}\n" for package in settings.container_packages
    )
    values = {
        "TEMPER_SHARED": SHARED_FOLDER,
        "TEMPER_SOFTWARE": settings.software,
        "TEMPER_GID": str(GROUP_ID),
    }
    values["TEMPER_DIGEST"] = files_digest({**files, "settings": str(values)})
    files["settings.env"] = "".join(f"{name}={value}\n" for name, value in values.items())
    return files


def files_digest(files: Mapping[str, str]) -> str:
    """Return a digest of the names and contents of files, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        digest.update(name.encode() + b"\0" + text.encode() + b"\0")
    return digest.hexdigest()[:16]
