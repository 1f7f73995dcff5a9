"""Accepted wildcards in the actions and resources of policies, each with its reason."""

from stacks.nag.suppression import PROVIDER, Suppression


def _wildcard(resource: str) -> str:
    return r"IAM5\[Resource::" + resource + r"\]"


ARN_OF_ACCOUNT = r"arn:<AWS::Partition>:{}:[a-z0-9-]*:(\d+|<AWS::AccountId>):"
PREFIX = r"[a-z0-9-]+"

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
        "may be passed to it. fsx:DescribeFileSystems lists file systems and reads no file.",
    ),
    Suppression(
        _wildcard(ARN_OF_ACCOUNT.format("sagemaker") + rf"pipeline/{PREFIX}-\*(/execution/\*)?"),
        r"security/Engineer/Serving/Resource",
        "Pipelines of the environment share its prefix; the ids of their executions are new.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"security/(ModelApprover|Retraining)/Policy/Resource",
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
        _wildcard(ARN_OF_ACCOUNT.format("sagemaker") + rf"processing-job/{PREFIX}-watch-\*"),
        r"serving/WatchCaller/Policy/Resource",
        "Each run of a schedule starts a job of a new name; all begin with the environment's "
        "prefix and `watch`.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"(bedrock/Undeploy|serving/Removal)/Undeploy/Policy/Resource"
        r"|bedrock/InvocationLogging/OnEvent/Policy/Resource",
        "Listing throughput and endpoints, reading and putting metrics, and the account's one "
        "logging setting support no resource.",
    ),
    Suppression(
        _wildcard(r"\*"),
        r"monitoring/Golden\w+/Replay/Policy/Resource",
        "Listing imported models supports no resource; it shows names, and no content.",
    ),
    Suppression(
        _wildcard(
            ARN_OF_ACCOUNT.format("bedrock")
            + r"(imported-model|custom-model-deployment|provisioned-model)/\*"
        ),
        r"monitoring/Golden\w+/Replay/Policy/Resource",
        "Bedrock generates the ids; a condition restricts them to those with the tag of the "
        "environment.",
    ),
    Suppression(
        _wildcard(
            r"arn:<AWS::Partition>:s3:::"
            + PREFIX
            + r"-(<AWS::AccountId>|\d+)-[a-z0-9-]+/"
            + r"(source/|registry/sha256/|serving/|pipelines/)?\*"
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
        _wildcard(ARN_OF_ACCOUNT.format("sagemaker") + r"(artifact|action)/\*"),
        r"security/.*",
        "Artifacts get their ids from their sources, and actions their names from runs; entities "
        "of the account's lineage are added, and none is changed or deleted.",
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
        r"security/Engineer/Serving/Resource",
        "Session Manager names a session after the user who started it, so people can end their "
        "own sessions only.",
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
        r"security/(Training|JobWithSecrets|Serving)/Policy/Resource",
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
