"""Steps of a suite exported to SageMaker are those of the SageMaker Python SDK's evaluators."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template

from tests.installed_packages import installed_packages

PACKAGE = "sagemaker-train==1.27.0"
GOLDEN = Path(__file__).parents[1] / "unit/evaluation/exports/golden/sagemaker/create-pipeline.json"
_STEPS = {
    "CUSTOM_SCORER_TEMPLATE": {
        "EvaluateBaseModel": "facts-scores-base",
        "EvaluateCustomModel": "facts-scores-tuned",
    },
    "LLMAJ_TEMPLATE": {
        "EvaluateBaseInferenceModel": "talk-rating-0-base-answers",
        "EvaluateBaseModelMetrics": "talk-rating-0-base-ratings",
        "EvaluateCustomInferenceModel": "talk-rating-0-tuned-answers",
        "EvaluateCustomModelMetrics": "talk-rating-0-tuned-ratings",
    },
}
# Names that the SDK gives to jobs and folders, of which a pipeline of several tasks needs more.
_NAMES = {
    "BaseInference": "talk-rating-0-base-answers",
    "CustomInference": "talk-rating-0-tuned-answers",
    "base-llmaj-eval": "talk-rating-0-base",
    "custom-llmaj-eval": "talk-rating-0-tuned",
}


@pytest.fixture(scope="module")
def templates() -> Any:
    """Module of the SDK with the templates of its pipelines; it imports nothing."""
    packages = installed_packages(PACKAGE)
    path = packages / "sagemaker/train/evaluate/pipeline_templates.py"
    spec = importlib.util.spec_from_file_location("pipeline_templates", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours() -> dict[str, Any]:
    """Return the recorded pipeline, with its role."""
    request = json.loads(GOLDEN.read_text("utf-8"))
    return {"RoleArn": request["RoleArn"], **json.loads(request["PipelineDefinition"])}


def theirs(template: str, pipeline: dict[str, Any], **values: str) -> dict[str, Any]:
    """Return the steps that the SDK's template gives for the same models and settings.

    Args:
        template: The template.
        pipeline: The recorded pipeline.
        values: Values of the template that the two kinds of evaluation do not share.
    """
    [tuned] = [s for s in pipeline["Steps"] if s["Name"] == "facts-scores-tuned"]
    arguments = tuned["Arguments"]
    serverless, package = arguments["ServerlessJobConfig"], arguments["ModelPackageConfig"]
    sampling = {
        key: arguments["HyperParameters"][key]
        for key in ("max_new_tokens", "temperature", "top_k", "top_p")
    }
    rendered = Template(template).render(
        mlflow_resource_arn=pipeline["MlflowConfig"]["MlflowResourceArn"],
        role_arn=pipeline["RoleArn"],
        base_model_arn=serverless["BaseModelArn"],
        evaluator_arn=serverless["EvaluatorArn"],
        model_package_group_arn=package["ModelPackageGroupArn"],
        source_model_package_arn=package["SourceModelPackageArn"],
        s3_output_path="s3://bucket/suites/demo/results",
        evaluate_base_model=True,
        **sampling,
        **values,
    )
    for name, replaced in _NAMES.items():
        rendered = rendered.replace(f'"{name}"', f'"{replaced}"')
    for steps in _STEPS.values():
        for name, replaced in steps.items():
            rendered = rendered.replace(f"Steps.{name}.", f"Steps.{replaced}.")
    return {step["Name"]: step for step in json.loads(rendered)["Steps"]}


def joined(value: Any) -> Any:
    """Return arguments in which texts that follow each other in a join are one."""
    if isinstance(value, list):
        return [joined(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Std:Join"} and value["Std:Join"]["On"] == "":
        parts: list[Any] = []
        for part in value["Std:Join"]["Values"]:
            if parts and isinstance(part, str) and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
        return {"Std:Join": parts}
    return {key: joined(inner) for key, inner in value.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "values"),
    [
        (
            "CUSTOM_SCORER_TEMPLATE",
            {
                "task": "gen_qa", "strategy": "gen_qa", "evaluation_metric": "all",
                "aggregation": "mean", "postprocessing": "True",
                "dataset_uri": "s3://bucket/suites/demo/datasets/facts.jsonl",
            },
        ),
        (
            "LLMAJ_TEMPLATE",
            {
                "judge_model_id": "us.amazon.nova-pro-v1:0", "llmaj_metrics": "[]",
                "custom_metrics": "s3://bucket/suites/demo/datasets/talk-rating-0.metrics.json",
                "dataset_uri": "s3://bucket/suites/demo/datasets/talk.jsonl",
            },
        ),
    ],
)  # fmt: skip
def test_steps_are_those_of_the_sdk(templates: Any, template: str, values: dict[str, str]) -> None:
    pipeline = ours()
    own = {step["Name"]: step for step in pipeline["Steps"]}
    sdk = theirs(getattr(templates, template), pipeline, **values)
    training = {name for name, step in sdk.items() if step["Type"] == "Training"}
    assert training == set(_STEPS[template])
    for name, replaced in _STEPS[template].items():
        assert joined(own[replaced]["Arguments"]) == joined(sdk[name]["Arguments"])
