"""Emulated public hub of SageMaker: models with their recipes, parameters and weights in S3.

The form of a model's document was read from the SageMaker Python SDK, and that of its recipes from
AWS's own (github.com/aws/sagemaker-hyperpod-recipes); the real hub may hold more than this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emulator.private_hubs import PrivateHubs
from emulator.request_validation import Client, RequestRejected
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

HUB = "SageMakerPublicHub"
LORA_PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "required": True, "default": "llmft-sft-lora-job"},
    "data_path": {"type": "string", "required": True, "default": ""},
    "validation_data_path": {"type": "string", "required": True, "default": ""},
    "output_path": {"type": "string", "required": True, "default": ""},
    "model_name_or_path": {"type": "string", "required": True, "default": ""},
    "train_val_split_ratio": {"type": "float", "min": 0.0, "max": 1.0, "default": 0.9},
    "max_epochs": {"type": "integer", "required": True, "min": 1, "max": 30, "default": 5},
    "global_batch_size": {
        "type": "integer",
        "required": True,
        "enum": [8, 16, 32, 64, 128],
        "default": 8,
    },
    "learning_rate": {
        "type": "float",
        "required": True,
        "min": 5e-07,
        "max": 1e-03,
        "default": 1e-4,
    },
    "lora_rank": {"type": "integer", "enum": [8, 16, 32, 64], "default": 16},
    "lora_alpha": {"type": "integer", "min": 1, "max": 512, "default": 32},
    "lr_warmup_steps_ratio": {"type": "float", "min": 0.0, "max": 1.0, "default": 0.1},
    "weight_decay": {"type": "float", "min": 0.0, "max": 1.0, "default": 0.01},
    "dataset_max_len": {"type": "integer", "min": 128, "max": 4096, "default": 4096},
    "seed": {"type": "integer", "min": 0, "default": 42},
}
"""Parameters of a recipe for LoRA, by the names of AWS's recipes."""
_GRADER_PARAMETERS = {"reward_lambda_arn": {"type": "string", "default": ""}}
"""Further parameters of a recipe for RLVR."""
RECIPE_TEMPLATE = """run:
  name: '{{name}}'
  model_type: llm_finetuning_aws
trainer:
  num_nodes: 1
training_config:
  model_config:
    model_name_or_path: '{{model_name_or_path}}'
    peft_config:
      r: '{{lora_rank}}'
      lora_alpha: {{lora_alpha}}
  training_args:
    trainer_type: TRAINER
    max_epochs: '{{max_epochs}}'
    train_batch_size: "{{global_batch_size}}"
    learning_rate: '{{learning_rate}}'
    lr_warmup_ratio: '{{lr_warmup_steps_ratio}}'
    weight_decay: '{{weight_decay}}'
    max_len: '{{dataset_max_len}}'
    seed: '{{seed}}'
    training_dir: '{{output_path}}'
  datasets:
    train_data:
      file_path: '{{data_path}}'
    val_data:
      file_path: '{{validation_data_path}}'
    train_val_split_ratio: '{{train_val_split_ratio}}'
  mlflow:
    tracking_uri: '{{mlflow_tracking_uri}}'
    experiment_name: '{{mlflow_experiment_name}}'
    run_name: '{{mlflow_run_name}}'
"""
"""Template of a recipe, in the form of AWS's (launcher/recipe_templatization/llmft)."""
_GRADER_LINE = "  reward_lambda_arn: '{{reward_lambda_arn}}'\n"
_IMAGE = "327873000638.dkr.ecr.{}.amazonaws.com/hyperpod-recipes:llmft-v1.0.0"


def recipe_image(region: str) -> str:
    """Return the address of the image that runs recipes in training jobs."""
    return _IMAGE.format(region)


@dataclass(frozen=True)
class HubContent:
    """Model of the emulated hub.

    Attributes:
        name: Its name.
        folder: Weights that stand for it.
        gated: Whether its license must be accepted.
        techniques: Techniques of its recipes.
        lengths: Sequence lengths of its recipes.
        parameters: Parameters of its recipes.
        instances: Instance types that its recipes run on.
    """

    name: str
    folder: Path
    gated: bool = False
    techniques: tuple[str, ...] = ("SFT", "DPO", "RLVR")
    lengths: tuple[str, ...] = ("4K",)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: LORA_PARAMETERS)
    instances: tuple[str, ...] = ("ml.g5.48xlarge", "ml.p5.48xlarge")

    def has_recipe(self, technique: str, length: str | None) -> bool:
        """Return whether it has a recipe, which is then one for LoRA and one for all weights.

        Args:
            technique: Such as `SFT`.
            length: Sequence length, or None for any.
        """
        return technique in self.techniques and length in (None, *self.lengths)


