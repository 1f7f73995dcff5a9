"""Cases of the roles of serving: containers of endpoints, model deployers, and the removal.

Like the cases in `cases.py`: (role, verdict, action, resource, context).
"""

from typing import Any

Case = tuple[str, bool, str, str, dict[str, Any]]

ACCOUNT = "us-east-1:111122223333:"
SM, BR = f"arn:aws:sagemaker:{ACCOUNT}", f"arn:aws:bedrock:{ACCOUNT}"
ECR, LOGS = f"arn:aws:ecr:{ACCOUNT}repository/", f"arn:aws:logs:{ACCOUNT}log-group:"
EC2, SCALING = f"arn:aws:ec2:{ACCOUNT}", f"arn:aws:application-autoscaling:{ACCOUNT}"
STACKS, SCHEDULES = f"arn:aws:cloudformation:{ACCOUNT}stack/", f"arn:aws:scheduler:{ACCOUNT}"
ALARMS = f"arn:aws:cloudwatch:{ACCOUNT}alarm:"
ROLE = "arn:aws:iam::111122223333:role/"
LINKED = f"{ROLE}aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
MODEL_FILE = "{models}/registry/sha256/0123/model.safetensors"
CAPTURED = "{runs}/serving/assistant/capture/main/2026/11/29/10/a.jsonl"
ENDPOINT, CONFIG = f"{SM}endpoint/temper-all-chat", f"{SM}endpoint-config/temper-all-chat-1"
COMPONENT, MODEL = f"{SM}inference-component/temper-all-chat", f"{SM}model/temper-all-chat-1"
THEIR_ENDPOINT = f"{SM}endpoint/temper-dev-chat"
PACKAGE = f"{SM}model-package/temper-all-models/1"
THROUGHPUT, CUSTOM = f"{BR}provisioned-model/abcdefghijkl", f"{BR}custom-model/assistant"
LOG = f"{LOGS}/aws/sagemaker/Endpoints/temper-all-chat"

TO_SAGEMAKER = {"iam:PassedToService": "sagemaker.amazonaws.com"}
TO_SCHEDULER = {"iam:PassedToService": "scheduler.amazonaws.com"}
TO_BEDROCK = {"iam:PassedToService": "bedrock.amazonaws.com"}
OF_SAGEMAKER = {"application-autoscaling:service-namespace": "sagemaker"}
OF_ECS = {"application-autoscaling:service-namespace": "ecs"}
GRANT = {"kms:GrantIsForAWSResource": "true"}
# Tags of a deployment, as `temper deploy-model` sends them.
NAMED = {
    "aws:RequestTag/temper:deployment": "chat",
    "aws:RequestTag/Environment": "everything",
}
DEPLOYED = {**NAMED, "aws:RequestTag/temper:until": "2026-12-31T18:00:00Z"}
FOREVER = {**NAMED, "aws:RequestTag/temper:forever": "customers use it"}
UNNAMED = {k: v for k, v in DEPLOYED.items() if "deployment" not in k}
FOREIGN = {**DEPLOYED, "aws:RequestTag/Environment": "dev"}
ISOLATED = {
    "sagemaker:NetworkIsolation": "true",
    "sagemaker:VpcSubnets": ["{subnet}"],
    "sagemaker:VpcSecurityGroupIds": ["{serving-group}"],
}
ON_G5 = {"sagemaker:InstanceTypes": ["ml.g5.2xlarge"]}
ON_M5 = {
    "sagemaker:InstanceTypes": ["ml.m5.xlarge"],
    "sagemaker:VolumeKmsKeyArn": "{key:data}",
}
BOUGHT = {**DEPLOYED, "aws:RequestTag/TemperPrefix": "temper-all"}
OURS = {"aws:ResourceTag/TemperPrefix": "temper-all"}
END_MOVED = {
    "aws:TagKeys": ["temper:until"],
    "aws:RequestTag/temper:until": "2027-01-31T18:00:00Z",
}
OTHER_TAG = {"aws:TagKeys": ["temper:until", "temper:owner"]}

