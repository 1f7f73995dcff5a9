"""Commands of the documentation, with who runs each and what it asks of AWS.

A command without an entry fails a test, as does an entry that no page mentions. `ROLES` names roles
of the platform, whose permissions are simulated; the other users have permissions of their own:

- `administrator`: deploys the platform, as the pipeline's role or with rights in the account.
- `local`: asks nothing of AWS.
- `node`: typed in a shell on a node, where it asks the cluster.
"""

from typing import Any

import tests.infra.permissions.serving_cases as serving
from tests.infra.permissions.cases import (
    APPROVED,
    BUILD_VARIABLES,
    BUILDS,
    ECR,
    JOB,
    LOGS,
    MODEL_FILE,
    NEW_FILE,
    NOTICES,
    ON_CREATION,
    ON_PROCESSING_CREATION,
    OUR_STREAM,
    OUR_TAG,
    OURS,
    REJECTED,
    ROLE,
    SM,
    SSM,
    TO_BEDROCK,
    TO_SAGEMAKER,
    TOKEN,
    WITH_MODELS_KEY,
)

Call = tuple[str, str, dict[str, Any]]
OUR_JOB = SM + "training-job/temper-all-a"
OUR_PIPELINE = SM + "pipeline/temper-all-docs"
TUNING = SM + "hyper-parameter-tuning-job/temper-all-a"
OUR_PROCESSING = SM + "processing-job/temper-all-prepare-a"
CLUSTER = SM + "cluster/abcdefghijkl"
ENDPOINT = SM + "endpoint/assistant"
DEPLOYED = SM + "endpoint/temper-all-assistant"
COMPONENT = SM + "inference-component/temper-all-drafts"
JOB_GROUP = LOGS + "/aws/sagemaker/TrainingJobs"
FUNCTION_GROUP = LOGS + "/temper/temper-all/undeploy-throughput"
INVOCATIONS = LOGS + "/temper/temper-all/bedrock-invocations"
CLUSTER_GROUP = LOGS + "/aws/sagemaker/Clusters/temper-all-cluster/abc"
QUEUE = "arn:aws:sqs:us-east-1:111122223333:temper-all-monitoring-NewsDlq-ABC"
FUNCTION = "arn:aws:lambda:us-east-1:111122223333:function:temper-all-monitoring-News-ABC"
THROUGHPUT = "arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abc"
DATABASE = "arn:aws:rds:us-east-1:111122223333:db:temper-all-hyperpod-accounting"
TOPIC = "arn:aws:sns:us-east-1:111122223333:temper-all-monitoring-Pages"
STACK = "arn:aws:cloudformation:us-east-1:111122223333:stack/temper-all-hyperpod/1"
BUDGET = "arn:aws:budgets::111122223333:budget/temper-all"
ALARMS = "arn:aws:cloudwatch:us-east-1:111122223333:alarm:*"
LIFT = {"iam:PolicyARN": "arn:aws:iam::111122223333:policy/temper-all-stop-new-jobs"}
KEYS = tuple(f"{{key:{domain}}}" for domain in ("data", "models", "logs", "messages"))
ENGINEER, ON_CALL, APPROVER = "Engineer", "OnCall", "ImageApprover"
MODEL_APPROVER, MODEL_DEPLOYER = "ModelApprover", "ModelDeployer"
ROLES = (ENGINEER, ON_CALL, APPROVER, MODEL_APPROVER, MODEL_DEPLOYER)

