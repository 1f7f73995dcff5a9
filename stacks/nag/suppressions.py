"""Accepted findings of the public packs, each with its reason.

`rule` is a pattern for the name of the rule without its pack and, for a wildcard, the action or
resource in brackets. `path` is a pattern for the construct path without the prefix of the
environment. A finding that matches no entry fails the synthesis; an entry that matches no finding
fails a test.
"""

import re
from dataclasses import dataclass

PACK = re.compile(r"^(AwsSolutions|NIST\.800\.53\.R5|HIPAA\.Security|PCI\.DSS\.321)-")
STACK = re.compile(
    r"^.*?-(security|network|storage|images|training|hyperpod|bedrock|monitoring"
    r"|serving(?:-[a-z0-9-]+)?)/"
)


@dataclass(frozen=True)
class Suppression:
    """Reason for accepting the findings that match."""

    rule: str
    path: str
    reason: str

    def matches(self, rule: str, path: str) -> bool:
        """Return whether this entry explains the finding of `rule` at `path`."""
        name, relative_path = PACK.sub("", rule), STACK.sub(r"\1/", path)
        return bool(re.fullmatch(self.rule, name) and re.fullmatch(self.path, relative_path))


def _wildcard(resource: str) -> str:
    return r"IAM5\[Resource::" + resource + r"\]"


ARN_OF_ACCOUNT = r"arn:<AWS::Partition>:{}:[a-z0-9-]*:(\d+|<AWS::AccountId>):"
PREFIX = r"[a-z0-9-]+"
PROVIDER = (
    r"(bedrock/(Throughput|InvocationLogging)|hyperpod/(Lifecycle/Publish|Log/Set))/Provider/.*"
)

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