CONTAINER: list[Case] = [
    ("Serving", True, "s3:GetObject", MODEL_FILE, {}),
    ("Serving", True, "s3:ListBucket", "{models}", {}),
    ("Serving", False, "s3:GetObject", "{models}/run/model.safetensors", {}),
    ("Serving", False, "s3:PutObject", MODEL_FILE, {}),
    ("Serving", True, "s3:PutObject", CAPTURED, {}),
    ("Serving", False, "s3:PutObject", "{runs}/run/checkpoints/1/model", {}),
    ("Serving", False, "s3:GetObject", "{runs}/run/checkpoints/1/model", {}),
    ("Serving", False, "s3:DeleteObject", CAPTURED, {}),
    ("Serving", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("Serving", True, "kms:Decrypt", "{key:models}", {}),
    ("Serving", False, "kms:GenerateDataKey", "{key:models}", {}),
    ("Serving", True, "kms:GenerateDataKey", "{key:data}", {}),
    ("Serving", True, "kms:CreateGrant", "{key:data}", GRANT),
    ("Serving", False, "kms:Decrypt", "{key:logs}", {}),
    ("Serving", True, "ecr:BatchGetImage", f"{ECR}temper-all/serve", {}),
    ("Serving", True, "ecr:BatchGetImage", f"{ECR}temper-all/serve-gpu", {}),
    ("Serving", False, "ecr:BatchGetImage", f"{ECR}temper-all/gpu", {}),
    ("Serving", True, "logs:PutLogEvents", f"{LOG}:log-stream:main/i-1", {}),
    (
        "Serving",
        False,
        "logs:PutLogEvents",
        f"{LOGS}/aws/sagemaker/Endpoints/temper-dev-chat:log-stream:a",
        {},
    ),
    ("Serving", True, "ec2:CreateNetworkInterface", f"{EC2}subnet/{{subnet}}", {}),
    ("Serving", False, "ec2:CreateNetworkInterface", f"{EC2}subnet/subnet-elsewhere", {}),
    ("Serving", False, "sagemaker:CreateEndpoint", ENDPOINT, DEPLOYED),
    ("Serving", False, "iam:PassRole", f"{ROLE}{{role:Serving}}", TO_SAGEMAKER),
]

DEPLOYING: list[Case] = [
    ("ModelDeployer", True, "sagemaker:CreateEndpoint", ENDPOINT, DEPLOYED),
    ("ModelDeployer", True, "sagemaker:CreateEndpoint", ENDPOINT, FOREVER),
    ("ModelDeployer", False, "sagemaker:CreateEndpoint", ENDPOINT, NAMED),
    ("ModelDeployer", False, "sagemaker:CreateEndpoint", ENDPOINT, UNNAMED),
    ("ModelDeployer", False, "sagemaker:CreateEndpoint", ENDPOINT, FOREIGN),
    ("ModelDeployer", False, "sagemaker:CreateEndpoint", THEIR_ENDPOINT, DEPLOYED),
    ("ModelDeployer", True, "sagemaker:CreateInferenceComponent", COMPONENT, NAMED),
    ("ModelDeployer", False, "sagemaker:CreateInferenceComponent", COMPONENT, {}),
    ("ModelDeployer", True, "sagemaker:CreateModel", MODEL, ISOLATED),
    *(
        ("ModelDeployer", False, "sagemaker:CreateModel", MODEL, {**ISOLATED, **changed})
        for changed in (
            {"sagemaker:NetworkIsolation": "false"},
            {"sagemaker:VpcSubnets": ["subnet-elsewhere"]},
            {"sagemaker:VpcSecurityGroupIds": ["sg-elsewhere"]},
        )
    ),
    (
        "ModelDeployer",
        False,
        "sagemaker:CreateModel",
        MODEL,
        {"sagemaker:NetworkIsolation": "true"},
    ),
    ("ModelDeployer", True, "sagemaker:CreateEndpointConfig", CONFIG, ON_G5),
    ("ModelDeployer", True, "sagemaker:CreateEndpointConfig", CONFIG, ON_M5),
    (
        "ModelDeployer",
        False,
        "sagemaker:CreateEndpointConfig",
        CONFIG,
        {"sagemaker:InstanceTypes": ["ml.p5.48xlarge"]},
    ),
    (
        "ModelDeployer",
        False,
        "sagemaker:CreateEndpointConfig",
        CONFIG,
        {**ON_M5, "sagemaker:VolumeKmsKeyArn": "{key:logs}"},
    ),
    ("ModelDeployer", True, "sagemaker:UpdateEndpoint", ENDPOINT, {}),
    ("ModelDeployer", False, "sagemaker:UpdateEndpoint", THEIR_ENDPOINT, {}),
    ("ModelDeployer", True, "sagemaker:DeleteEndpoint", ENDPOINT, {}),
    ("ModelDeployer", False, "sagemaker:DeleteEndpoint", THEIR_ENDPOINT, {}),
    ("ModelDeployer", True, "sagemaker:InvokeEndpoint", ENDPOINT, {}),
    (
        "ModelDeployer",
        True,
        "sagemaker:AddTags",
        ENDPOINT,
        {"sagemaker:TaggingAction": "CreateEndpoint", "aws:TagKeys": ["temper:owner"]},
    ),
    ("ModelDeployer", True, "sagemaker:AddTags", ENDPOINT, END_MOVED),
    ("ModelDeployer", False, "sagemaker:AddTags", ENDPOINT, OTHER_TAG),
    (
        "ModelDeployer",
        True,
        "application-autoscaling:RegisterScalableTarget",
        f"{SCALING}scalable-target/0a1b",
        OF_SAGEMAKER,
    ),
    (
        "ModelDeployer",
        False,
        "application-autoscaling:RegisterScalableTarget",
        f"{SCALING}scalable-target/0a1b",
        OF_ECS,
    ),
    (
        "ModelDeployer",
        True,
        "iam:CreateServiceLinkedRole",
        f"{LINKED}AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
        {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"},
    ),
    (
        "ModelDeployer",
        False,
        "iam:CreateServiceLinkedRole",
        f"{ROLE}aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",
        {"iam:AWSServiceName": "ecs.amazonaws.com"},
    ),
    ("ModelDeployer", False, "iam:CreateRole", f"{ROLE}mine", {}),
    ("ModelDeployer", True, "cloudwatch:PutMetricAlarm", f"{ALARMS}temper-all-chat-errors", {}),
    ("ModelDeployer", False, "cloudwatch:PutMetricAlarm", f"{ALARMS}temper-dev-chat-errors", {}),
    ("ModelDeployer", True, "iam:PassRole", f"{ROLE}{{role:Serving}}", TO_SAGEMAKER),
    ("ModelDeployer", False, "iam:PassRole", f"{ROLE}{{role:Training}}", TO_SAGEMAKER),
    ("ModelDeployer", True, "iam:PassRole", f"{ROLE}{{role:BedrockImport}}", TO_BEDROCK),
    ("ModelDeployer", True, "iam:PassRole", f"{ROLE}{{role:RemovalCaller}}", TO_SCHEDULER),
    ("ModelDeployer", False, "iam:PassRole", f"{ROLE}{{role:Serving}}", TO_SCHEDULER),
    (
        "ModelDeployer",
        True,
        "scheduler:CreateSchedule",
        f"{SCHEDULES}schedule/temper-all-deployments/chat",
        {},
    ),
    ("ModelDeployer", False, "scheduler:CreateSchedule", f"{SCHEDULES}schedule/default/chat", {}),
    # The model deployer neither registers nor approves, nor trains.
    ("ModelDeployer", True, "sagemaker:DescribeModelPackage", PACKAGE, {}),
    ("ModelDeployer", False, "sagemaker:CreateModelPackage", PACKAGE, {}),
    ("ModelDeployer", False, "sagemaker:UpdateModelPackage", PACKAGE, {}),
    ("ModelDeployer", False, "sagemaker:CreateTrainingJob", f"{SM}training-job/temper-all-a", {}),
    ("ModelDeployer", True, "s3:GetObject", MODEL_FILE, {}),
    ("ModelDeployer", False, "s3:PutObject", MODEL_FILE, {}),
    ("ModelDeployer", False, "s3:GetObject", "{data}/set/train.jsonl", {}),
    ("ModelDeployer", True, "s3:PutObject", "{runs}/serving/nightly/input/a.jsonl", {}),
    ("ModelDeployer", False, "s3:PutObject", "{runs}/run/checkpoints/1/model", {}),
    ("ModelDeployer", True, "kms:Decrypt", "{key:models}", {}),
    ("ModelDeployer", True, "bedrock:CreateProvisionedModelThroughput", CUSTOM, BOUGHT),
    (
        "ModelDeployer",
        False,
        "bedrock:CreateProvisionedModelThroughput",
        CUSTOM,
        {k: v for k, v in BOUGHT.items() if "until" not in k},
    ),
    ("ModelDeployer", False, "bedrock:CreateProvisionedModelThroughput", CUSTOM, DEPLOYED),
    ("ModelDeployer", True, "bedrock:UpdateProvisionedModelThroughput", THROUGHPUT, OURS),
    ("ModelDeployer", False, "bedrock:DeleteProvisionedModelThroughput", THROUGHPUT, {}),
    # Engineers train and register; a deployment is another role's.
    ("Engineer", False, "sagemaker:CreateEndpoint", ENDPOINT, DEPLOYED),
    ("Engineer", False, "iam:PassRole", f"{ROLE}{{role:Serving}}", TO_SAGEMAKER),
]

REMOVING: list[Case] = [
    ("RemovalUndeploy", True, "sagemaker:DeleteEndpoint", ENDPOINT, {}),
    ("RemovalUndeploy", True, "sagemaker:DeleteInferenceComponent", COMPONENT, {}),
    ("RemovalUndeploy", False, "sagemaker:DeleteEndpoint", THEIR_ENDPOINT, {}),
    ("RemovalUndeploy", False, "sagemaker:CreateEndpoint", ENDPOINT, DEPLOYED),
    (
        "RemovalUndeploy",
        True,
        "cloudformation:DeleteStack",
        f"{STACKS}temper-all-serving-chat/0a1b",
        {},
    ),
    (
        "RemovalUndeploy",
        False,
        "cloudformation:DeleteStack",
        f"{STACKS}temper-all-storage/0a1b",
        {},
    ),
    ("RemovalUndeploy", False, "cloudformation:DeleteStack", f"{STACKS}temper-all-serving/0", {}),
    (
        "RemovalUndeploy",
        False,
        "application-autoscaling:DeregisterScalableTarget",
        f"{SCALING}scalable-target/0a1b",
        OF_ECS,
    ),
    ("RemovalUndeploy", False, "sagemaker:DeleteModelPackage", PACKAGE, {}),
    ("RemovalUndeploy", False, "s3:DeleteObject", MODEL_FILE, {}),
    ("RemovalCaller", False, "sagemaker:DeleteEndpoint", ENDPOINT, {}),
]

SERVING = [*CONTAINER, *DEPLOYING, *REMOVING]