_PARAMETERS: Call = ("ssm:GetParametersByPath", SSM + "temper-all", {})
_DESCRIBE: Call = ("sagemaker:DescribeTrainingJob", OUR_JOB, {})
_LIST: Call = ("s3:ListBucket", "{runs}", {})
# A job may start from a version of the model registry, or from a model in the bucket.
_READ_MODEL: tuple[Call, ...] = (
    ("sagemaker:ListModelPackages", "*", {}),
    ("sagemaker:DescribeModelPackage", SM + "model-package/temper-all-models/1", {}),
    ("s3:GetObject", "{models}/models/support/1/job/output/model/config.json", {}),
    ("kms:Decrypt", "{key:models}", {}),
)
# Commands that people type to train, which ask the target for the run first.
_SUBMIT: tuple[Call, ...] = (
    *_READ_MODEL,
    _PARAMETERS,
    _DESCRIBE,
    ("sagemaker:CreateTrainingJob", OUR_JOB, JOB),
    ("sagemaker:AddTags", OUR_JOB, ON_CREATION),
    ("iam:PassRole", ROLE + "{role:Training}", TO_SAGEMAKER),
    ("s3:PutObject", "{data}/uploads/a/rows.jsonl", {}),
    ("s3:GetObject", "{data}/uploads/a/rows.jsonl", {}),
    ("s3:ListBucket", "{data}", {}),
    ("s3:PutObject", "{runs}/runs/a/1/job/job.yaml", {}),
    ("kms:GenerateDataKey", "{key:data}", {}),
    ("fsx:DescribeFileSystems", "*", {}),
    ("sagemaker:DescribeCluster", CLUSTER, {}),
    ("sagemaker:ListClusterNodes", CLUSTER, {}),
)
# The model of an execution, whose jobs SageMaker names, is fetched with its evaluation.
_EXECUTED: tuple[Call, ...] = (
    ("sagemaker:ListPipelineExecutionSteps", f"{OUR_PIPELINE}/execution/abcdefghijkl", {}),
    ("sagemaker:DescribeModelPackage", SM + "model-package/temper-all-models/1", {}),
    ("sagemaker:DescribeTrainingJob", SM + "training-job/pipelines-abc-train-def", {}),
    ("sagemaker:DescribeProcessingJob", SM + "processing-job/pipelines-abc-evaluate-def", {}),
    ("s3:GetObject", "{data}/pipelines/docs/jobs/a/job.yaml", {}),
    ("s3:GetObject", "{models}/models/docs/a-b/pipelines-abc/output/model/config.json", {}),
    ("s3:GetObject", "{runs}/checkpoints/docs/a-b/manifest.json", {}),
    ("s3:GetObject", "{runs}/pipelines/docs/abc/evaluate/results.json", {}),
    ("s3:ListBucket", "{models}", {}),
    _LIST,
)
_BEDROCK = "arn:aws:bedrock:us-east-1:111122223333:"
_CUSTOMIZATION = _BEDROCK + "model-customization-job/amazon.nova-micro-v1.0/abcdefghijkl"
_NOVA = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0:128k"
_HUB_MODEL = "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/qwen3/1.0.0"
_GRADER = "arn:aws:lambda:us-east-1:111122223333:function:temper-all-grader-SageMaker-0123456789ab"
_GRADER_HUB = SM + "hub/temper-all-graders"
_EVALUATOR = SM + "hub-content/temper-all-graders/JsonDoc/grader-0123456789ab/1.0.0"
_GRANT = {
    "kms:ViaService": "bedrock.us-east-1.amazonaws.com",
    "kms:CallerAccount": "111122223333",
}
# The same commands with a target of managed customization.
_CUSTOMIZE: tuple[Call, ...] = (
    ("bedrock:CreateModelCustomizationJob", _NOVA, {}),
    ("bedrock:GetModelCustomizationJob", _CUSTOMIZATION, {}),
    ("bedrock:TagResource", _CUSTOMIZATION, {}),
    ("iam:PassRole", ROLE + "{role:BedrockCustomization}", TO_BEDROCK),
    ("kms:CreateGrant", "{key:models}", _GRANT),
    ("lambda:CreateFunction", _GRADER, {}),
    ("lambda:GetFunction", _GRADER, {}),
    ("lambda:UpdateFunctionCode", _GRADER, {}),
    ("lambda:DeleteFunction", _GRADER, {}),
    ("lambda:TagResource", _GRADER, {}),
    ("iam:PassRole", ROLE + "{role:Grader}", {"iam:PassedToService": "lambda.amazonaws.com"}),
    ("sagemaker:CreateHub", _GRADER_HUB, {}),
    ("sagemaker:ImportHubContent", _EVALUATOR, {}),
    ("sagemaker:DescribeHubContent", _EVALUATOR, {}),
    ("sagemaker:DeleteHubContent", _EVALUATOR, {}),
    ("sagemaker:DescribeHubContent", _HUB_MODEL, {}),
    ("s3:GetObject", "arn:aws:s3:::jumpstart-cache-prod-us-east-1/recipes/qwen3.json", {}),
)
_SEE_CUSTOMIZATION: tuple[Call, ...] = (
    ("bedrock:GetModelCustomizationJob", _CUSTOMIZATION, {}),
    ("bedrock:ListModelCustomizationJobs", "*", {}),
    ("bedrock:ListTagsForResource", _CUSTOMIZATION, {}),
)
_LOG: tuple[Call, ...] = (
    _PARAMETERS,
    _DESCRIBE,
    ("logs:DescribeLogStreams", JOB_GROUP, {}),
    ("logs:GetLogEvents", OUR_STREAM, {}),
)
_IMAGE_STATE: tuple[Call, ...] = (
    _PARAMETERS,
    ("ssm:GetParameter", SSM + "temper-all/images/gpu/uri", {}),
    ("codebuild:BatchGetBuilds", BUILDS, {}),
    ("ecr:DescribeImages", ECR + "temper-all/gpu", {}),
    ("ecr:DescribeImageScanFindings", ECR + "temper-all/gpu", {}),
)

