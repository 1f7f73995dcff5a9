"""Record the requests of the SageMaker Python SDK that `test_requests.py` compares with ours.

The SDK needs protobuf below 7, and this project has 7: the SDK has an environment of its own.

    python -m venv FOLDER && FOLDER/bin/pip install sagemaker-train==1.27.0
    .venv/bin/python -m tests.unit.launch.managed.record_sdk_requests hub > HUB.json
    FOLDER/bin/python tests/unit/launch/managed/record_sdk_requests.py HUB.json

Every call of boto3 is answered here, so that nothing is sent.
"""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

ACCOUNT, REGION = "123456789012", "us-east-1"
FOLDER = Path(__file__).with_name("sdk_requests")
DATA = f"s3://temper-dev-data-{ACCOUNT}-{REGION}/uploads/0123/"
RECIPE = f"s3://temper-dev-runs-{ACCOUNT}-{REGION}/runs/support/1/recipe/recipe.yaml"
HUB = "SageMakerPublicHub"
QWEN = "huggingface-reasoning-qwen3-06b"


def answers(hub: dict[str, Any], sent: list[dict[str, Any]], files: dict[str, str]) -> Any:
    """Return a function in place of `_make_api_call` that answers, and keeps what is created.

    Args:
        hub: Files of the hub by their keys, and the address of its image.
        sent: Receives the requests of training jobs.
        files: Receives the files that are uploaded, by their names.
    """

    def answer(_: Any, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation in ("GetObject", "HeadObject", "PutObject"):
            return _object(operation, request, hub, files)
        if operation == "DescribeHubContent":
            return _content(request["HubContentName"], hub["image"])
        if operation == "CreateTrainingJob":
            sent.append(request)
            return {"TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/x"}
        if operation == "SimulatePrincipalPolicy":
            names = request["ActionNames"]
            allowed = [{"EvalActionName": name, "EvalDecision": "allowed"} for name in names]
            return {"EvaluationResults": allowed, "IsTruncated": False}
        if operation == "ListBuckets":
            name = f"sagemaker-{REGION}-{ACCOUNT}"
            return {"Buckets": [{"Name": name, "CreationDate": datetime.now()}]}
        if operation == "GetCallerIdentity":
            return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/x", "UserId": "x"}
        if operation == "DescribeTrainingJob":
            return {
                "TrainingJobName": "x",
                "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/x",
                "TrainingJobStatus": "InProgress",
                "SecondaryStatus": "Starting",
                "CreationTime": datetime.now(),
            }
        if operation == "ListObjectsV2":
            return {"Contents": [{"Key": "a", "Size": 3}], "KeyCount": 1}
        return {"Role": {"Arn": f"arn:aws:iam::{ACCOUNT}:role/temper-dev-training"}}

    return answer


def _object(
    operation: str, request: dict[str, Any], hub: dict[str, Any], files: dict[str, str]
) -> dict[str, Any]:
    if operation == "PutObject":
        files[request["Key"].rpartition("/")[2]] = request["Body"].read().decode()
        return {}
    content = hub.get(request["Key"], "").encode()
    body = {"Body": io.BytesIO(content)} if operation == "GetObject" else {}
    return {"ContentLength": len(content), "ETag": "0", **body}


def _content(name: str, image: str) -> dict[str, Any]:
    recipes = [
        {
            "CustomizationTechnique": technique,
            "SequenceLength": "4K",
            "SmtjRecipeTemplateS3Uri": "s3://hub/recipe.yaml",
            "SmtjOverrideParamsS3Uri": "s3://hub/parameters.json",
            "SmtjImageUri": image,
            "Peft": "LORA",
        }
        for technique in ("SFT", "DPO", "RLVR")
    ]
    return {
        "HubContentName": name,
        "HubContentArn": f"arn:aws:sagemaker:{REGION}:aws:hub-content/{HUB}/Model/{name}/1.0.0",
        "HubContentVersion": "1.0.0",
        "HubContentType": "Model",
        "DocumentSchemaVersion": "2.3.0",
        "HubName": HUB,
        "HubArn": f"arn:aws:sagemaker:{REGION}:aws:hub/{HUB}",
        "HubContentDocument": json.dumps(
            {"RecipeCollection": recipes, "TrainingArtifactUri": f"s3://hub/weights/{name}/"}
        ),
        "HubContentStatus": "Available",
        "CreationTime": datetime.now(),
        "ResponseMetadata": {"HTTPStatusCode": 200},
    }


def record(hub: dict[str, Any]) -> None:
    """Let the SDK create its jobs, and write their requests."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
    }
    import botocore.client

    sent: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    answer = answers(hub, sent, files)
    patch.object(botocore.client.BaseClient, "_make_api_call", answer).start()
    from sagemaker.core.shapes import VpcConfig
    from sagemaker.core.training.configs import TrainingJobCompute
    from sagemaker.train import DPOTrainer, SFTTrainer
    from sagemaker.train.configs import StoppingCondition

    prefix = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
    settings = {
        "model_package_group": f"{prefix}:model-package-group/temper-dev-models",
        "role": f"arn:aws:iam::{ACCOUNT}:role/temper-dev-training",
        "mlflow_resource_arn": f"{prefix}:mlflow-app/app-ABCDEFGH",
        "mlflow_experiment_name": "support",
        "mlflow_run_name": "temper-dev-support-1",
        "s3_output_path": f"s3://temper-dev-models-{ACCOUNT}-{REGION}/models/support/1/",
        "kms_key_id": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1b0c0d0e-1111-2222-3333-444455556666",
        "networking": VpcConfig(
            subnets=["subnet-0a1b2c3d4e5f60001", "subnet-0a1b2c3d4e5f60002"],
            security_group_ids=["sg-0a1b2c3d4e5f60001"],
        ),
        "stopping_condition": StoppingCondition(max_runtime_in_seconds=86400),
        "sequence_length": "4K",
        "disable_output_compression": True,
    }
    compute = TrainingJobCompute(
        instance_type="ml.p5.48xlarge", instance_count=2, volume_size_in_gb=200
    )
    cases = {
        "sft": (SFTTrainer, QWEN, True, None),
        "sft-nova": (SFTTrainer, "amazon.nova-micro-v1", False, None),
        "dpo": (DPOTrainer, QWEN, False, None),
        "recipe": (SFTTrainer, QWEN, True, compute),
    }
    FOLDER.mkdir(exist_ok=True)
    for name, (trainer, model, validated, machines) in cases.items():
        made = trainer(
            compute=machines,
            model=model,
            training_dataset=f"{DATA}train.jsonl",
            validation_dataset=f"{DATA}validation.jsonl" if validated else None,
            **settings,
        )
        values = made.hyperparameters
        values.max_epochs, values.global_batch_size, values.learning_rate = 2, 32, 1e-5
        values.lora_rank, values.lora_alpha, values.weight_decay = 16, 32, 0.0
        values.dataset_max_len, values.seed, values.lr_warmup_steps_ratio = 1024, 42, 0.03
        made.train(wait=False)
        request = {k: v for k, v in sent[-1].items() if k not in ("TrainingJobName", "Tags")}
        for channel in request["InputDataConfig"]:
            if channel["ChannelName"] == "recipe":  # its address has the time
                channel["DataSource"]["S3DataSource"]["S3Uri"] = RECIPE
        text = json.dumps(request, indent=1, sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    (FOLDER / "recipe.yaml").write_text(files["recipe.yaml"], encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "hub":
        from emulator.hub import LORA_PARAMETERS, RECIPE_TEMPLATE, recipe_image

        document = {
            "image": recipe_image(REGION),
            "parameters.json": json.dumps(LORA_PARAMETERS),
            "recipe.yaml": RECIPE_TEMPLATE.replace("TRAINER", "sft"),
        }
        print(json.dumps(document))
    else:
        record(json.loads(Path(sys.argv[1]).read_text()))
