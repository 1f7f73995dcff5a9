"""AWS services that jobs and nodes call from inside the VPC, by feature of the platform."""

# By feature: last part of the endpoint's service name → IAM prefix. SageMaker pulls images and
# copies channels outside the VPC of the job, so a plain training job needs the S3 gateway endpoint
# only.
SERVICES_BY_FEATURE: dict[str, dict[str, str]] = {
    "hyperpod": {
        "ec2": "ec2",  # attaches network interfaces
        "ecr.api": "ecr",
        "ecr.dkr": "ecr",
        "logs": "logs",
        "monitoring": "cloudwatch",
        "sagemaker.api": "sagemaker",
        "ssm": "ssm",  # Session Manager, the only access to nodes
        "ssmmessages": "ssmmessages",
        "ec2messages": "ec2messages",
        "sts": "sts",
    },
    "hyperpod-eks": {
        "eks": "eks",
        "eks-auth": "eks-auth",  # Pod Identity
        "elasticloadbalancing": "elasticloadbalancing",
    },
    "accounting": {"secretsmanager": "secretsmanager"},  # the database's password
    "mlflow": {"experiments": "sagemaker-mlflow", "sts": "sts"},
    "hub-token": {"secretsmanager": "secretsmanager"},
    "keys": {"secretsmanager": "secretsmanager"},
    "bedrock": {"bedrock-runtime": "bedrock"},
    "judges": {"bedrock-runtime": "bedrock"},
    "serving": {"sagemaker.runtime": "sagemaker"},  # callers inside the VPC
}


def endpoint_services() -> set[str]:
    """Return all services that some feature needs an interface endpoint for."""
    return {service for services in SERVICES_BY_FEATURE.values() for service in services}