_PACKAGE = SM + "model-package/temper-all-models/1"
# Commands of the model registry, with `--env`: without it, they ask nothing of AWS.
_REGISTRY: tuple[Call, ...] = (
    _PARAMETERS,
    ("sagemaker:ListModelPackages", "*", {}),
    ("sagemaker:DescribeModelPackage", _PACKAGE, {}),
)
_PUSH: tuple[Call, ...] = (
    *_REGISTRY,
    ("s3:GetObject", MODEL_FILE, {}),
    ("s3:PutObject", MODEL_FILE, {**NEW_FILE, **WITH_MODELS_KEY}),
    ("kms:GenerateDataKey", "{key:models}", {}),
    ("kms:Decrypt", "{key:models}", {}),
    ("sagemaker:CreateModelPackage", _PACKAGE, {}),
    ("sagemaker:ListArtifacts", "*", {}),
    ("sagemaker:ListActions", "*", {}),
    ("sagemaker:ListAssociations", "*", {}),
    ("sagemaker:CreateArtifact", SM + "artifact/0123456789abcdef", {}),
    ("sagemaker:CreateAction", SM + "action/support-0123456789", {}),
    ("sagemaker:AddAssociation", SM + "artifact/0123456789abcdef", {}),
    ("sagemaker:AddAssociation", SM + "action/support-0123456789", {}),
)
_CHANGE_STAGE: tuple[Call, ...] = (
    *_REGISTRY,
    ("s3:GetObject", MODEL_FILE, {}),
    ("kms:Decrypt", "{key:models}", {}),
    ("sagemaker:UpdateModelPackage", _PACKAGE, APPROVED),
)

_ENDPOINT_ALARM = ALARMS.removesuffix("*") + "temper-all-chat-errors"
_END = serving.SCHEDULES + "schedule/temper-all-deployments/temper-all-chat-end"
_TARGET = serving.SCALING + "scalable-target/0a1b"
_JOB = SM + "transform-job/temper-all-chat-0123456789"
# Commands of deployments, for endpoints, components and batches.
_SEE_DEPLOYMENTS: tuple[Call, ...] = (
    ("sagemaker:ListEndpoints", "*", {}),
    ("sagemaker:ListInferenceComponents", "*", {}),
    ("sagemaker:ListTransformJobs", "*", {}),
    ("sagemaker:DescribeEndpoint", serving.ENDPOINT, {}),
    ("sagemaker:DescribeEndpointConfig", serving.CONFIG, {}),
    ("sagemaker:DescribeInferenceComponent", serving.COMPONENT, {}),
    ("sagemaker:DescribeModel", serving.MODEL, {}),
    ("sagemaker:DescribeTransformJob", _JOB, {}),
    ("sagemaker:ListTags", serving.ENDPOINT, {}),
    ("sagemaker:ListTags", serving.COMPONENT, {}),
    ("bedrock:ListImportedModels", "*", {}),
    ("bedrock:ListProvisionedModelThroughputs", "*", {}),
)
_MAKE_VERSION: tuple[Call, ...] = (
    *_REGISTRY,
    *_SEE_DEPLOYMENTS,
    ("s3:ListBucket", "{models}", {}),
    ("s3:GetObject", serving.MODEL_FILE, {}),
    ("kms:Decrypt", "{key:models}", {}),
    ("servicequotas:ListServiceQuotas", "*", {}),
    ("sagemaker:CreateModel", serving.MODEL, serving.ISOLATED),
    ("sagemaker:CreateEndpointConfig", serving.CONFIG, serving.ON_G5),
    ("sagemaker:AddTags", serving.MODEL, {"sagemaker:TaggingAction": "CreateModel"}),
    ("iam:PassRole", ROLE + "{role:Serving}", TO_SAGEMAKER),
    ("cloudwatch:DescribeAlarms", "*", {}),
    ("cloudwatch:PutMetricAlarm", _ENDPOINT_ALARM, {}),
    # Archives of adapters, and requests of asynchronous endpoints.
    ("s3:ListBucket", "{runs}", {}),
    ("s3:PutObject", "{runs}/serving/chat/adapters/a@1.0.0-0123.tar.gz", {}),
    ("s3:GetObject", "{runs}/serving/chat/answers/a.out", {}),
    ("kms:GenerateDataKey", "{key:data}", {}),
    ("sagemaker:InvokeEndpoint", serving.ENDPOINT, {}),
    ("sagemaker:InvokeEndpointAsync", serving.ENDPOINT, {}),
    ("application-autoscaling:DescribeScalableTargets", "*", {}),
)
_DEPLOY: tuple[Call, ...] = (
    *_MAKE_VERSION,
    ("sagemaker:CreateEndpoint", serving.ENDPOINT, serving.DEPLOYED),
    ("sagemaker:AddTags", serving.ENDPOINT, {"sagemaker:TaggingAction": "CreateEndpoint"}),
    ("sagemaker:CreateInferenceComponent", serving.COMPONENT, serving.NAMED),
    ("sagemaker:CreateTransformJob", _JOB, {**serving.DEPLOYED, **serving.ON_G5}),
    ("application-autoscaling:RegisterScalableTarget", _TARGET, serving.OF_SAGEMAKER),
    ("application-autoscaling:PutScalingPolicy", _TARGET, serving.OF_SAGEMAKER),
    ("scheduler:CreateSchedule", _END, {}),
    ("scheduler:DeleteSchedule", _END, {}),
    ("iam:PassRole", ROLE + "{role:RemovalCaller}", serving.TO_SCHEDULER),
)
_SWAP: tuple[Call, ...] = (
    *_MAKE_VERSION,
    ("sagemaker:UpdateEndpoint", serving.ENDPOINT, {}),
    ("sagemaker:UpdateInferenceComponent", serving.COMPONENT, {}),
    ("sagemaker:ListEndpointConfigs", "*", {}),
    ("sagemaker:ListModels", "*", {}),
    ("sagemaker:DeleteEndpointConfig", serving.CONFIG, {}),
    ("sagemaker:DeleteModel", serving.MODEL, {}),
)
_UNDEPLOY: tuple[Call, ...] = (
    _PARAMETERS,
    *_SEE_DEPLOYMENTS,
    ("sagemaker:DeleteEndpoint", serving.ENDPOINT, {}),
    ("sagemaker:DeleteInferenceComponent", serving.COMPONENT, {}),
    ("sagemaker:DeleteEndpointConfig", serving.CONFIG, {}),
    ("sagemaker:DeleteModel", serving.MODEL, {}),
    ("sagemaker:StopTransformJob", _JOB, {}),
    ("application-autoscaling:DescribeScalableTargets", "*", {}),
    ("application-autoscaling:DeregisterScalableTarget", _TARGET, serving.OF_SAGEMAKER),
    ("cloudwatch:DescribeAlarms", "*", {}),
    ("cloudwatch:DeleteAlarms", _ENDPOINT_ALARM, {}),
    ("scheduler:DeleteSchedule", _END, {}),
)