class EmulatedHub:
    """Public hub in one Region.

    Args:
        region: The Region.
        client: Returns the boto3 client of a service of the emulated account.
    """

    def __init__(self, region: str, client: Client):
        self._region, self._client = region, client
        self._models: dict[str, HubContent] = {}
        self.private = PrivateHubs(region)

    @property
    def bucket(self) -> str:
        """Name of the bucket with recipes and weights."""
        return f"jumpstart-cache-prod-{self._region}"

    @property
    def image(self) -> str:
        """Address of the image that runs recipes in training jobs."""
        return recipe_image(self._region)

    def add(self, model: HubContent) -> None:
        """Add a model, with its weights and its recipes in S3."""
        s3 = self._client("s3")
        names = [one["Name"] for one in s3.list_buckets()["Buckets"]]
        if self.bucket not in names:
            s3.create_bucket(Bucket=self.bucket)
        bucket = EmulatedBucket(s3)
        bucket.upload_folder(model.folder, S3Uri(self.bucket, f"weights/{model.name}"), None)
        for technique in model.techniques:
            template = RECIPE_TEMPLATE.replace("TRAINER", technique.lower())
            specification = dict(model.parameters)
            if technique == "RLVR":
                template = template.replace("trainer:\n", f"{_GRADER_LINE}trainer:\n", 1)
                specification |= _GRADER_PARAMETERS
            address = S3Uri(self.bucket, f"recipes/{model.name}-{technique}.yaml")
            bucket.write(template.encode(), address, None)
            address = S3Uri(self.bucket, f"recipes/{model.name}-{technique}.json")
            bucket.write(json.dumps(specification).encode(), address, None)
        hyperpod = {"instance_type": {"type": "string", "enum": list(model.instances)}}
        address = S3Uri(self.bucket, f"recipes/{model.name}-hyperpod.json")
        bucket.write(json.dumps(hyperpod).encode(), address, None)
        self._models[model.name] = model

    def find(self, name_or_arn: str) -> HubContent | None:
        """Return the model of a name or an ARN, None if there is none."""
        parts = name_or_arn.split("/")
        return self._models.get(parts[-2] if name_or_arn.startswith("arn:") else name_or_arn)

    def arn(self, name: str) -> str:
        """Return the ARN of a model."""
        return f"arn:aws:sagemaker:{self._region}:aws:hub-content/{HUB}/Model/{name}/1.0.0"

    def is_recipe_image(self, image: str) -> bool:
        """Return whether an image runs the recipes of this hub."""
        return image == self.image

    def is_gated(self, address: str) -> bool:
        """Return whether an address is that of weights with a license."""
        return any(m.gated for m in self._models.values() if f"/weights/{m.name}/" in address)

    def folder_of(self, address: str) -> Path:
        """Return the folder of the weights that stand at an address of this hub."""
        return next(m.folder for m in self._models.values() if f"/weights/{m.name}/" in address)

    def describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model, or a document of a private hub (DescribeHubContent).

        Raises:
            RequestRejected: There is none.
        """
        private = self.private.find(request["HubName"], request["HubContentName"])
        if private is not None:
            return private
        model = self._models.get(request["HubContentName"])
        if request["HubName"] != HUB or request["HubContentType"] != "Model" or model is None:
            raise RequestRejected("ResourceNotFound", "The hub content was not found")
        return {
            "HubContentName": model.name,
            "HubContentArn": self.arn(model.name),
            "HubContentVersion": "1.0.0",
            "HubContentType": "Model",
            "DocumentSchemaVersion": "2.3.0",
            "HubName": HUB,
            "HubArn": f"arn:aws:sagemaker:{self._region}:aws:hub/{HUB}",
            "HubContentDocument": json.dumps(self._document(model)),
            "HubContentStatus": "Available",
            "CreationTime": datetime.now(UTC),
        }

    def _document(self, model: HubContent) -> dict[str, Any]:
        address = f"s3://{self.bucket}"
        recipes = [
            {
                "CustomizationTechnique": technique,
                "SequenceLength": length,
                "SmtjRecipeTemplateS3Uri": f"{address}/recipes/{model.name}-{technique}.yaml",
                "SmtjOverrideParamsS3Uri": f"{address}/recipes/{model.name}-{technique}.json",
                "HpEksOverrideParamsS3Uri": f"{address}/recipes/{model.name}-hyperpod.json",
                "SmtjImageUri": self.image,
                **({"Peft": "LORA"} if lora else {}),
            }
            for technique in model.techniques
            for length in model.lengths
            for lora in (True, False)
        ]
        return {
            "GatedBucket": model.gated,
            "TrainingArtifactUri": f"{address}/weights/{model.name}/",
            "RecipeCollection": recipes,
        }


def parameter_error(
    values: Mapping[str, str], parameters: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Return what is wrong with hyperparameters of a recipe, None if nothing is."""
    for name, text in values.items():
        about = parameters.get(name)
        if about is None:
            return f"The hyperparameter {name} is not one of the recipe"
        if about.get("type") == "integer" and not text.lstrip("-").isdigit():
            return f"The hyperparameter {name} must be an integer, not {text}"
        if about.get("type") in ("integer", "float"):
            number = float(text)
            if number < about.get("min", number) or number > about.get("max", number):
                return f"The hyperparameter {name} is out of range: {text}"
            if not _is_one_of(number, about.get("enum", (number,))):
                return f"The hyperparameter {name} must be one of {about['enum']}, not {text}"
    return None


def _is_one_of(number: float, allowed: Sequence[float]) -> bool:
    return any(number == float(one) for one in allowed)
