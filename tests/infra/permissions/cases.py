"""Cases of allowed and denied actions, one per line.

A case is (role, verdict, action, resource, context). The context is what SageMaker, KMS and IAM
send
with the request. `{data}`, `{models}` and so on are replaced with ARNs of the environment.
"""

from typing import Any

from tests.infra.permissions.serving_cases import SERVING

Case = tuple[str, bool, str, str, dict[str, Any]]

# Condition keys of a job as launch submits it: subnets, security group and keys of the platform.
JOB = {
    "sagemaker:VpcSubnets": ["{subnet}"],
    "sagemaker:VpcSecurityGroupIds": ["{group}"],
    "sagemaker:OutputKmsKeyArn": "{key:data}",
    "sagemaker:VolumeKmsKeyArn": "{key:data}",
    "sagemaker:InstanceTypes": ["ml.m5.xlarge"],
    "sagemaker:MaxRuntimeInSeconds": "86400",
    "sagemaker:InterContainerTrafficEncryption": "true",
}
ON_P4D = {
    **{k: v for k, v in JOB.items() if "Volume" not in k},
    "sagemaker:InstanceTypes": ["ml.p4d.24xlarge"],
}
NO_VOLUME_KEY = {k: v for k, v in JOB.items() if "Volume" not in k}
NO_VPC = {k: v for k, v in JOB.items() if "VpcSubnets" not in k}
NO_GROUP = {k: v for k, v in JOB.items() if "SecurityGroup" not in k}
NO_OUTPUT_KEY = {k: v for k, v in JOB.items() if "Output" not in k}
OTHER_KEY = {**JOB, "sagemaker:OutputKmsKeyArn": "{key:logs}"}
OTHER_SUBNET = {**JOB, "sagemaker:VpcSubnets": ["subnet-elsewhere"]}
OTHER_GROUP = {**JOB, "sagemaker:VpcSecurityGroupIds": ["sg-elsewhere"]}
PLAIN_TRAFFIC = {**JOB, "sagemaker:InterContainerTrafficEncryption": "false"}
SHELL = {**JOB, "sagemaker:EnableRemoteDebug": "true"}
# The environment allows 72 hours, on three families.
TOO_LONG = {**JOB, "sagemaker:MaxRuntimeInSeconds": "259201"}
COSTLY = {**JOB, "sagemaker:InstanceTypes": ["ml.m5.xlarge", "ml.p5.48xlarge"]}
ANY_TYPE = {k: v for k, v in JOB.items() if "InstanceTypes" not in k}
ON_CREATION = {"sagemaker:TaggingAction": "CreateTrainingJob"}
ON_PROCESSING_CREATION = {"sagemaker:TaggingAction": "CreateProcessingJob"}
OUR_TAG = {"aws:ResourceTag/Environment": "everything"}
OTHERS_TAG = {"aws:ResourceTag/Environment": "dev"}
TO_SAGEMAKER = {"iam:PassedToService": "sagemaker.amazonaws.com"}
TO_BEDROCK = {"iam:PassedToService": "bedrock.amazonaws.com"}
TO_LAMBDA = {"iam:PassedToService": "lambda.amazonaws.com"}
OUR_SPACE = {"cloudwatch:namespace": "Temper/temper-all"}
JOB_SPACE = {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}
OTHER_SPACE = {"cloudwatch:namespace": "AWS/Billing"}
# Headers of an upload: with keys of S3, with a key of the caller, and with keys of the platform.
SSE = "s3:x-amz-server-side-encryption"
S3_KEYS = {SSE: "AES256"}
OWN_KEY = {f"{SSE}-customer-algorithm": "AES256"}
WITH_DATA_KEY = {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "{key:data}"}
WITH_MODELS_KEY = {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "{key:models}"}
GRANT = {"kms:GrantIsForAWSResource": "true"}
GRANT_THROUGH_SAGEMAKER = {
    **GRANT,
    "kms:ViaService": "sagemaker.us-east-1.amazonaws.com",
    "kms:CallerAccount": "111122223333",
}
OURS = {"aws:ResourceTag/TemperPrefix": "temper-all"}
OUR_EVENT = {"events:source": "temper.temper-all"}
ROLE = "arn:aws:iam::111122223333:role/"
SM = "arn:aws:sagemaker:us-east-1:111122223333:"
BR = "arn:aws:bedrock:us-east-1:111122223333:"
LOGS = "arn:aws:logs:us-east-1:111122223333:log-group:"
OUR_STREAM = LOGS + "/aws/sagemaker/TrainingJobs:log-stream:temper-all-a/algo-1-1760000000"
THEIR_STREAM = LOGS + "/aws/sagemaker/TrainingJobs:log-stream:temper-dev-a/algo-1-1760000000"
BUS = "arn:aws:events:us-east-1:111122223333:event-bus/default"
NOTICES = "arn:aws:sns:us-east-1:111122223333:temper-all-runs"
PAGES = "arn:aws:sns:us-east-1:111122223333:temper-all-monitoring-Pages"
BY_MAIL = {"sns:Protocol": "email"}
ECR = "arn:aws:ecr:us-east-1:111122223333:repository/"
EC2 = "arn:aws:ec2:us-east-1:111122223333:"
INTERFACE = EC2 + "network-interface/eni-1"
SSM = "arn:aws:ssm:us-east-1:111122223333:parameter/"
TOKEN = "arn:aws:secretsmanager:us-east-1:111122223333:secret:temper-all/hub-token-AbCdEf"
JUDGES_KEY = "arn:aws:secretsmanager:us-east-1:111122223333:secret:temper-all/keys/JUDGE_KEY-AbCdEf"
UNNAMED_KEY = "arn:aws:secretsmanager:us-east-1:111122223333:secret:temper-all/keys/OTHER-AbCdEf"
BASE_MODEL = "arn:aws:bedrock:us-east-1::foundation-model/"

# Bucket with the lifecycle scripts of HyperPod, which its nodes execute as root.
SCRIPTS = "arn:aws:s3:::sagemaker-temper-all-111122223333-us-east-1"
PASSWORD = "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-0a1b2c3d-AbCdEf"
OTHER_PASSWORD = "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-9z9z9z9z-AbCdEf"

BUILDS = "arn:aws:codebuild:us-east-1:111122223333:project/temper-all-images"
VARIABLE = "codebuild:environment.environmentVariables.name"
BUILD_VARIABLES = {VARIABLE: ["KIND", "VERSION", "COMMIT"]}
OTHER_VARIABLES = {VARIABLE: ["KIND", "PUBLIC_REGISTRY"]}
# Fields of the project that a request to start a build may not override.
OVERRIDES: list[dict[str, Any]] = [
    {"codebuild:source.buildspec": "true"},
    {"codebuild:source.location": "https://github.com/somebody/else"},
    {"codebuild:secondarySources": "true"},
    {"codebuild:environment.image": "aws/codebuild/standard:6.0"},
    {"codebuild:environment.computeType": "BUILD_GENERAL1_2XLARGE"},
    {"codebuild:environment.certificate": "somebodys-bucket/ca.pem"},
    {"codebuild:serviceRole": "arn:aws:iam::111122223333:role/Administrator"},
    {"codebuild:artifacts": "true", "codebuild:artifacts.location": "somebodys-bucket"},
    {"codebuild:logsConfig": "true", "codebuild:logsConfig.s3Logs.location": "a-bucket"},
]

