"""AWS credentials of jobs on EKS, through EKS Pod Identity.

Pods cannot use the node's role: the instance metadata service answers pods on the host's network
only. The agent that hands out the credentials is an add-on of the cluster
(`eks-pod-identity-agent`).
docs.aws.amazon.com/eks/latest/userguide/pod-identities.html
"""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_eks as eks
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.policies.iam_statements import IamContext, put_metrics
from stacks.policies.training import ask_judges
from stacks.settings import Environment

SERVICE_ACCOUNT = "temper-job"
"""Service account of the pods, which `launch.eks.cluster_objects` creates."""


class EksJobIdentity(Construct):
    """Role of the pods of jobs, associated with their service account in each namespace.

    They read data and write runs on the shared file system; the role lets them publish metrics and
    call the judges of the environment. The tags of the session, which EKS sets, restrict it to one
    cluster, its namespaces of jobs, and their service account.
    docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        context: IamContext,
        environment: Environment,
        cluster_name: str,
        cluster_arn: str,
        namespaces: Sequence[str],
    ) -> None:
        super().__init__(scope, id)
        tags = {
            "eks-cluster-arn": cluster_arn,
            "kubernetes-namespace": list(namespaces),
            "kubernetes-service-account": SERVICE_ACCOUNT,
        }
        conditions = {f"aws:RequestTag/{name}": value for name, value in tags.items()}
        principal = iam.ServicePrincipal(
            "pods.eks.amazonaws.com", conditions={"StringEquals": conditions}
        )
        role = iam.Role(
            self,
            "Role",
            description="Credentials of jobs on EKS: metrics, and models that judge",
            assumed_by=principal.with_session_tags(),
            max_session_duration=cdk.Duration.hours(12),
        )
        policy = iam.ManagedPolicy(
            self,
            "Policy",
            statements=[put_metrics(context.names.metrics), *ask_judges(context, environment)],
            roles=[role],
        )
        for namespace in namespaces:
            # An id for each namespace: a team that comes or goes leaves the others alone.
            association = eks.CfnPodIdentityAssociation(
                self,
                f"Association-{namespace}",
                cluster_name=cluster_name,
                namespace=namespace,
                service_account=SERVICE_ACCOUNT,
                role_arn=role.role_arn,
            )
            association.node.add_dependency(policy)
