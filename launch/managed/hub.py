"""Models of SageMaker's public hub: their recipes, parameters, license and weights.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeHubContent.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession, explain_aws_errors, says_not_found
from launch.errors import LaunchError

PUBLIC_HUB = "SageMakerPublicHub"
_SUBSCRIBER = "{customer_id}"
_ACCESS_POINT = "arn:"


@dataclass(frozen=True)
class HubModel:
    """Model of the hub.

    Attributes:
        name: Its name.
        arn: ARN of its newest version.
        document: Its description by SageMaker.
    """

    name: str
    arn: str
    document: Mapping[str, Any]

    @property
    def is_gated(self) -> bool:
        """True if a license must be accepted."""
        return bool(self.document.get("GatedBucket", False))

    @property
    def license(self) -> str:
        """Address of its license; its name in the hub if the hub names none."""
        for key in ("EulaUri", "License", "HubContentLicense"):
            if self.document.get(key):
                return str(self.document[key])
        return f"the license of {self.name} in SageMaker JumpStart"

    @property
    def weights(self) -> str | None:
        """Address of the weights from which training starts; None if it has none."""
        address = str(self.document.get("TrainingArtifactUri") or "")
        return address if address.startswith("s3://") else None

    def recipes(self, technique: str, *, lora: bool) -> list[Mapping[str, Any]]:
        """Return its recipes of a technique that run as training jobs.

        Recipes for subscribers come last.

        Args:
            technique: `SFT`, `DPO` or `RLVR`.
            lora: Whether an adapter is trained, or all weights.
        """
        matching = [
            recipe
            for recipe in self.document.get("RecipeCollection", ())
            if recipe.get("CustomizationTechnique") == technique
            and bool(recipe.get("Peft")) == lora
            and recipe.get("SmtjRecipeTemplateS3Uri")
        ]
        return sorted(matching, key=lambda recipe: bool(recipe.get("IsSubscriptionModel")))


def find_hub_model(account: AwsSession, name: str) -> HubModel | None:
    """Return a model of the public hub, None if the hub has none of this name.

    Raises:
        LaunchError: The hub could not be asked.
    """
    action = f"model.source: {name}: reading SageMaker's public hub"
    with explain_aws_errors(action, ignore=says_not_found):
        answer = account.client("sagemaker").describe_hub_content(
            HubName=PUBLIC_HUB, HubContentType="Model", HubContentName=name
        )
        try:
            document = json.loads(answer["HubContentDocument"])
        except ValueError as error:
            raise LaunchError(f"{action}: its document is not JSON: {error}") from None
        return HubModel(name, answer["HubContentArn"], document)
    return None


def recipe_of(
    model: HubModel, technique: str, *, lora: bool, sequence_length: str | None = None
) -> Mapping[str, Any] | None:
    """Return the recipe of a technique, None if the model has none.

    Args:
        model: The model.
        technique: `SFT`, `DPO` or `RLVR`.
        lora: Whether an adapter is trained, or all weights.
        sequence_length: Such as `4K`; None for the first recipe.
    """
    recipes = model.recipes(technique, lora=lora)
    if sequence_length is not None:
        exact = [one for one in recipes if one.get("SequenceLength") == sequence_length]
        if exact or any(one.get("SequenceLength") for one in recipes):
            recipes = exact
    return recipes[0] if recipes else None


def sequence_lengths(model: HubModel, technique: str, *, lora: bool) -> list[str]:
    """Return the sequence lengths for which a model has recipes, shortest first.

    Args:
        model: The model.
        technique: `SFT`, `DPO` or `RLVR`.
        lora: Whether an adapter is trained, or all weights.
    """
    lengths = {
        str(one["SequenceLength"])
        for one in model.recipes(technique, lora=lora)
        if one.get("SequenceLength")
    }
    return sorted(lengths, key=lambda text: int(text.removesuffix("K")))


def supported_instances(
    account: AwsSession, model: HubModel, recipe: Mapping[str, Any]
) -> list[str]:
    """Return the instance types that a recipe runs on; none if the hub does not say.

    Args:
        account: Session of the environment's account.
        model: The model.
        recipe: Its recipe.

    Raises:
        LaunchError: A file of the recipe cannot be read.
    """
    if types := recipe.get("SupportedInstanceTypes"):
        return sorted(map(str, types))
    # Recipes for training jobs leave them out; those of the same technique for HyperPod list them.
    alike = [
        one
        for one in model.document.get("RecipeCollection", ())
        if all(one.get(key) == recipe.get(key) for key in ("CustomizationTechnique", "Peft"))
    ]
    for one in (recipe, *alike):
        text = read_recipe_file(account, one.get("HpEksOverrideParamsS3Uri"))
        types = json.loads(text).get("instance_type", {}).get("enum") if text else None
        if types:
            return sorted(map(str, types))
    return []


def read_specification(account: AwsSession, recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the parameters of a recipe: their types, ranges and defaults, by name.

    Raises:
        LaunchError: They cannot be read.
    """
    text = read_recipe_file(account, recipe.get("SmtjOverrideParamsS3Uri"))
    specification = json.loads(text) if text else {}
    return {
        name: about if isinstance(about, dict) else {"default": about}
        for name, about in specification.items()
    }


def read_recipe_file(account: AwsSession, address: str | None) -> str:
    """Return a file of a recipe; empty if the recipe has none.

    Raises:
        LaunchError: It cannot be read.
    """
    if not address:
        return ""
    if _SUBSCRIBER in address:
        owner = account.caller().split(":")[4]
        address = address.replace(_SUBSCRIBER, owner)
    text = S3Store(account.client("s3")).get_text(_location(address))
    if text is None:
        raise LaunchError(f"{address}: the hub names this file of a recipe, and it does not exist")
    return text


def _location(address: str) -> S3Uri:
    """Return the bucket and the key; the recipes of subscribers are behind access points."""
    path = address.removeprefix("s3://")
    if not path.startswith(_ACCESS_POINT):
        return S3Uri.parse(address)
    name, _, rest = path.partition("/")
    point, _, key = rest.partition("/")
    return S3Uri(f"{name}/{point}", key)
