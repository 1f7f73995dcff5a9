"""Accepted findings of the public packs, each with its reason.

A finding that matches no entry fails the synthesis; an entry that matches no finding fails a test.
"""

from stacks.nag.customization_suppressions import CUSTOMIZATION
from stacks.nag.suppression import PROVIDER, Suppression
from stacks.nag.wildcard_suppressions import WILDCARDS

STRUCTURE = (
    Suppression(
        "CodeBuildProjectSourceRepoUrl",
        r"images/Build/Project/Resource",
        "The source is an object in the runs bucket, so there is no repository URL that could "
        "carry a credential.",
    ),
    Suppression(
        "DynamoDBInBackupPlan",
        r"monitoring/News/Told/Resource",
        "The table holds fingerprints of sent messages for hours; without it some are sent again.",
    ),
    Suppression(
        "EC2RestrictedCommonPorts",
        r"network/Nodes/SelfIngress",
        "EFA requires all traffic among the nodes; the rule's only source is the group itself.",
    ),
    Suppression(
        "IAMPolicyNoStatementsWith(Admin|Full)Access",
        r"security/Boundary/Resource",
        "A permissions boundary grants nothing; it caps what policies grant, so it must allow "
        "everything that stays possible.",
    ),
    Suppression(
        "SageMakerEndpointConfigurationKMSKeyConfigured",
        r"serving-[a-z0-9-]+/Configuration",
        "Instances with local disks encrypt them in hardware; SageMaker refuses a key for them.",
    ),
    Suppression(
        "LambdaConcurrency",
        r".*",
        "Reserved concurrency reduces the pool of the account, which starts at ten; schedules and "
        "rare events call these functions, and EventBridge retries.",
    ),
    Suppression(
        "LambdaInsideVPC",
        r".*",
        "The function calls AWS APIs only and touches nothing in the VPC; inside it would need "
        "an endpoint for each service it calls.",
    ),
    Suppression(
        "LambdaDLQ",
        PROVIDER,
        "CloudFormation waits for the answer of this function and fails the deployment without "
        "it, so nothing is lost silently.",
    ),
    Suppression(
        "S3BucketReplicationEnabled",
        r"(storage|monitoring)/.*|hyperpod/Lifecycle/.*",
        "Training data and models can be restored from versions; a copy in a second Region would "
        "leave the Region that the account's owner chose.",
    ),
    Suppression(
        "S3DefaultEncryptionKMS",
        r"storage/AccessLogs/.*",
        "S3 delivers server access logs only to a bucket under its own encryption.",
    ),
    Suppression(
        "(SMG4|SecretsManagerRotationEnabled)",
        r"storage/(HubToken|Keys[A-Za-z0-9]+)/Resource",
        "Tokens and keys are issued by the model hub and by endpoints, which have no interface to "
        "rotate them; a person replaces them.",
    ),
    Suppression(
        "VPCDefaultSecurityGroupClosed",
        r"network/Network/Vpc/Resource",
        "CloudFormation cannot change the default group of a VPC; nothing uses it, because "
        "every interface has another group.",
    ),
    Suppression(
        "VPCNoUnrestrictedRouteToIGW",
        r"network/Network/Vpc/NatSubnet\d+/DefaultRoute",
        "These subnets contain the NAT gateways only, and a NAT gateway needs the route; they "
        "exist only with network.mode: private.",
    ),
    Suppression(
        "IAMNoInlinePolicy",
        PROVIDER,
        "CDK's provider framework writes the policies of its own functions inline; they allow "
        "calling our two handlers.",
    ),
    Suppression(
        r"(SF1|SF2)",
        r"bedrock/Throughput/Provider/waiter-state-machine/Resource",
        "The state machine only polls the handler for completion; the handler logs, and "
        "CloudFormation reports its result.",
    ),
    Suppression(
        r"RDSInBackupPlan",
        r"hyperpod/Accounting/Database",
        "RDS takes daily backups of the database and keeps them for the days that "
        "hyperpod.accounting.backup_days sets.",
    ),
    Suppression(
        r"RDSLoggingEnabled\[LogExport::audit\]",
        r"hyperpod/Accounting/Database",
        "MySQL has an audit log only with a plug-in; the general log, which is exported, holds "
        "every connection and statement.",
    ),
    Suppression(
        "EKS1|EKSClusterNoEndpointPublicAccess",
        r"hyperpod/Eks/Cluster",
        "hyperpod.eks.public_access_cidrs opens the endpoint to named ranges only; a range that is "
        "the whole internet is refused.",
    ),
    Suppression(
        r"IAM4\[Policy::.*AmazonEKSClusterPolicy\]",
        r"hyperpod/Eks/Role/.*",
        "The permissions that EKS needs change with EKS, and AWS updates this policy; only this "
        "one cluster can assume the role.",
    ),
    Suppression(
        r"IAM4\[Policy::.*AWSLambdaBasicExecutionRole\]",
        PROVIDER,
        "CDK's provider framework gives its functions AWS's policy for writing their own logs.",
    ),
)

SUPPRESSIONS = (*STRUCTURE, *WILDCARDS, *CUSTOMIZATION)