TRAINING: list[Case] = [
    ("Training", True, "s3:ListBucket", "{data}", {}),
    ("Training", True, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("Training", False, "s3:PutObject", "{data}/set/train.jsonl", {}),
    ("Training", False, "s3:DeleteObject", "{data}/set/train.jsonl", {}),
    ("Training", True, "s3:PutObject", "{runs}/run/checkpoints/1/model", {}),
    ("Training", True, "s3:DeleteObject", "{runs}/run/checkpoints/1/model", {}),
    ("Training", True, "s3:GetObject", "{runs}/run/checkpoints/1/model", {}),
    ("Training", True, "s3:PutObject", "{models}/run/model.safetensors", {}),
    ("Training", False, "s3:DeleteObject", "{models}/run/model.safetensors", {}),
    ("Training", False, "s3:DeleteObjectVersion", "{models}/run/model.safetensors", {}),
    ("Training", False, "s3:GetObject", "arn:aws:s3:::other-bucket/x", {}),
    ("Training", False, "s3:PutObject", "arn:aws:s3:::other-bucket/x", {}),
    ("Training", False, "s3:PutBucketPolicy", "{data}", {}),
    ("Training", True, "kms:Decrypt", "{key:data}", {}),
    ("Training", True, "kms:GenerateDataKey", "{key:models}", {}),
    ("Training", True, "kms:CreateGrant", "{key:data}", GRANT),
    ("Training", False, "kms:CreateGrant", "{key:data}", {"kms:GrantIsForAWSResource": "false"}),
    ("Training", False, "kms:Decrypt", "{key:logs}", {}),
    ("Training", False, "kms:Decrypt", "{key:messages}", {}),
    ("Training", False, "kms:PutKeyPolicy", "{key:data}", {}),
    ("Training", False, "kms:ScheduleKeyDeletion", "{key:models}", {}),
    ("Training", True, "ecr:GetAuthorizationToken", "*", {}),
    ("Training", True, "ecr:BatchGetImage", ECR + "temper-all/gpu", {}),
    ("Training", False, "ecr:PutImage", ECR + "temper-all/gpu", {}),
    ("Training", False, "ecr:BatchGetImage", ECR + "other/gpu", {}),
    ("Training", False, "logs:PutLogEvents", LOGS + "/aws/sagemaker/Endpoints/a:log-stream:b", {}),
    ("Training", True, "logs:PutLogEvents", LOGS + "/aws/sagemaker/TrainingJobs:log-stream:a", {}),
    (
        "Training",
        False,
        "logs:DeleteLogStream",
        LOGS + "/aws/sagemaker/TrainingJobs:log-stream:a",
        {},
    ),
    ("Training", False, "logs:DeleteLogGroup", LOGS + "/aws/sagemaker/TrainingJobs", {}),
    ("Training", True, "cloudwatch:PutMetricData", "*", JOB_SPACE),
    ("Training", False, "cloudwatch:PutMetricData", "*", OTHER_SPACE),
    ("Training", False, "secretsmanager:GetSecretValue", TOKEN, {}),
    ("JobWithSecrets", True, "secretsmanager:GetSecretValue", TOKEN, {}),
    ("Training", False, "secretsmanager:PutSecretValue", TOKEN, {}),
    ("Training", False, "secretsmanager:GetSecretValue", PASSWORD, {}),
    ("Training", False, "secretsmanager:GetSecretValue", JUDGES_KEY, {}),
    ("JobWithSecrets", True, "secretsmanager:GetSecretValue", JUDGES_KEY, {}),
    ("Training", False, "secretsmanager:PutSecretValue", JUDGES_KEY, {}),
    ("Training", False, "secretsmanager:GetSecretValue", UNNAMED_KEY, {}),
    ("JobWithSecrets", False, "secretsmanager:GetSecretValue", PASSWORD, {}),
    ("JobWithSecrets", False, "secretsmanager:GetSecretValue", UNNAMED_KEY, {}),
    ("JobWithSecrets", False, "secretsmanager:PutSecretValue", TOKEN, {}),
    ("JobWithSecrets", True, "s3:PutObject", "{models}/run/model.safetensors", {}),
    ("JobWithSecrets", False, "s3:PutObject", "{data}/set/train.jsonl", {}),
    ("JobWithSecrets", True, "sagemaker:CallMlflowAppApi", "{mlflow}", {}),
    ("JobWithSecrets", True, "ec2:CreateNetworkInterface", EC2 + "subnet/{subnet}", {}),
    ("JobWithSecrets", False, "iam:PassRole", ROLE + "{role:Training}", TO_SAGEMAKER),
    ("Training", True, "bedrock:InvokeModel", BASE_MODEL + "amazon.nova-lite-v1:0", {}),
    ("Training", False, "bedrock:InvokeModel", BASE_MODEL + "amazon.nova-pro-v1:0", {}),
    (
        "Training",
        True,
        "bedrock:InvokeModel",
        BR + "inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0",
        {},
    ),
    (
        "Training",
        True,
        "bedrock:InvokeModel",
        "arn:aws:bedrock:us-west-2::foundation-model/anthropic.claude-haiku-4-5-20251001-v1:0",
        {},
    ),
    ("Training", False, "bedrock:CreateModelImportJob", "*", {}),
    ("Training", False, "sagemaker:CreateTrainingJob", SM + "training-job/again", JOB),
    ("Training", False, "iam:PassRole", ROLE + "{role:Training}", TO_SAGEMAKER),
    ("Training", False, "sts:AssumeRole", ROLE + "{role:Engineer}", {}),
    ("Training", True, "ec2:CreateNetworkInterface", EC2 + "subnet/{subnet}", {}),
    ("Training", False, "ec2:CreateNetworkInterface", EC2 + "subnet/subnet-elsewhere", {}),
    ("Training", False, "iam:CreateRole", ROLE + "mine", {}),
]

# The actions that AWS's own HyperPod policies grant besides those bounded to the subnets:
# docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-prerequisites-iam.html
SLURM_INTERFACE_ACTIONS = ("ec2:CreateTags", "ec2:DetachNetworkInterface")

NODE: list[Case] = [
    ("HyperPodNode", True, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("HyperPodNode", True, "s3:PutObject", "{runs}/run/checkpoints/1", {}),
    ("HyperPodNode", True, "s3:ListBucket", SCRIPTS, {}),
    ("HyperPodNode", True, "s3:GetObject", SCRIPTS + "/0123456789abcdef/users.sh", {}),
    ("HyperPodNode", False, "s3:PutObject", SCRIPTS + "/0123456789abcdef/users.sh", {}),
    ("HyperPodNode", False, "s3:DeleteObject", SCRIPTS + "/0123456789abcdef/users.sh", {}),
    ("HyperPodNode", True, "cloudwatch:PutMetricData", "*", OUR_SPACE),
    ("HyperPodNode", False, "cloudwatch:PutMetricData", "*", JOB_SPACE),
    ("HyperPodNode", False, "cloudwatch:PutMetricData", "*", OTHER_SPACE),
    ("HyperPodNode", True, "ecr:GetAuthorizationToken", "*", {}),
    ("HyperPodNode", True, "ecr:BatchGetImage", ECR + "temper-all/gpu", {}),
    ("HyperPodNode", False, "ecr:PutImage", ECR + "temper-all/gpu", {}),
    ("HyperPodNode", False, "s3:DeleteObject", "{models}/run/model", {}),
    ("HyperPodNode", True, "ssmmessages:OpenDataChannel", "*", {}),
    (
        "HyperPodNode",
        True,
        "logs:CreateLogGroup",
        LOGS + "/aws/sagemaker/Clusters/temper-all-cluster/b",
        {},
    ),
    ("HyperPodNode", False, "logs:CreateLogGroup", LOGS + "/elsewhere", {}),
    ("HyperPodNode", False, "logs:CreateLogGroup", LOGS + "/aws/sagemaker/Clusters/other/b", {}),
    ("HyperPodNode", True, "kms:CreateGrant", "{key:data}", GRANT),
    ("HyperPodNode", False, "kms:Decrypt", "{key:messages}", {}),
    ("HyperPodNode", False, "secretsmanager:GetSecretValue", TOKEN, {}),
    ("HyperPodNode", False, "secretsmanager:GetSecretValue", PASSWORD, {}),
    ("HyperPodNode", False, "sagemaker:UpdateCluster", SM + "cluster/abcdefghijkl", {}),
    ("HyperPodNode", False, "iam:PassRole", ROLE + "{role:HyperPodNode}", TO_SAGEMAKER),
    ("HyperPodNode", False, "ec2:RunInstances", EC2 + "instance/*", {}),
    ("HyperPodNode", False, "s3:PutObject", "{runs}/run/checkpoints/1", S3_KEYS),
    ("HyperPodNode", False, "s3:PutObject", "{models}/run/model", S3_KEYS),
    ("HyperPodNode", False, "s3:PutObject", "{runs}/run/checkpoints/1", OWN_KEY),
    ("HyperPodNode", True, "s3:PutObject", "{runs}/run/checkpoints/1", WITH_DATA_KEY),
    ("HyperPodNode", True, "s3:PutObject", "{models}/run/model", WITH_MODELS_KEY),
    ("HyperPodNode", False, "s3:PutObject", "{models}/run/model", WITH_DATA_KEY),
    *(("HyperPodNode", True, action, INTERFACE, {}) for action in SLURM_INTERFACE_ACTIONS),
    ("HyperPodNode", False, "ec2:CreateTags", EC2 + "instance/i-1", {}),
    ("HyperPodNode", False, "ec2:TerminateInstances", EC2 + "instance/i-1", {}),
]

CONTROLLER: list[Case] = [
    ("HyperPodController", True, "secretsmanager:GetSecretValue", PASSWORD, {}),
    ("HyperPodController", False, "secretsmanager:GetSecretValue", OTHER_PASSWORD, {}),
    ("HyperPodController", False, "secretsmanager:GetSecretValue", TOKEN, {}),
    ("HyperPodController", False, "secretsmanager:PutSecretValue", PASSWORD, {}),
    ("HyperPodController", True, "s3:GetObject", SCRIPTS + "/0123456789abcdef/users.sh", {}),
    ("HyperPodController", False, "s3:PutObject", SCRIPTS + "/0123456789abcdef/users.sh", {}),
    ("HyperPodController", True, "kms:Decrypt", "{key:data}", {}),
    ("HyperPodController", True, "s3:PutObject", "{runs}/run/checkpoints/1", {}),
    ("HyperPodController", True, "ec2:CreateNetworkInterface", EC2 + "subnet/{subnet}", {}),
    (
        "HyperPodController",
        False,
        "rds:ModifyDBInstance",
        "arn:aws:rds:us-east-1:111122223333:db:accounts",
        {},
    ),
    *(("HyperPodController", True, action, INTERFACE, {}) for action in SLURM_INTERFACE_ACTIONS),
    ("HyperPodController", False, "iam:PassRole", ROLE + "{role:HyperPodNode}", TO_SAGEMAKER),
]

BUILD: list[Case] = [
    ("ImageBuild", True, "s3:GetObject", "{runs}/source/temper.zip", {}),
    ("ImageBuild", False, "s3:GetObject", "{runs}/run/checkpoints/1", {}),
    ("ImageBuild", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("ImageBuild", False, "s3:GetObject", "{models}/run/model", {}),
    ("ImageBuild", True, "kms:Decrypt", "{key:data}", {}),
    ("ImageBuild", False, "kms:Decrypt", "{key:models}", {}),
    ("ImageBuild", True, "ecr:PutImage", ECR + "temper-all/gpu", {}),
    ("ImageBuild", False, "ecr:PutImage", ECR + "other/gpu", {}),
    ("ImageBuild", True, "ecr:BatchImportUpstreamImage", ECR + "temper-all/public/neuron/x", {}),
    ("ImageBuild", False, "ecr:BatchImportUpstreamImage", ECR + "temper-all/gpu", {}),
    # Base images come from the cache; a build that could push there would change the next one.
    ("ImageBuild", False, "ecr:PutImage", ECR + "temper-all/public/deep-learning/x", {}),
    ("ImageBuild", False, "ssm:PutParameter", SSM + "temper-all/images/gpu/approved", {}),
    ("ImageBuild", False, "codebuild:StartBuild", BUILDS, {}),
    ("ImageBuild", False, "ecr:CreateRepository", ECR + "temper-all/other", {}),
    ("ImageBuild", False, "ecr:DeleteRepository", ECR + "temper-all/gpu", {}),
    ("ImageBuild", False, "ecr:BatchDeleteImage", ECR + "temper-all/gpu", {}),
    ("ImageBuild", False, "ecr:PutImageTagMutability", ECR + "temper-all/gpu", {}),
    ("ImageBuild", False, "ssm:PutParameter", SSM + "temper-all/images/gpu/uri", {}),
]

IMPORT: list[Case] = [
    ("BedrockCustomization", True, "s3:GetObject", "{data}/uploads/a/train.jsonl", {}),
    ("BedrockCustomization", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("BedrockCustomization", True, "s3:PutObject", "{models}/models/a/1/losses.csv", {}),
    ("BedrockCustomization", False, "s3:PutObject", "{models}/registry/sha256/a/model", {}),
    ("BedrockCustomization", False, "s3:GetObject", "{runs}/run/checkpoints/1", {}),
    ("BedrockCustomization", True, "kms:GenerateDataKey", "{key:models}", {}),
    ("BedrockCustomization", True, "kms:Decrypt", "{key:data}", {}),
    ("BedrockCustomization", False, "kms:GenerateDataKey", "{key:data}", {}),
    ("BedrockImport", True, "s3:GetObject", "{models}/run/model", {}),
    ("BedrockImport", True, "s3:ListBucket", "{models}", {}),
    ("BedrockImport", False, "s3:PutObject", "{models}/run/model", {}),
    ("BedrockImport", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("BedrockImport", False, "s3:GetObject", "{runs}/run/checkpoints/1", {}),
    ("BedrockImport", True, "kms:Decrypt", "{key:models}", {}),
    ("BedrockImport", False, "kms:Decrypt", "{key:data}", {}),
    ("BedrockImport", False, "kms:GenerateDataKey", "{key:models}", {}),
    ("BedrockImport", False, "bedrock:InvokeModel", BR + "imported-model/abcdefghijkl", {}),
]

MONITORING: list[Case] = [
    ("Monitoring", True, "sagemaker:ListTrainingJobs", "*", {}),
    ("Monitoring", True, "sagemaker:DescribeTrainingJob", SM + "training-job/a", {}),
    ("Monitoring", True, "sagemaker:DescribeEndpoint", SM + "endpoint/a", {}),
    ("Monitoring", True, "sagemaker:ListTags", SM + "endpoint/a", {}),
    ("Monitoring", True, "sagemaker:DescribeTrainingPlan", SM + "training-plan/a", {}),
    ("Monitoring", True, "logs:FilterLogEvents", LOGS + "/aws/sagemaker/TrainingJobs", {}),
    ("Monitoring", False, "logs:FilterLogEvents", LOGS + "/aws/sagemaker/ProcessingJobs", {}),
    ("Monitoring", False, "sagemaker:DeleteEndpoint", SM + "endpoint/a", {}),
    ("Monitoring", True, "cloudwatch:GetMetricData", "*", {}),
    ("Monitoring", True, "cloudwatch:PutMetricData", "*", OUR_SPACE),
    ("Monitoring", False, "cloudwatch:PutMetricData", "*", JOB_SPACE),
    ("Monitoring", True, "events:PutEvents", BUS, OUR_EVENT),
    ("Monitoring", False, "events:PutEvents", BUS, {"events:source": "temper.other"}),
    ("Monitoring", False, "sagemaker:StopTrainingJob", SM + "training-job/a", {}),
    ("Monitoring", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("Monitoring", False, "kms:Decrypt", "{key:data}", {}),
    (
        "Monitoring",
        False,
        "logs:GetLogEvents",
        LOGS + "/aws/sagemaker/TrainingJobs:log-stream:a",
        {},
    ),
    ("Monitoring", False, "logs:DeleteLogGroup", LOGS + "/temper/temper-all/watch-jobs", {}),
]

LAUNCHING: list[Case] = [
    ("Engineer", True, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", JOB),
    ("Engineer", True, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", ON_P4D),
    ("Engineer", True, "sagemaker:CreateProcessingJob", SM + "processing-job/temper-all-a", JOB),
    (
        "Engineer",
        True,
        "sagemaker:CreateHyperParameterTuningJob",
        SM + "hyper-parameter-tuning-job/temper-all-a",
        JOB,
    ),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", NO_VPC),
    (
        "Engineer",
        False,
        "sagemaker:CreateProcessingJob",
        SM + "processing-job/temper-all-a",
        NO_VPC,
    ),
    (
        "Engineer",
        False,
        "sagemaker:CreateHyperParameterTuningJob",
        SM + "hyper-parameter-tuning-job/temper-all-a",
        NO_VPC,
    ),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", NO_GROUP),
    (
        "Engineer",
        False,
        "sagemaker:CreateTrainingJob",
        SM + "training-job/temper-all-a",
        OTHER_SUBNET,
    ),
    (
        "Engineer",
        False,
        "sagemaker:CreateTrainingJob",
        SM + "training-job/temper-all-a",
        OTHER_GROUP,
    ),
    (
        "Engineer",
        False,
        "sagemaker:CreateTrainingJob",
        SM + "training-job/temper-all-a",
        NO_OUTPUT_KEY,
    ),
    (
        "Engineer",
        False,
        "sagemaker:CreateTrainingJob",
        SM + "training-job/temper-all-a",
        NO_VOLUME_KEY,
    ),
    (
        "Engineer",
        False,
        "sagemaker:CreateTrainingJob",
        SM + "training-job/temper-all-a",
        PLAIN_TRAFFIC,
    ),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", OTHER_KEY),
    ("Engineer", True, "sagemaker:CreateTrainingJob", SM + "training-plan/winter", JOB),
    ("Engineer", False, "sagemaker:CreateTrainingPlan", SM + "training-plan/winter", {}),
    ("Engineer", True, "sagemaker:AddTags", SM + "training-job/temper-all-a", ON_CREATION),
    ("Engineer", False, "sagemaker:AddTags", SM + "training-job/temper-all-a", {}),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/a", JOB),
    ("Engineer", False, "sagemaker:CreateProcessingJob", SM + "processing-job/other-a", JOB),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", SHELL),
    (
        "Engineer",
        False,
        "sagemaker:UpdateTrainingJob",
        SM + "training-job/temper-all-a",
        {"sagemaker:EnableRemoteDebug": "true"},
    ),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", TOO_LONG),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", COSTLY),
    ("Engineer", False, "sagemaker:CreateTrainingJob", SM + "training-job/temper-all-a", ANY_TYPE),
    (
        "Engineer",
        False,
        "sagemaker:CreateProcessingJob",
        SM + "processing-job/temper-all-a",
        COSTLY,
    ),
    ("Engineer", True, "sns:Subscribe", NOTICES, BY_MAIL),
    ("Engineer", True, "sns:ListSubscriptionsByTopic", NOTICES, {}),
    ("Engineer", False, "sns:Subscribe", NOTICES, {"sns:Protocol": "https"}),
    ("Engineer", False, "sns:Subscribe", NOTICES, {"sns:Protocol": "sqs"}),
    ("Engineer", False, "sns:Subscribe", NOTICES, {}),
    ("Engineer", False, "sns:Subscribe", PAGES, BY_MAIL),
    ("Engineer", False, "sns:ListSubscriptionsByTopic", PAGES, {}),
    ("Engineer", False, "sns:Publish", NOTICES, {}),
    ("Engineer", False, "sns:Unsubscribe", "*", {}),
    ("Engineer", False, "sns:SetSubscriptionAttributes", NOTICES, {}),
    ("Engineer", False, "sagemaker:StopTrainingJob", SM + "training-job/a", {}),
    ("Engineer", False, "sagemaker:StopTrainingJob", SM + "training-job/a", OTHERS_TAG),
    ("Engineer", True, "sagemaker:StopTrainingJob", SM + "training-job/a", OUR_TAG),
    ("Engineer", True, "sagemaker:DescribeTrainingJob", SM + "training-job/a", OUR_TAG),
    ("Engineer", False, "sagemaker:DescribeTrainingJob", SM + "training-job/a", OTHERS_TAG),
    ("Engineer", False, "sagemaker:StopProcessingJob", SM + "processing-job/a", OUR_TAG),
    ("Engineer", True, "sagemaker:DescribeTrainingJob", SM + "training-job/temper-all-a", {}),
    ("Engineer", True, "sagemaker:StopTrainingJob", SM + "training-job/temper-all-a", {}),
    ("Engineer", True, "sagemaker:ListTrainingJobs", "*", {}),
    ("Engineer", True, "sagemaker:Search", "*", {}),
    ("Engineer", True, "servicequotas:GetServiceQuota", "*", {}),
    ("Engineer", True, "iam:PassRole", ROLE + "{role:Training}", TO_SAGEMAKER),
    ("Engineer", False, "iam:PassRole", ROLE + "{role:Training}", TO_LAMBDA),
    ("Engineer", True, "iam:PassRole", ROLE + "{role:JobWithSecrets}", TO_SAGEMAKER),
    ("Engineer", False, "iam:PassRole", ROLE + "{role:JobWithSecrets}", TO_LAMBDA),
    ("Engineer", False, "sagemaker:UpdateModelPackage", SM + "model-package/other-models/1", {}),
    ("Engineer", False, "iam:PassRole", ROLE + "{role:HyperPodNode}", TO_SAGEMAKER),
    ("Engineer", False, "iam:PassRole", ROLE + "Administrator", TO_SAGEMAKER),
    ("Engineer", False, "iam:PassRole", ROLE + "Administrator", TO_LAMBDA),
    ("Engineer", True, "iam:PassRole", ROLE + "{role:BedrockImport}", TO_BEDROCK),
    ("Engineer", False, "iam:PassRole", ROLE + "{role:BedrockImport}", TO_SAGEMAKER),
    ("Engineer", True, "codebuild:StartBuild", BUILDS, {}),
    ("Engineer", True, "codebuild:StartBuild", BUILDS, BUILD_VARIABLES),
    ("Engineer", False, "codebuild:StartBuild", BUILDS, OTHER_VARIABLES),
    # As CodeBuild may send it: Boolean keys of objects that the request does not have.
    (
        "Engineer",
        True,
        "codebuild:StartBuild",
        BUILDS,
        {**BUILD_VARIABLES, "codebuild:artifacts": "false", "codebuild:cache": "false"},
    ),
    *(("Engineer", False, "codebuild:StartBuild", BUILDS, change) for change in OVERRIDES),
    ("Engineer", False, "codebuild:StartBuild", BUILDS.replace("temper-all", "other"), {}),
    ("Engineer", True, "codebuild:BatchGetBuilds", BUILDS, {}),
    ("Engineer", True, "codebuild:ListBuildsForProject", BUILDS, {}),
    ("Engineer", False, "codebuild:UpdateProject", BUILDS, {}),
    ("Engineer", False, "codebuild:StartBuildBatch", BUILDS, {}),
    ("Engineer", False, "codebuild:RetryBuild", BUILDS, {}),
    ("Engineer", False, "codebuild:StopBuild", BUILDS, {}),
    ("Engineer", False, "ecr:PutImage", ECR + "temper-all/gpu", {}),
    ("Engineer", False, "ssm:PutParameter", SSM + "temper-all/images/gpu/approved", {}),
    ("Engineer", True, "ssm:GetParametersByPath", SSM + "temper-all", {}),
    ("Engineer", True, "ssm:GetParameter", SSM + "temper-all/roles/training", {}),
    ("Engineer", False, "ssm:PutParameter", SSM + "temper-all/images/gpu/uri", {}),
    ("Engineer", True, "s3:PutObject", "{data}/set/train.jsonl", {}),
    ("Engineer", True, "s3:PutObject", "{runs}/source/temper.zip", {}),
    ("Engineer", False, "s3:PutObject", "{models}/run/model", {}),
    ("Engineer", False, "s3:DeleteObject", "{data}/set/train.jsonl", {}),
    ("Engineer", True, "kms:GenerateDataKey", "{key:data}", {}),
    ("Engineer", True, "kms:CreateGrant", "{key:data}", GRANT),
    ("Engineer", False, "kms:Decrypt", "{key:logs}", {}),
    ("Engineer", False, "kms:Decrypt", "{key:messages}", {}),
    ("Engineer", True, "ecr:DescribeImageScanFindings", ECR + "temper-all/gpu", {}),
    ("Engineer", True, "logs:GetLogEvents", OUR_STREAM, {}),
    ("Engineer", False, "logs:GetLogEvents", THEIR_STREAM, {}),
    ("Engineer", False, "logs:FilterLogEvents", LOGS + "/aws/sagemaker/TrainingJobs", {}),
    ("Engineer", False, "logs:StartQuery", LOGS + "/aws/sagemaker/TrainingJobs", {}),
    ("Engineer", False, "logs:GetLogEvents", LOGS + "/aws/sagemaker/Endpoints/a:log-stream:b", {}),
    (
        "Engineer",
        False,
        "logs:GetLogEvents",
        LOGS + "/aws/sagemaker/Clusters/other/abc:log-stream:b",
        {},
    ),
    (
        "Engineer",
        True,
        "logs:GetLogEvents",
        LOGS + "/aws/sagemaker/Clusters/temper-all-cluster/abc:log-stream:b",
        {},
    ),
    ("Engineer", True, "logs:FilterLogEvents", LOGS + "/temper/temper-all/image-build", {}),
    ("Engineer", True, "cloudwatch:GetMetricData", "*", {}),
    ("Engineer", True, "secretsmanager:PutSecretValue", TOKEN, {}),
    ("Engineer", False, "secretsmanager:GetSecretValue", TOKEN, {}),
    ("Engineer", False, "secretsmanager:GetSecretValue", PASSWORD, {}),
]

LUSTRE = "arn:aws:fsx:us-east-1:111122223333:file-system/fs-1"
# Requests that `launch` makes before it submits, and to reach a cluster.
ASKING: list[Case] = [
    ("Engineer", True, "ec2:DescribeInstanceTypeOfferings", "*", {}),
    ("Engineer", True, "ec2:DescribeSubnets", "*", {}),
    ("Engineer", True, "servicequotas:ListServiceQuotas", "*", {}),
    ("Engineer", True, "iam:GetRole", ROLE + "{role:Training}", {}),
    ("Engineer", False, "iam:GetRole", ROLE + "Administrator", {}),
    ("Engineer", True, "secretsmanager:DescribeSecret", TOKEN, {}),
    ("Engineer", True, "logs:DescribeLogStreams", LOGS + "/aws/sagemaker/TrainingJobs", {}),
    (
        "Engineer",
        True,
        "logs:DescribeLogStreams",
        LOGS + "/aws/sagemaker/TrainingJobs:log-stream:",
        {},
    ),
    ("Engineer", True, "sagemaker:DescribeCluster", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", True, "sagemaker:ListClusterNodes", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", False, "sagemaker:DeleteCluster", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", False, "sagemaker:UpdateCluster", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", False, "sagemaker:UpdateClusterSoftware", SM + "cluster/abcdefghijkl", {}),
    # Not here: starting a session on a cluster. The simulator's reference knows no cluster as a
    # resource of ssm:StartSession, and no document of AWS's; see tests/infra/test_node_access.py.
    ("Engineer", False, "s3:GetObject", SCRIPTS + "/0123456789abcdef/users.sh", {}),
    ("Engineer", False, "s3:PutObject", SCRIPTS + "/0123456789abcdef/users.sh", {}),
    ("Engineer", False, "ssm:StartSession", EC2 + "instance/i-1", {}),
    ("Engineer", False, "ssm:SendCommand", EC2 + "instance/i-1", {}),
    ("Engineer", True, "fsx:DescribeFileSystems", "*", {}),
    ("Engineer", False, "fsx:DeleteFileSystem", LUSTRE, {}),
]

# A file of a registered model is written once; the parts of a large one carry no condition.
NEW_FILE = {"s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}
ANY_FILE = {"s3:ObjectCreationOperation": "true"}
PART = {"s3:ObjectCreationOperation": "false"}
APPROVED = {"sagemaker:ModelApprovalStatus": "Approved"}
REJECTED = {"sagemaker:ModelApprovalStatus": "Rejected"}
PENDING = {"sagemaker:ModelApprovalStatus": "PendingManualApproval"}
PACKAGE = SM + "model-package/temper-all-models/1"
MODEL_FILE = "{models}/registry/sha256/ab/model.safetensors"

IMPORTING: list[Case] = [
    ("Engineer", True, "s3:PutObject", MODEL_FILE, {**NEW_FILE, **WITH_MODELS_KEY}),
    ("Engineer", True, "s3:PutObject", MODEL_FILE, {**PART, **WITH_MODELS_KEY}),
    ("Engineer", True, "s3:AbortMultipartUpload", MODEL_FILE, {}),
    ("Engineer", False, "s3:PutObject", MODEL_FILE, {**ANY_FILE, **WITH_MODELS_KEY}),
    ("Engineer", False, "s3:PutObject", MODEL_FILE, {**NEW_FILE, **WITH_DATA_KEY}),
    ("Engineer", False, "s3:DeleteObject", MODEL_FILE, {}),
    (
        "Engineer",
        False,
        "s3:PutObject",
        "{models}/models/support/1/model.safetensors",
        {**NEW_FILE, **WITH_MODELS_KEY},
    ),
    ("Engineer", True, "sagemaker:CreateModelPackage", PACKAGE, PENDING),
    ("Engineer", False, "sagemaker:CreateModelPackage", PACKAGE, APPROVED),
    ("Engineer", True, "sagemaker:UpdateModelPackage", PACKAGE, REJECTED),
    ("Engineer", True, "sagemaker:UpdateModelPackage", PACKAGE, {}),
    ("Engineer", False, "sagemaker:UpdateModelPackage", PACKAGE, APPROVED),
    ("ModelApprover", True, "sagemaker:UpdateModelPackage", PACKAGE, APPROVED),
    ("ModelApprover", True, "sagemaker:UpdateModelPackage", PACKAGE, REJECTED),
    ("ModelApprover", True, "sagemaker:DescribeModelPackage", PACKAGE, {}),
    ("ModelApprover", True, "sagemaker:ListModelPackages", "*", {}),
    ("ModelApprover", True, "ssm:GetParametersByPath", SSM + "temper-all", {}),
    ("ModelApprover", True, "s3:GetObject", MODEL_FILE, {}),
    ("ModelApprover", True, "kms:Decrypt", "{key:models}", {}),
    ("ModelApprover", False, "kms:GenerateDataKey", "{key:models}", {}),
    ("ModelApprover", False, "s3:GetObject", "{models}/models/support/1/model.safetensors", {}),
    ("ModelApprover", False, "s3:PutObject", MODEL_FILE, NEW_FILE),
    ("ModelApprover", False, "sagemaker:CreateModelPackage", PACKAGE, PENDING),
    ("ModelApprover", False, "sagemaker:UpdateModelPackage", SM + "model-package/o/1", APPROVED),
    ("ModelApprover", False, "sagemaker:DeleteModelPackage", PACKAGE, {}),
    ("ImageApprover", False, "sagemaker:UpdateModelPackage", PACKAGE, APPROVED),
    # A job that starts from a version of the registry: looked up by its engineer, read by the job.
    ("Engineer", True, "sagemaker:ListModelPackages", "*", {}),
    (
        "Engineer",
        True,
        "sagemaker:DescribeModelPackage",
        SM + "model-package/temper-all-models/1",
        {},
    ),
    ("Engineer", False, "sagemaker:DescribeModelPackage", SM + "model-package/others/1", {}),
    ("Training", True, "s3:GetObject", "{models}/models/support/1/job/output/model/a", {}),
    ("Training", True, "kms:Decrypt", "{key:models}", {}),
    ("Engineer", True, "bedrock:CreateModelImportJob", "*", {}),
    ("Engineer", True, "bedrock:GetModelImportJob", BR + "model-import-job/a", {}),
    ("Engineer", True, "bedrock:InvokeModel", BR + "imported-model/abcdefghijkl", {}),
    ("Engineer", False, "bedrock:CreateProvisionedModelThroughput", BR + "custom-model/a", {}),
]

ESCALATIONS: list[Case] = [
    ("Engineer", False, "iam:CreateRole", ROLE + "mine", {}),
    ("Engineer", False, "iam:AttachRolePolicy", ROLE + "{role:Engineer}", {}),
    ("Engineer", False, "iam:DetachRolePolicy", ROLE + "{role:Engineer}", {}),
    ("Engineer", False, "iam:PutRolePolicy", ROLE + "{role:Training}", {}),
    ("Engineer", False, "iam:UpdateAssumeRolePolicy", ROLE + "{role:Training}", {}),
    ("Engineer", False, "sts:AssumeRole", ROLE + "{role:PlatformCi}", {}),
    ("Engineer", False, "kms:PutKeyPolicy", "{key:data}", {}),
    ("Engineer", False, "kms:DisableKey", "{key:models}", {}),
    ("Engineer", False, "kms:ScheduleKeyDeletion", "{key:models}", {}),
    ("Engineer", False, "logs:DeleteLogGroup", LOGS + "/aws/sagemaker/TrainingJobs", {}),
    ("Engineer", False, "logs:PutRetentionPolicy", LOGS + "/aws/sagemaker/TrainingJobs", {}),
    (
        "Engineer",
        False,
        "cloudtrail:StopLogging",
        "arn:aws:cloudtrail:us-east-1:111122223333:trail/temper-all-trail",
        {},
    ),
    ("Engineer", False, "s3:PutBucketPolicy", "{models}", {}),
    ("Engineer", False, "s3:BypassGovernanceRetention", "{models}/run/model", {}),
    (
        "Engineer",
        False,
        "lambda:UpdateFunctionCode",
        "arn:aws:lambda:us-east-1:111122223333:function:notify",
        {},
    ),
    ("Engineer", False, "sagemaker:CreateNotebookInstance", SM + "notebook-instance/a", {}),
    (
        "Engineer",
        False,
        "sagemaker:CreatePresignedNotebookInstanceUrl",
        SM + "notebook-instance/a",
        {},
    ),
    ("Engineer", False, "ec2:AuthorizeSecurityGroupIngress", EC2 + "security-group/{group}", {}),
    ("Engineer", False, "events:DisableRule", "arn:aws:events:us-east-1:111122223333:rule/a", {}),
    ("Engineer", False, "budgets:ModifyBudget", "arn:aws:budgets::111122223333:budget/a", {}),
]

CI: list[Case] = [
    (
        "PlatformCi",
        True,
        "sts:AssumeRole",
        ROLE + "cdk-hnb659fds-deploy-role-111122223333-us-east-1",
        {},
    ),
    (
        "PlatformCi",
        True,
        "sts:AssumeRole",
        ROLE + "cdk-hnb659fds-file-publishing-role-111122223333-us-east-1",
        {},
    ),
    ("PlatformCi", False, "sts:AssumeRole", ROLE + "Administrator", {}),
    ("PlatformCi", False, "sts:AssumeRole", ROLE + "{role:Engineer}", {}),
    (
        "PlatformCi",
        True,
        "cloudformation:DescribeStacks",
        "arn:aws:cloudformation:us-east-1:111122223333:stack/temper-all-network/1",
        {},
    ),
    (
        "PlatformCi",
        False,
        "cloudformation:DeleteStack",
        "arn:aws:cloudformation:us-east-1:111122223333:stack/temper-all-network/1",
        {},
    ),
    ("PlatformCi", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("PlatformCi", False, "kms:Decrypt", "{key:models}", {}),
    (
        "PlatformCi",
        False,
        "iam:PassRole",
        ROLE + "cdk-hnb659fds-cfn-exec-role-111122223333-us-east-1",
        {},
    ),
    ("PlatformCi", False, "secretsmanager:GetSecretValue", TOKEN, {}),
]

CDK_ROLE = ROLE + "cdk-hnb659fds-{}-role-111122223333-us-east-1"
DIFF: list[Case] = [
    ("PlatformDiff", True, "sts:AssumeRole", CDK_ROLE.format("lookup"), {}),
    ("PlatformDiff", False, "sts:AssumeRole", CDK_ROLE.format("deploy"), {}),
    ("PlatformDiff", False, "sts:AssumeRole", CDK_ROLE.format("file-publishing"), {}),
    ("PlatformDiff", False, "sts:AssumeRole", ROLE + "{role:PlatformCi}", {}),
    ("PlatformDiff", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
]

OTHER_APP = SM + "mlflow-app/app-OTHER"
# Not here: the actions of `sagemaker-mlflow`. The service reference lists no resource for them, so
# the simulator knows none, while AWS's managed policies name the app.
MLFLOW: list[Case] = [
    ("Engineer", True, "sagemaker:CallMlflowAppApi", "{mlflow}", {}),
    ("Training", True, "sagemaker:CallMlflowAppApi", "{mlflow}", {}),
    ("Engineer", True, "sagemaker:CreatePresignedMlflowAppUrl", "{mlflow}", {}),
    ("Engineer", False, "sagemaker:CreatePresignedMlflowAppUrl", OTHER_APP, {}),
    ("Engineer", False, "sagemaker:CallMlflowAppApi", OTHER_APP, {}),
    ("Engineer", False, "sagemaker:DeleteMlflowApp", "{mlflow}", {}),
    ("Training", False, "sagemaker:CallMlflowAppApi", OTHER_APP, {}),
    ("Training", False, "sagemaker:CreatePresignedMlflowAppUrl", "{mlflow}", {}),
]

SECRET = "arn:aws:secretsmanager:us-east-1:111122223333:secret:temper-prod/"
# Calls from inside the VPC of prod, which has no route to the internet.
INSIDE_ISOLATED_VPC: list[Case] = [
    ("Training", True, "sagemaker:CallMlflowAppApi", "{mlflow}", {}),
    ("Training", False, "sagemaker:CallMlflowAppApi", OTHER_APP, {}),
    ("Training", True, "s3:PutObject", "{runs}/run/checkpoints/1", {}),
    ("Training", False, "s3:PutObject", "arn:aws:s3:::other-bucket/x", {}),
    ("Processing", True, "s3:PutObject", "{data}/prepared/tidy/latest", {}),
    ("Processing", False, "s3:PutObject", "arn:aws:s3:::other-bucket/prepared/x", {}),
    # No endpoint, and no route: a stolen credential reaches no other service from a job.
    ("Training", False, "secretsmanager:GetSecretValue", SECRET + "hub-token-AbCdEf", {}),
    ("Training", False, "ecr:GetAuthorizationToken", "*", {}),
]

APPROVING: list[Case] = [
    ("ImageApprover", True, "ssm:PutParameter", SSM + "temper-all/images/gpu/approved", {}),
    ("ImageApprover", True, "ssm:PutParameter", SSM + "temper-all/images/neuron/approved", {}),
    ("ImageApprover", False, "ssm:PutParameter", SSM + "temper-all/images/gpu/uri", {}),
    ("ImageApprover", False, "ssm:PutParameter", SSM + "other/images/gpu/approved", {}),
    ("ImageApprover", True, "ssm:GetParametersByPath", SSM + "temper-all", {}),
    ("ImageApprover", True, "ecr:DescribeImageScanFindings", ECR + "temper-all/gpu", {}),
    ("ImageApprover", True, "codebuild:BatchGetBuilds", BUILDS, {}),
    ("ImageApprover", False, "codebuild:StartBuild", BUILDS, {}),
    ("ImageApprover", False, "codebuild:StartBuild", BUILDS, BUILD_VARIABLES),
    ("ImageApprover", False, "ecr:PutImage", ECR + "temper-all/gpu", {}),
    ("ImageApprover", False, "s3:PutObject", "{runs}/source/temper.zip", {}),
    ("ImageApprover", False, "sagemaker:CreateTrainingJob", SM + "training-job/a", JOB),
    ("Training", False, "ssm:PutParameter", SSM + "temper-all/images/gpu/approved", {}),
    ("PlatformCi", False, "ssm:PutParameter", SSM + "temper-all/images/gpu/approved", {}),
]

IN_OUR_SUBNET = {"ec2:Subnet": EC2 + "subnet/{subnet}"}
ELSEWHERE = {"ec2:Subnet": EC2 + "subnet/subnet-elsewhere"}
AWS_ECR = "arn:aws:ecr:us-east-1:602401143452:repository/"
EKS = "arn:aws:eks:us-east-1:111122223333:cluster/"
# Cases of the environment whose HyperPod runs on a new EKS cluster.
EKS_NODE: list[Case] = [
    ("HyperPodNode", True, "ec2:CreateNetworkInterface", EC2 + "subnet/{subnet}", {}),
    ("HyperPodNode", True, "ec2:AssignPrivateIpAddresses", INTERFACE, IN_OUR_SUBNET),
    ("HyperPodNode", False, "ec2:AssignPrivateIpAddresses", INTERFACE, ELSEWHERE),
    ("HyperPodNode", True, "ec2:AttachNetworkInterface", INTERFACE, {}),
    ("HyperPodNode", True, "ec2:DescribeInstanceTypes", "*", {}),
    ("HyperPodNode", True, "ecr:BatchGetImage", AWS_ECR + "eks/coredns", {}),
    ("HyperPodNode", True, "ecr:BatchGetImage", AWS_ECR + "hyperpod-health-monitoring-agent", {}),
    ("HyperPodNode", False, "ecr:BatchGetImage", AWS_ECR + "somebody/else", {}),
    ("HyperPodNode", False, "ecr:PutImage", AWS_ECR + "eks/coredns", {}),
    ("HyperPodNode", True, "eks-auth:AssumeRoleForPodIdentity", EKS + "temper-eks-eks", {}),
    ("HyperPodNode", False, "eks-auth:AssumeRoleForPodIdentity", EKS + "other", {}),
    ("HyperPodNode", False, "eks:CreateAccessEntry", EKS + "temper-eks-eks", {}),
    ("HyperPodNode", False, "eks:DeleteCluster", EKS + "temper-eks-eks", {}),
    ("HyperPodNode", False, "ec2:TerminateInstances", EC2 + "instance/i-1", {}),
    ("Engineer", True, "eks:DescribeCluster", EKS + "temper-eks-eks", {}),
    ("Engineer", False, "eks:DescribeCluster", EKS + "other", {}),
    ("Engineer", False, "eks:CreateAccessEntry", EKS + "temper-eks-eks", {}),
    ("Engineer", False, "eks:UpdateClusterConfig", EKS + "temper-eks-eks", {}),
    # make connect and make train: the cluster, its nodes, its file system, its parameters.
    ("Engineer", True, "sagemaker:DescribeCluster", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", True, "sagemaker:ListClusterNodes", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", True, "fsx:DescribeFileSystems", "*", {}),
    ("Engineer", True, "ssm:GetParametersByPath", SSM + "temper-eks/hyperpod/namespaces", {}),
    ("Engineer", False, "sagemaker:BatchAddClusterNodes", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", False, "sagemaker:BatchDeleteClusterNodes", SM + "cluster/abcdefghijkl", {}),
    ("Engineer", False, "ssm:StartSession", EC2 + "instance/i-1", {}),
    # make train uploads inputs, make fetch reads the run folder; make delete says what it may not.
    ("Engineer", True, "s3:PutObject", "{data}/uploads/a/train.jsonl", {}),
    ("Engineer", True, "s3:GetObject", "{data}/runs/a/1/model/model.safetensors", {}),
    ("Engineer", True, "s3:ListBucket", "{data}", {}),
    ("Engineer", False, "s3:DeleteObject", "{data}/runs/a/1/model/model.safetensors", {}),
    # Karpenter of HyperPod.
    ("Autoscaling", True, "sagemaker:BatchAddClusterNodes", SM + "cluster/abcdefghijkl", {}),
    ("Autoscaling", True, "sagemaker:BatchDeleteClusterNodes", SM + "cluster/abcdefghijkl", {}),
    ("Autoscaling", False, "sagemaker:DeleteCluster", SM + "cluster/abcdefghijkl", {}),
    ("Autoscaling", False, "sagemaker:UpdateCluster", SM + "cluster/abcdefghijkl", {}),
    ("Autoscaling", False, "s3:GetObject", "{data}/runs/a/1/model/model.safetensors", {}),
    ("Autoscaling", True, "kms:CreateGrant", "{key:data}", GRANT_THROUGH_SAGEMAKER),
    ("Autoscaling", False, "kms:CreateGrant", "{key:data}", GRANT),
    ("Autoscaling", False, "kms:CreateGrant", "{key:models}", GRANT_THROUGH_SAGEMAKER),
    ("Autoscaling", False, "kms:Decrypt", "{key:data}", {}),
]

BUILDING = "{data}/prepared/tidy/.building-0123456789abcdef/"
PREPARED = "{data}/prepared/tidy/0123456789abcdef/"
PROCESSING_SPACE = {"cloudwatch:namespace": "/aws/sagemaker/ProcessingJobs"}
PREPARE_LOG = LOGS + "/aws/sagemaker/ProcessingJobs:log-stream:temper-all-a/algo-1-1760000000"
PROCESSING: list[Case] = [
    ("Processing", True, "s3:ListBucket", "{data}", {}),
    ("Processing", True, "s3:GetObject", "{data}/raw/tickets/1.jsonl", {}),
    ("Processing", True, "s3:GetObject", BUILDING + "tasks/examine/completions/00000", {}),
    ("Processing", True, "s3:PutObject", BUILDING + "tasks/examine/completions/00000", {}),
    ("Processing", True, "s3:AbortMultipartUpload", BUILDING + "rows/00000", {}),
    ("Processing", True, "s3:DeleteObject", BUILDING + "tasks/examine/completions/00000", {}),
    ("Processing", True, "s3:PutObject", PREPARED + "train/00000.parquet", {}),
    ("Processing", True, "s3:PutObject", "{data}/prepared/tidy/latest", {}),
    ("Processing", True, "s3:PutObject", "{data}/prepared/tidy/", {}),
    # A finished result and its inputs cannot be changed.
    ("Processing", False, "s3:DeleteObject", PREPARED + "train/00000.parquet", {}),
    ("Processing", False, "s3:DeleteObject", "{data}/raw/tickets/1.jsonl", {}),
    ("Processing", False, "s3:PutObject", "{data}/raw/tickets/1.jsonl", {}),
    ("Processing", False, "s3:DeleteObjectVersion", BUILDING + "rows/00000", {}),
    ("Processing", False, "s3:GetObject", "{runs}/run/checkpoints/1/model", {}),
    ("Processing", False, "s3:PutObject", "{runs}/run/checkpoints/1/model", {}),
    ("Processing", False, "s3:GetObject", "{models}/run/model.safetensors", {}),
    ("Processing", False, "s3:PutObject", "{models}/run/model.safetensors", {}),
    ("Processing", False, "s3:PutObject", "arn:aws:s3:::other-bucket/prepared/x", {}),
    ("Processing", True, "kms:Decrypt", "{key:data}", {}),
    ("Processing", True, "kms:GenerateDataKey", "{key:data}", {}),
    ("Processing", True, "kms:CreateGrant", "{key:data}", GRANT),
    ("Processing", False, "kms:Decrypt", "{key:models}", {}),
    ("Processing", False, "kms:Decrypt", "{key:logs}", {}),
    ("Processing", True, "ecr:GetAuthorizationToken", "*", {}),
    ("Processing", True, "ecr:BatchGetImage", ECR + "temper-all/prepare", {}),
    ("Processing", False, "ecr:BatchGetImage", ECR + "temper-all/gpu", {}),
    ("Processing", False, "ecr:PutImage", ECR + "temper-all/prepare", {}),
    ("Processing", True, "logs:PutLogEvents", PREPARE_LOG, {}),
    ("Processing", False, "logs:PutLogEvents", OUR_STREAM, {}),
    ("Processing", True, "cloudwatch:PutMetricData", "*", PROCESSING_SPACE),
    ("Processing", False, "cloudwatch:PutMetricData", "*", JOB_SPACE),
    ("Processing", True, "ec2:CreateNetworkInterface", EC2 + "subnet/{subnet}", {}),
    ("Processing", False, "ec2:CreateNetworkInterface", EC2 + "subnet/subnet-elsewhere", {}),
    ("Processing", False, "secretsmanager:GetSecretValue", TOKEN, {}),
    ("Processing", False, "bedrock:InvokeModel", BASE_MODEL + "amazon.nova-lite-v1:0", {}),
    ("Processing", False, "sagemaker:CreateProcessingJob", SM + "processing-job/again", JOB),
    ("Processing", False, "iam:PassRole", ROLE + "{role:Processing}", TO_SAGEMAKER),
    ("Training", False, "s3:DeleteObject", BUILDING + "rows/00000", {}),
    ("ImageBuild", True, "ecr:PutImage", ECR + "temper-all/prepare", {}),
    ("ImageApprover", True, "ssm:PutParameter", SSM + "temper-all/images/prepare/approved", {}),
    ("Engineer", True, "iam:PassRole", ROLE + "{role:Processing}", TO_SAGEMAKER),
    ("Engineer", False, "iam:PassRole", ROLE + "{role:Processing}", TO_LAMBDA),
    ("Engineer", True, "iam:GetRole", ROLE + "{role:Processing}", {}),
    ("Engineer", True, "s3:DeleteObject", BUILDING + "rows/00000", {}),
    ("Engineer", False, "s3:DeleteObject", PREPARED + "train/00000.parquet", {}),
    ("Engineer", True, "logs:GetLogEvents", PREPARE_LOG, {}),
    ("Engineer", True, "sagemaker:DescribeProcessingJob", SM + "processing-job/temper-all-a", {}),
    ("Engineer", False, "sagemaker:DescribeProcessingJob", SM + "processing-job/temper-dev-a", {}),
    ("Engineer", True, "sagemaker:StopProcessingJob", SM + "processing-job/temper-all-a", {}),
    (
        "Engineer",
        True,
        "sagemaker:AddTags",
        SM + "processing-job/temper-all-a",
        {"sagemaker:TaggingAction": "CreateProcessingJob"},
    ),
    # The rules of training jobs hold for processing jobs, each for its own reason.
    *(
        ("Engineer", False, "sagemaker:CreateProcessingJob", SM + "processing-job/temper-all-a", c)
        for c in (
            NO_GROUP,
            NO_OUTPUT_KEY,
            NO_VOLUME_KEY,
            OTHER_KEY,
            OTHER_SUBNET,
            OTHER_GROUP,
            PLAIN_TRAFFIC,
            TOO_LONG,
            ANY_TYPE,
        )
    ),
    ("OnCall", True, "sagemaker:DescribeProcessingJob", SM + "processing-job/temper-all-a", {}),
    ("OnCall", True, "sagemaker:StopProcessingJob", SM + "processing-job/temper-all-a", {}),
    ("OnCall", False, "sagemaker:CreateProcessingJob", SM + "processing-job/temper-all-a", JOB),
]

CASES = [
    *TRAINING,
    *PROCESSING,
    *NODE,
    *CONTROLLER,
    *BUILD,
    *IMPORT,
    *MONITORING,
    *LAUNCHING,
    *ASKING,
    *IMPORTING,
    *ESCALATIONS,
    *MLFLOW,
    *CI,
    *APPROVING,
    *DIFF,
    *SERVING,
]