_ASK_BEDROCK: tuple[Call, ...] = (
    ("bedrock:InvokeModel", "arn:aws:bedrock:us-east-1:111122223333:imported-model/abc", {}),
)

# Commands of temper and make that ask nothing of AWS.
LOCAL = (
    "answer",
    "baselines",
    "bench-adapters",
    "bench-distillation",
    "bench-evaluate",
    "bench-forgetting",
    "bench-gpu",
    "gpu-test",
    "bench-memory",
    "bench-preferences",
    "bench-prepare",
    "bench-serve",
    "bias",
    "check-import",
    "chat",
    "check",
    "check-job",
    "compatibility",
    "compatibility-cuda",
    "diff-models",
    "execution-policies",
    "export",
    "export-suite",
    "feedback",
    "idle-cost",
    "import",
    "import-job",
    "lineage",
    "measured",
    "record-golden",
    "redteam",
    "review",
    "rehearse",
    "plan-pipeline",
    "rehearse-pipeline",
    "rehearse-deploy",
    "schema",
    "serve",
    "synth",
    "test",
    "test-infra",
    "train-recognizer",
)
# (command of temper and make) -> user, calls
COMMANDS: dict[str, tuple[str, tuple[Call, ...]]] = {
    "plan": (ENGINEER, _READ_MODEL),
    "advise": (ENGINEER, _READ_MODEL),
    "plan-serving": (ENGINEER, _READ_MODEL),
    # An evaluated model may be one that was imported into Bedrock in the same account.
    "evaluate": (ENGINEER, _ASK_BEDROCK),
    "compare": (ENGINEER, _ASK_BEDROCK),
    "train": (ENGINEER, (*_SUBMIT, *_CUSTOMIZE)),
    "start-pipeline": (ENGINEER, (("sagemaker:StartPipelineExecution", OUR_PIPELINE, {}),)),
    # The steps of `run` are commands of this table, for engineers, approvers and deployers.
    "pipeline": (
        ENGINEER,
        (
            _PARAMETERS,
            *(
                (f"sagemaker:{action}", OUR_PIPELINE, {})
                for action in (
                    *("DescribePipeline", "CreatePipeline", "UpdatePipeline", "AddTags"),
                    "StartPipelineExecution",
                )
            ),
            ("iam:PassRole", ROLE + "{role:Pipeline}", TO_SAGEMAKER),
            ("s3:PutObject", "{data}/pipelines/docs/jobs/a/job.yaml", {}),
            ("kms:GenerateDataKey", "{key:data}", {}),
            *_EXECUTED,
        ),
    ),
    "prepare": (
        ENGINEER,
        (
            _PARAMETERS,
            ("sagemaker:CreateProcessingJob", OUR_PROCESSING, JOB),
            (
                "sagemaker:AddTags",
                OUR_PROCESSING,
                ON_PROCESSING_CREATION,
            ),
            ("sagemaker:DescribeProcessingJob", OUR_PROCESSING, {}),
            ("iam:PassRole", ROLE + "{role:Processing}", TO_SAGEMAKER),
            ("s3:PutObject", "{data}/uploads/prepare/a/job.yaml", {}),
            ("s3:GetObject", "{data}/prepared/a/.building-b/plan.json", {}),
            ("s3:ListBucket", "{data}", {}),
            ("kms:GenerateDataKey", "{key:data}", {}),
        ),
    ),
    "resume": (ENGINEER, (*_SUBMIT, *_CUSTOMIZE)),
    "search": (
        ENGINEER,
        (
            *_SUBMIT,
            *_LOG,
            ("sagemaker:StopTrainingJob", OUR_JOB, {}),
            ("sagemaker:CreateHyperParameterTuningJob", TUNING, JOB),
            ("sagemaker:AddTags", TUNING, ON_CREATION),
            ("sagemaker:DescribeHyperParameterTuningJob", TUNING, {}),
            ("sagemaker:ListTrainingJobsForHyperParameterTuningJob", TUNING, {}),
            _LIST,
            ("s3:GetObject", "{runs}/checkpoints/a/1/metrics.jsonl", {}),
            ("s3:GetObject", "{models}/models/a/1/model.safetensors", {}),
            ("kms:Decrypt", "{key:models}", {}),
        ),
    ),
    "status": (
        ENGINEER,
        (
            *_SEE_CUSTOMIZATION,
            _PARAMETERS,
            _DESCRIBE,
            ("sagemaker:Search", "*", {}),
            ("sagemaker:ListTags", OUR_JOB, {}),
            ("sagemaker:ListProcessingJobs", "*", {}),
            (
                "bedrock:GetImportedModel",
                "arn:aws:bedrock:us-east-1:111122223333:imported-model/a",
                {},
            ),
        ),
    ),
    "adopt": (
        ENGINEER,
        (
            _DESCRIBE,
            ("sagemaker:Search", "*", {}),
            ("sagemaker:ListTags", OUR_JOB, {}),
            ("sagemaker:ListTags", SM + "training-job/older", OUR_TAG),
            ("s3:GetObject", "{runs}/runs/a/1/job/job.yaml", {}),
        ),
    ),
    "logs": (
        ENGINEER,
        (
            *_LOG,
            ("sagemaker:DescribeProcessingJob", OUR_PROCESSING, {}),
            ("logs:DescribeLogStreams", LOGS + "/aws/sagemaker/ProcessingJobs", {}),
            (
                "logs:GetLogEvents",
                LOGS + "/aws/sagemaker/ProcessingJobs:log-stream:temper-all-a/algo-1-1760000000",
                {},
            ),
        ),
    ),
    "stop": (
        ENGINEER,
        (
            _DESCRIBE,
            ("sagemaker:StopTrainingJob", OUR_JOB, {}),
            ("bedrock:StopModelCustomizationJob", _CUSTOMIZATION, {}),
            ("sagemaker:DescribeProcessingJob", OUR_PROCESSING, {}),
            ("sagemaker:StopProcessingJob", OUR_PROCESSING, {}),
        ),
    ),
    "fetch": (
        ENGINEER,
        (
            _PARAMETERS,
            _DESCRIBE,
            _LIST,
            ("s3:GetObject", "{runs}/checkpoints/a/1/metrics.jsonl", {}),
            ("s3:GetObject", "{models}/models/a/1/model.safetensors", {}),
            ("kms:Decrypt", "{key:models}", {}),
        ),
    ),
    "delete": (
        ENGINEER,
        (
            _PARAMETERS,
            _LIST,
            ("s3:DeleteObject", "{runs}/runs/a/1/job/job.yaml", {}),
            ("bedrock:DeleteCustomModel", _BEDROCK + "custom-model/a/b", {}),
        ),
    ),
    "register": (ENGINEER, _PUSH),
    "push-model": (ENGINEER, _PUSH),
    "models": (ENGINEER, (*_REGISTRY, ("sagemaker:UpdateModelPackage", _PACKAGE, REJECTED))),
    "promote": (MODEL_APPROVER, _CHANGE_STAGE),
    "deploy-model": (MODEL_DEPLOYER, _DEPLOY),
    "swap": (MODEL_DEPLOYER, _SWAP),
    "undeploy": (MODEL_DEPLOYER, _UNDEPLOY),
    "deployments": (MODEL_DEPLOYER, (_PARAMETERS, *_SEE_DEPLOYMENTS)),
    "watch": (
        MODEL_DEPLOYER,
        (
            _PARAMETERS,
            *_SEE_DEPLOYMENTS,
            ("s3:ListBucket", "{runs}", {}),
            ("s3:GetObject", "{runs}/serving/assistant/capture/a.jsonl", {}),
            ("bedrock:GetModelInvocationLoggingConfiguration", "*", {}),
            ("logs:FilterLogEvents", INVOCATIONS, {}),
            ("kms:Decrypt", "{key:data}", {}),
        ),
    ),
    "doctor": (
        ENGINEER,
        (
            *_IMAGE_STATE[:2],
            *_IMAGE_STATE[3:],
            ("servicequotas:ListServiceQuotas", "*", {}),
            ("ec2:DescribeInstanceTypeOfferings", "*", {}),
            ("ec2:DescribeSubnets", "*", {}),
            ("iam:GetRole", ROLE + "{role:Training}", {}),
            ("secretsmanager:DescribeSecret", TOKEN, {}),
            _LIST,
        ),
    ),
    "prices": (ENGINEER, (("pricing:GetProducts", "*", {}),)),
    "notify": (
        ENGINEER,
        (
            _PARAMETERS,
            ("sns:Subscribe", NOTICES, {"sns:Protocol": "email"}),
            ("sns:ListSubscriptionsByTopic", NOTICES, {}),
        ),
    ),
    "connect": (
        ENGINEER,
        (
            _PARAMETERS,
            ("sagemaker:DescribeCluster", CLUSTER, {}),
            ("sagemaker:ListClusterNodes", CLUSTER, {}),
        ),
    ),
    "publish-image": (
        ENGINEER,
        (
            *_IMAGE_STATE,
            ("s3:PutObject", "{runs}/source/temper.zip", {}),
            ("codebuild:StartBuild", BUILDS, BUILD_VARIABLES),
            ("codebuild:ListBuildsForProject", BUILDS, {}),
            ("logs:GetLogEvents", LOGS + "/temper/temper-all/image-build:log-stream:a", {}),
        ),
    ),
    "approve-image": (
        APPROVER,
        (*_IMAGE_STATE, ("ssm:PutParameter", SSM + "temper-all/images/gpu/approved", {})),
    ),
    **dict.fromkeys(
        (
            *("bootstrap", "cluster-setup", "cluster-software"),
            *("deploy", "destroy", "diff", "diff-environment"),
        ),
        ("administrator", ()),
    ),
    **dict.fromkeys(LOCAL, ("local", ())),
}
# (command of the AWS CLI, or of another tool) -> user, calls
TOOLS: dict[str, tuple[str, tuple[Call, ...]]] = {
    "aws bedrock create-model-import-job": (
        ENGINEER,
        (
            ("bedrock:CreateModelImportJob", "*", {}),
            ("iam:PassRole", ROLE + "{role:BedrockImport}", TO_BEDROCK),
        ),
    ),
    "aws bedrock delete-provisioned-model-throughput": (
        ON_CALL,
        (("bedrock:DeleteProvisionedModelThroughput", THROUGHPUT, OURS),),
    ),
    "aws bedrock list-provisioned-model-throughputs": (
        ON_CALL,
        (("bedrock:ListProvisionedModelThroughputs", "*", {}),),
    ),
    "aws budgets describe-budgets": (ON_CALL, (("budgets:ViewBudget", BUDGET, {}),)),
    "aws ce get-cost-and-usage": (ON_CALL, (("ce:GetCostAndUsage", "*", {}),)),
    "aws cloudformation continue-update-rollback": (
        ON_CALL,
        (("cloudformation:ContinueUpdateRollback", STACK, {}),),
    ),
    "aws cloudformation describe-stack-events": (
        ON_CALL,
        (("cloudformation:DescribeStackEvents", STACK, {}),),
    ),
    "aws cloudtrail lookup-events": (ON_CALL, (("cloudtrail:LookupEvents", "*", {}),)),
    "aws cloudwatch describe-alarms": (ON_CALL, (("cloudwatch:DescribeAlarms", ALARMS, {}),)),
    "aws cloudwatch get-metric-data": (ON_CALL, (("cloudwatch:GetMetricData", "*", {}),)),
    "aws cloudwatch get-metric-statistics": (
        ON_CALL,
        (("cloudwatch:GetMetricStatistics", "*", {}),),
    ),
    "aws ec2 describe-subnets": (ON_CALL, (("ec2:DescribeSubnets", "*", {}),)),
    "aws ecr describe-image-scan-findings": (
        ON_CALL,
        (("ecr:DescribeImageScanFindings", ECR + "temper-all/gpu", {}),),
    ),
    "aws ecr get-registry-scanning-configuration": (
        ON_CALL,
        (("ecr:GetRegistryScanningConfiguration", "*", {}),),
    ),
    "aws fsx describe-file-systems": (ON_CALL, (("fsx:DescribeFileSystems", "*", {}),)),
    "aws iam detach-role-policy": (
        ON_CALL,
        (("iam:DetachRolePolicy", ROLE + "{role:Engineer}", LIFT),),
    ),
    "aws kms cancel-key-deletion": (
        ON_CALL,
        tuple(("kms:CancelKeyDeletion", key, {}) for key in KEYS),
    ),
    "aws kms describe-key": (ON_CALL, tuple(("kms:DescribeKey", key, {}) for key in KEYS)),
    "aws kms enable-key": (ON_CALL, tuple(("kms:EnableKey", key, {}) for key in KEYS)),
    "aws lambda invoke": (ON_CALL, (("lambda:InvokeFunction", FUNCTION, {}),)),
    "aws logs describe-log-groups": (ON_CALL, (("logs:DescribeLogGroups", "*", {}),)),
    "aws logs filter-log-events": (
        ON_CALL,
        tuple(
            ("logs:FilterLogEvents", group, {})
            for group in (JOB_GROUP, FUNCTION_GROUP, CLUSTER_GROUP)
        ),
    ),
    "aws logs tail": (
        ON_CALL,
        tuple(
            ("logs:FilterLogEvents", group, {})
            for group in (
                JOB_GROUP,
                LOGS + "/aws/sagemaker/ProcessingJobs",
                FUNCTION_GROUP,
                LOGS + "/aws/sagemaker/Endpoints/assistant",
            )
        ),
    ),
    "aws sagemaker batch-replace-cluster-nodes": (
        ON_CALL,
        (("sagemaker:BatchReplaceClusterNodes", CLUSTER, OUR_TAG),),
    ),
    "aws sagemaker create-presigned-mlflow-app-url": (
        ENGINEER,
        (("sagemaker:CreatePresignedMlflowAppUrl", "{mlflow}", {}),),
    ),
    "aws sagemaker describe-cluster": (ON_CALL, (("sagemaker:DescribeCluster", CLUSTER, {}),)),
    "aws application-autoscaling describe-scaling-activities": (
        ON_CALL,
        (("application-autoscaling:DescribeScalingActivities", "*", {}),),
    ),
    "aws sagemaker add-tags": (
        ON_CALL,
        (("sagemaker:AddTags", DEPLOYED, {"aws:TagKeys": ["temper:until"]}),),
    ),
    "aws sagemaker delete-endpoint": (ON_CALL, (("sagemaker:DeleteEndpoint", DEPLOYED, {}),)),
    "aws sagemaker describe-inference-component": (
        ON_CALL,
        (("sagemaker:DescribeInferenceComponent", COMPONENT, {}),),
    ),
    "aws sagemaker list-tags": (ON_CALL, (("sagemaker:ListTags", DEPLOYED, {}),)),
    "aws sagemaker describe-endpoint": (ON_CALL, (("sagemaker:DescribeEndpoint", ENDPOINT, {}),)),
    "aws sagemaker describe-processing-job": (
        ON_CALL,
        (("sagemaker:DescribeProcessingJob", SM + "processing-job/temper-all-a", {}),),
    ),
    "aws sagemaker describe-training-job": (ON_CALL, (_DESCRIBE,)),
    "aws sagemaker describe-training-plan": (
        ON_CALL,
        (("sagemaker:DescribeTrainingPlan", SM + "training-plan/winter", {}),),
    ),
    "aws sagemaker list-cluster-events": (ON_CALL, (("sagemaker:ListClusterEvents", CLUSTER, {}),)),
    "aws sagemaker list-cluster-nodes": (ON_CALL, (("sagemaker:ListClusterNodes", CLUSTER, {}),)),
    "aws sagemaker list-endpoints": (ON_CALL, (("sagemaker:ListEndpoints", "*", {}),)),
    "aws sagemaker list-training-jobs": (ON_CALL, (("sagemaker:ListTrainingJobs", "*", {}),)),
    "aws sagemaker stop-training-job": (ON_CALL, (("sagemaker:StopTrainingJob", OUR_JOB, {}),)),
    "aws sagemaker update-cluster-software": ("administrator", ()),
    "aws sagemaker update-endpoint": (
        ON_CALL,
        (
            ("sagemaker:UpdateEndpoint", ENDPOINT, OUR_TAG),
            ("sagemaker:UpdateEndpoint", SM + "endpoint-config/before", OUR_TAG),
        ),
    ),
    "aws sagemaker update-endpoint-weights-and-capacities": (
        ON_CALL,
        (("sagemaker:UpdateEndpointWeightsAndCapacities", ENDPOINT, OUR_TAG),),
    ),
    "aws secretsmanager put-secret-value": (
        ENGINEER,
        (("secretsmanager:PutSecretValue", TOKEN, {}), ("kms:GenerateDataKey", "{key:data}", {})),
    ),
    "aws service-quotas list-service-quotas": (
        ON_CALL,
        (("servicequotas:ListServiceQuotas", "*", {}),),
    ),
    "aws sqs get-queue-attributes": (ON_CALL, (("sqs:GetQueueAttributes", QUEUE, {}),)),
    "aws sqs list-queues": (ON_CALL, (("sqs:ListQueues", "*", {}),)),
    "aws sqs purge-queue": (ON_CALL, (("sqs:PurgeQueue", QUEUE, {}),)),
    "aws sqs receive-message": (
        ON_CALL,
        (
            ("sqs:ReceiveMessage", QUEUE, {}),
            (
                "kms:Decrypt",
                "{key:messages}",
                {
                    "kms:ViaService": "sqs.us-east-1.amazonaws.com",
                    "kms:CallerAccount": "111122223333",
                },
            ),
        ),
    ),
    "aws ssm get-parameter": (
        ON_CALL,
        (("ssm:GetParameter", SSM + "temper-all/roles/training", {}),),
    ),
    "aws cloudwatch enable-alarm-actions": (
        ON_CALL,
        (
            (
                "cloudwatch:EnableAlarmActions",
                "arn:aws:cloudwatch:us-east-1:111122223333:alarm:temper-all-gpu-idle",
                {},
            ),
        ),
    ),
    "aws cloudwatch set-alarm-state": (
        ON_CALL,
        (
            (
                "cloudwatch:SetAlarmState",
                "arn:aws:cloudwatch:us-east-1:111122223333:alarm:temper-all-gpu-idle",
                {},
            ),
        ),
    ),
    "aws codebuild batch-get-builds": (ON_CALL, (("codebuild:BatchGetBuilds", BUILDS, {}),)),
    "aws codebuild list-builds-for-project": (
        ON_CALL,
        (("codebuild:ListBuildsForProject", BUILDS, {}),),
    ),
    "aws eks create-access-entry": ("administrator", ()),
    # Signs a request to STS with the caller's credentials.
    "aws eks get-token": ("local", ()),
    "aws events enable-rule": (
        ON_CALL,
        (
            (
                "events:EnableRule",
                "arn:aws:events:us-east-1:111122223333:rule/temper-all-monitoring-Watch-A",
                {},
            ),
        ),
    ),
    "aws events list-rules": (ON_CALL, (("events:ListRules", "*", {}),)),
    # Steps of a change or a removal of the platform, with rights of one's own in the account.
    "aws fsx delete-file-system": ("administrator", ()),
    "aws s3 sync": ("administrator", ()),
    "aws fsx describe-data-repository-associations": (
        ON_CALL,
        (("fsx:DescribeDataRepositoryAssociations", "*", {}),),
    ),
    "aws lambda list-functions": (ON_CALL, (("lambda:ListFunctions", "*", {}),)),
    "aws rds describe-db-instances": (ON_CALL, (("rds:DescribeDBInstances", DATABASE, {}),)),
    "aws rds describe-events": (ON_CALL, (("rds:DescribeEvents", "*", {}),)),
    "aws rds start-db-instance": (ON_CALL, (("rds:StartDBInstance", DATABASE, {}),)),
    # Buys capacity, which cannot be cancelled.
    "aws sagemaker extend-training-plan": ("administrator", ()),
    "aws sagemaker list-training-plans": (ON_CALL, (("sagemaker:ListTrainingPlans", "*", {}),)),
    "aws sagemaker search-training-plan-offerings": ("administrator", ()),
    "aws sns list-subscriptions-by-topic": (
        ON_CALL,
        (("sns:ListSubscriptionsByTopic", TOPIC, {}),),
    ),
    "aws sns list-topics": (ON_CALL, (("sns:ListTopics", "*", {}),)),
    "aws sns subscribe": (ON_CALL, (("sns:Subscribe", TOPIC, {"sns:Protocol": "email"}),)),
    # Promotes an image past its gate, which no role of the platform may do.
    "aws ssm put-parameter": ("administrator", ()),
    "aws sso login": ("local", ()),
    **dict.fromkeys(("cdk bootstrap", "cdk destroy", "cdk import"), ("administrator", ())),
    **dict.fromkeys(("helm dependencies", "helm install"), ("administrator", ())),
    **dict.fromkeys(("lfs df", "scontrol requeue", "sinfo", "squeue"), ("node", ())),
}
