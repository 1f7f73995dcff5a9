"""Parameters of a platform, for tests without an account."""

from __future__ import annotations

from launch.aws.platform_parameters import PlatformParameters
from launch.environment import LaunchEnvironment

ACCOUNT = "123456789012"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/temper-dev"
DEV = LaunchEnvironment(
    name="dev",
    prefix="temper-dev",
    region="us-east-1",
    owner="platform-team@example.com",
    cost_centre="research",
)
VALUES = {
    "roles/training": f"arn:aws:iam::{ACCOUNT}:role/temper-dev-training",
    "keys/data": f"{KEY}0b0c0d0e-1111-2222-3333-444455556666",
    "keys/models": f"{KEY}1b0c0d0e-1111-2222-3333-444455556666",
    "buckets/data": f"temper-dev-data-{ACCOUNT}-us-east-1",
    "buckets/runs": f"temper-dev-runs-{ACCOUNT}-us-east-1",
    "buckets/models": f"temper-dev-models-{ACCOUNT}-us-east-1",
    "network/subnets": "subnet-0a1b2c3d4e5f60001,subnet-0a1b2c3d4e5f60002",
    "network/security-groups": "sg-0a1b2c3d4e5f60001",
    "training/log-group": "/aws/sagemaker/TrainingJobs",
    "training/encrypt-traffic": "false",
    "training/model-package-group": (
        f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model-package-group/temper-dev-models"
    ),
    "images/gpu/uri": f"{IMAGE}/gpu@sha256:{'a' * 64}",
    "images/neuron/uri": f"{IMAGE}/neuron@sha256:{'b' * 64}",
}
MLFLOW = {"training/mlflow-app": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:mlflow-app/app-ABCDEFGH"}
HUB = {"secrets/hub-token": "temper-dev/hub-token"}
LUSTRE = {"lustre/file-system": "fs-0123456789abcdef0"}


def platform(**more: str) -> PlatformParameters:
    """Return the platform of `dev`; parameters are named with `_` for `/` and `-`."""
    return PlatformParameters(DEV, {**VALUES, **more})
