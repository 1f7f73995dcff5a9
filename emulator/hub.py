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

from emulator.moto_account import ACCOUNT
from emulator.request_validation import Client, RequestRejected
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

HUB = "SageMakerPublicHub"
_CONTENT_KEYS = (
    "HubName",
    "HubContentName",
    "HubContentType",
    "DocumentSchemaVersion",
    "HubContentDocument",
)
LORA_PARAMETERS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "required": True, "default": "llmft-sft-lora-job"},
    "data_path": {"type": "string", "required": True, "default": ""},
    "validation_data_path": {"type": "string", "required": True, "default": ""},
    "output_path": {"type": "string", "required": True, "default": ""},
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
_TEMPLATE = """run:
  name: "{{name}}"
training_config:
  training_args:
    max_epochs: "{{max_epochs}}"
    train_batch_size: "{{global_batch_size}}"
    learning_rate: "{{learning_rate}}"
    training_dir: "{{output_path}}"
  datasets:
    train_data:
      file_path: "{{data_path}}"
"""


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
    """

    name: str
    folder: Path
    gated: bool = False
    techniques: tuple[str, ...] = ("SFT", "DPO", "RLVR")
    lengths: tuple[str, ...] = ("4K",)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: LORA_PARAMETERS)

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
        self._private: dict[str, dict[str, dict[str, Any]]] = {}

    @property
    def bucket(self) -> str:
        """Name of the bucket with recipes and weights."""
        return f"jumpstart-cache-prod-{self._region}"

    def add(self, model: HubContent) -> None:
        """Add a model, with its weights and its recipes in S3."""
        s3 = self._client("s3")
        names = [one["Name"] for one in s3.list_buckets()["Buckets"]]
        if self.bucket not in names:
            s3.create_bucket(Bucket=self.bucket)
        bucket = EmulatedBucket(s3)
        bucket.upload_folder(model.folder, S3Uri(self.bucket, f"weights/{model.name}"), None)
        parameters = json.dumps(model.parameters).encode()
        bucket.write(parameters, S3Uri(self.bucket, f"recipes/{model.name}.json"), None)
        template = S3Uri(self.bucket, f"recipes/{model.name}.yaml")
        bucket.write(_TEMPLATE.encode(), template, None)
        self._models[model.name] = model

    def find(self, name_or_arn: str) -> HubContent | None:
        """Return the model of a name or an ARN, None if there is none."""
        parts = name_or_arn.split("/")
        return self._models.get(parts[-2] if name_or_arn.startswith("arn:") else name_or_arn)

    def arn(self, name: str) -> str:
        """Return the ARN of a model."""
        return f"arn:aws:sagemaker:{self._region}:aws:hub-content/{HUB}/Model/{name}/1.0.0"

    def create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create a private hub (CreateHub).

        Raises:
            RequestRejected: Its name is taken.
        """
        name = request["HubName"]
        if name in self._private:
            raise RequestRejected("ResourceInUse", f"A hub named {name} already exists")
        self._private[name] = {}
        return {"HubArn": f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:hub/{name}"}

    def import_content(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Add a document to a private hub (ImportHubContent).

        Raises:
            RequestRejected: There is no such hub, the name is taken, or the document is no JSON.
        """
        contents = self._private.get(request["HubName"])
        if contents is None:
            raise RequestRejected("ResourceNotFound", f"The hub {request['HubName']} was not found")
        name = request["HubContentName"]
        if name in contents:
            raise RequestRejected("ResourceInUse", f"{name} already exists")
        json.loads(request["HubContentDocument"])
        hub = f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:hub/{request['HubName']}"
        arn = f"{hub.replace(':hub/', ':hub-content/')}/JsonDoc/{name}/1.0.0"
        contents[name] = {
            **{key: request[key] for key in _CONTENT_KEYS},
            "HubContentArn": arn,
            "HubContentVersion": request.get("HubContentVersion", "1.0.0"),
            "HubArn": hub,
            "HubContentStatus": "Available",
            "CreationTime": datetime.now(UTC),
        }
        return {"HubArn": hub, "HubContentArn": arn}

    def delete_content(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Delete a document of a private hub (DeleteHubContent).

        Raises:
            RequestRejected: There is none.
        """
        if not self._private.get(request["HubName"], {}).pop(request["HubContentName"], None):
            raise RequestRejected("ResourceNotFound", "The hub content was not found")
        return {}

    def grader_of(self, evaluator: str) -> str | None:
        """Return the ARN of the function of an evaluator, None if there is no such evaluator."""
        for contents in self._private.values():
            for content in contents.values():
                if content["HubContentArn"] == evaluator:
                    document = json.loads(content["HubContentDocument"])
                    return str(json.loads(document["JsonContent"])["Reference"])
        return None

    def describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model, or a document of a private hub (DescribeHubContent).

        Raises:
            RequestRejected: There is none.
        """
        private = self._private.get(request["HubName"], {}).get(request["HubContentName"])
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
                "SmtjRecipeTemplateS3Uri": f"{address}/recipes/{model.name}.yaml",
                "SmtjOverrideParamsS3Uri": f"{address}/recipes/{model.name}.json",
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