WILDCARDS = (
    Suppression(
        r"IAM5\[(Action|Resource)::\*\]",
        r"security/Boundary/Resource",
        "A permissions boundary grants nothing; it caps what policies grant, so it must allow "
        "everything that stays possible.",
    ),
    Suppression(
        r"IAM5\[Action::kms:(GenerateDataKey|ReEncrypt)\*\]",
        r"security/(Training|JobWithSecrets|Processing|HyperPod(Node|Controller)|Engineer|Serving)/.*|training/Mlflow/Role/Policy/Resource"
        r"|security/ModelDeployer/Read/Resource|hyperpod/Lifecycle/Publish/OnEvent/Policy/Resource",
        "These are families of one operation (with and without plain text, from and to); the "
        "resource is one key.",
    ),
    Suppression(
        r"IAM5\[Action::sagemaker-mlflow:\*\]",
        r"training/Mlflow/(Track|Open)/Resource",
        "Tracking a run, and reading runs in a browser, use most of MLflow's interface; it is "
        "bounded to the one app of the environment.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/(Training|JobWithSecrets|Processing|HyperPod(Node|Controller)|ImageBuild|Serving)/Policy/Resource"
        r"|hyperpod/EksJobIdentity/Policy/Resource",
        "ecr:GetAuthorizationToken, cloudwatch:PutMetricData and Session Manager's channels take "
        "no resource; metrics are bounded by namespace.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/(Monitoring/Policy|Engineer/Read)/Resource",
        "Listing jobs, quotas, zones, metrics and alarms supports no resource, and PutMetricData "
        "is bounded by namespace; nothing here reads data or changes a setting.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/OnCall/Read/Resource",
        "Listing endpoints, jobs, queues, quotas and costs, and reading metrics, supports no "
        "resource; nothing here reads data or changes anything.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("(cloudwatch|budgets|rds)") + r"(alarm:|budget/|db:)\*"),
        r"security/OnCall/Read/Resource",
        "People on call see which alarms are on, what was spent, and the state of databases.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("sagemaker") + r"endpoint(-config)?/\*"),
        r"security/OnCall/(Read|Act)/Resource",
        "The team names its endpoints; they are changed only if their tag names the environment.",
    ),
    Suppression(
        _wildcard(
            ARN_OF_ACCOUNT.format("(sqs|lambda|rds|sns|events|cloudwatch)")
            + f"(function:|db:|rule/|alarm:)?{PREFIX}-\\*"
        ),
        r"security/OnCall/(Read|Act)/Resource",
        "CloudFormation generates these names after those of the stacks, which share the prefix.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/Engineer/Serving/Resource",
        "Starting an import supports no resource; what it may read is bounded by the one role that "
        "may be passed to it.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/ModelApprover/Policy/Resource",
        "Listing model packages supports no resource; it shows names and approval, and no content.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"training/Fences/NetworkInterfaces/Resource|hyperpod/EksNodes/Policy/Resource"
        r"|serving/NetworkInterfaces/Resource",
        "Describe actions of EC2 support no resource; actions that change interfaces are bounded "
        "to the subnets and the security group of the platform.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"(bedrock/Undeploy|serving/Removal)/Undeploy/Policy/Resource"
        r"|bedrock/InvocationLogging/OnEvent/Policy/Resource",
        "Listing throughput and endpoints, reading and putting metrics, and the account's one "
        "logging setting support no resource.",
    ),
    Suppression(
        _wildcard(
            r"arn:<AWS::Partition>:s3:::"
            + PREFIX
            + r"-(<AWS::AccountId>|\d+)-[a-z0-9-]+/(source/|registry/sha256/|serving/)?\*"
        ),
        r"(security|training)/.*",
        "Object keys are not known in advance; the resource is one bucket of the platform.",
    ),
    Suppression(
        _wildcard(r"arn:<AWS::Partition>:s3:::[a-z0-9-]{3,63}/\*"),
        r"security/(Training|JobWithSecrets|Processing|HyperPod(Node|Controller)|Engineer)/.*",
        "Object keys are not known in advance; the resource is the one data bucket that exists.",
    ),
    Suppression(
        _wildcard(
            r"arn:<AWS::Partition>:s3:::("
            + PREFIX
            + r"-(<AWS::AccountId>|\d+)-)?[a-z0-9-]+/prepared/(\*|\*/\.building-\*)"
        ),
        r"security/(Processing/Policy|Engineer/Work)/Resource",
        "Data sets are named by the job and a digest; only one that is being built may be deleted.",
    ),
    Suppression(
        _wildcard(r"<LifecycleScriptsBucket[A-Z0-9]+\.Arn>/\*"),
        r"hyperpod/Lifecycle/.*",
        "The scripts are below a prefix that changes with their content; the bucket holds nothing "
        "else.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("ecr") + f"repository/{PREFIX}/(public/)?\\*"),
        r"security/.*",
        "The repositories of this environment share its prefix: gpu, neuron, prepare, and what "
        "the cache of public images creates.",
    ),
    Suppression(
        _wildcard(
            ARN_OF_ACCOUNT.format("logs") + r"log-group:/(aws/sagemaker|temper)/[^*]*\*?"
            r"(:\*|:log-stream:(aws/bedrock/|[a-z0-9-]+-)\*)?"
        ),
        r".*",
        "Streams are named by the service that writes them; the groups are SageMaker's, or the "
        "one group of this function.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("logs") + r"log-group:RDSOSMetrics:log-stream:\*"),
        r"hyperpod/Accounting/Watcher/Policy/Resource",
        "RDS names the log stream after the generated id of the database instance.",
    ),
    Suppression(
        _wildcard(
            ARN_OF_ACCOUNT.format("sagemaker")
            + r"((training-job|processing-job|hyper-parameter-tuning-job)/([a-z0-9-]+-)?"
            r"|(training-plan|model-package|cluster|model-package/[a-z0-9-]+)/)\*"
        ),
        r"(security|training)/.*|hyperpod/Autoscaling/Policy/Resource",
        "Jobs, packages and clusters get their names or ids at creation; the names of jobs begin "
        "with the prefix, or their tags name the environment.",
    ),
    Suppression(
        _wildcard(
            ARN_OF_ACCOUNT.format("(sagemaker|bedrock)")
            + r"(training-job|hyper-parameter-tuning-job|processing-job|transform-job|endpoint|"
            r"model|model-package|model-card|pipeline|feature-group|image|image-version|"
            r"model-customization-job|model-invocation-job)/\*"
        ),
        r"(monitoring/News/Notify|security/Monitoring)/Policy/Resource",
        "These functions describe what an event or a list names, and read its tags, to tell the "
        "environments of an account apart; they change nothing.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"monitoring/Slack/Policy/Resource",
        "Reading metrics supports no resource; the channel shows alarms and can change nothing.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("(cloudwatch|sns)") + rf"(alarm:)?{PREFIX}-\*"),
        r"(monitoring/News/Notify|security/Monitoring)/Policy/Resource",
        "The alarms and topics of this environment share its prefix; only their states and "
        "subscriptions are read.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("ssm") + r"session/<aws:userid>-\*"),
        r"security/Engineer/Clusters/Resource",
        "Session Manager names a session after the user who started it, so people can end their "
        "own sessions only.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/Engineer/Clusters/Resource",
        "fsx:DescribeFileSystems supports no resource; it lists file systems and reads no file.",
    ),
    Suppression(
        _wildcard(
            ARN_OF_ACCOUNT.format("bedrock")
            + r"(custom-model|custom-model-deployment|imported-model|model-import-job|"
            r"provisioned-model|model-invocation-job)/\*"
        ),
        r"(security|bedrock|serving)/.*",
        "Bedrock generates these ids at creation; throughput is bounded by the tag of "
        "this environment.",
    ),
    Suppression(
        _wildcard(r"arn:(aws|<AWS::Partition>):bedrock:[a-z0-9-]+::foundation-model/\*"),
        r"bedrock/Throughput/.*",
        "Throughput may be created for any base model; it is bounded by the tag of this "
        "environment, and the models are those of the environment file.",
    ),
    Suppression(
        _wildcard(r"arn:(aws|<AWS::Partition>):bedrock:\*::foundation-model/[^*]+"),
        r"security/(Training|JobWithSecrets)/Policy/Resource",
        "An inference profile calls its model in any Region of its area that has capacity.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("ssm") + f"parameter/{PREFIX}/\\*"),
        r"security/(Engineer/Read|(Image|Model)Approver/Policy|OnCall/Read|ModelDeployer/Read)/Resource",
        "The platform publishes its parameters under one prefix, and none of them is secret.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("cloudformation") + f"stack/{PREFIX}-\\*/\\*"),
        r"security/(Platform(Ci|Diff)/Policy|OnCall/(Read|Act))/Resource",
        "The stacks of this environment share its prefix; CloudFormation adds an id.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("ec2") + r"network-interface/\*"),
        r"(training/Fences|serving)/NetworkInterfaces/Resource|hyperpod/EksNodes/Policy/Resource"
        r"|security/HyperPod(Node|Controller)/Policy/Resource",
        "Interfaces get their ids at creation; creating requires the subnets and the security "
        "group of the platform, deleting is bounded to these subnets.",
    ),
    Suppression(
        _wildcard(r"arn:<AWS::Partition>:ec2:[a-z0-9-]+:\*:instance/\*"),
        r"hyperpod/EksNodes/Policy/Resource|security/HyperPod(Node|Controller)/Policy/Resource",
        "A HyperPod node is an instance in an AWS-owned account, with a generated id; the "
        "policy is the node's, and the interfaces it attaches are those of this account.",
    ),
    Suppression(
        _wildcard(
            r"arn:<AWS::Partition>:ecr:[a-z0-9-]+:\*:repository/(amazon|eks|hyperpod)[^:]*\*"
        ),
        r"hyperpod/EksNodes/Policy/Resource",
        "EKS's add-ons and HyperPod's health agent are pulled from accounts of AWS that differ by "
        "Region; AWS chooses the names, and a pull discloses nothing.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/ModelDeployer/(Read|Bedrock)/Resource",
        "Listing models, endpoints and quotas, reading metrics and starting an import support no "
        "resource; what an import may read is bounded by the one role that may be passed to it.",
    ),
    Suppression(
        _wildcard(
            ARN_OF_ACCOUNT.format("sagemaker")
            + rf"(endpoint|endpoint-config|inference-component|model|transform-job)/{PREFIX}-\*"
        ),
        r"security/(ModelDeployer/Deploy|OnCall/Act)/Resource"
        r"|serving/Removal/Undeploy/Policy/Resource",
        "The names of deployments begin with the prefix of this environment, and differ.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("application-autoscaling") + r"scalable-target/\*"),
        r"security/ModelDeployer/Deploy/Resource|serving/Removal/Undeploy/Policy/Resource",
        "Scalable targets get generated ids; a condition bounds them to those of SageMaker.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("cloudwatch") + rf"alarm:({PREFIX}-|TargetTracking-)\*"),
        r"security/ModelDeployer/Deploy/Resource",
        "Alarms of deployments share the prefix; those of target tracking are named by the service "
        "that creates them.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("cloudformation") + rf"stack/{PREFIX}-serving-\*/\*"),
        r"serving/Removal/Undeploy/Policy/Resource",
        "Each deployment that is code has a stack of that name, which holds no data.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("scheduler") + rf"schedule/{PREFIX}-deployments/\*"),
        r"serving/DeployerFences/Resource",
        "A schedule is named after its deployment; the group is that of deployments.",
    ),
    Suppression(
        _wildcard(r"<[A-Za-z0-9]+\.Arn>:\*"),
        PROVIDER,
        "CDK's provider framework may call any version of our handlers and of its own functions.",
    ),
)

SUPPRESSIONS = (*STRUCTURE, *WILDCARDS)
