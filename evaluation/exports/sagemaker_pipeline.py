"""Pipeline of a serverless evaluation by SageMaker AI, and the request that creates it.

A step is a training job without resources of its own: its `ServerlessJobConfig` names the base, a
`ModelPackageConfig` the tuned model. A judged task first makes its answers, then rates them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.config.tasks import GenerationTask
from evaluation.exports.aws import aws_name, s3_path
from evaluation.exports.base import ExportOptions

_MAX_SECONDS = 86_400


@dataclass(frozen=True)
class JudgedTask:
    """Task whose answers a model on Bedrock rates.

    Attributes:
        task: The task.
        name: Name of the rating.
        judge: Id of the model.
        definition: Definition of the metric, as Bedrock has it.
    """

    task: GenerationTask
    name: str
    judge: str
    definition: dict[str, Any]


def pipeline_request(
    name: str,
    scored: Sequence[GenerationTask],
    judged: Sequence[JudgedTask],
    options: ExportOptions,
) -> dict[str, Any]:
    """Return the `CreatePipeline` request of an evaluation.

    Args:
        name: Name of the pipeline.
        scored: Tasks whose answers the registered evaluator scores.
        judged: Tasks whose answers are rated.
        options: Role, folder in S3, base, model package and evaluator.
    """
    models: list[tuple[str, dict[str, Any]]] = [("base", {})]
    if options.model is not None:
        models.append(("tuned", {"ModelPackageConfig": _package(options.model)}))
    steps = [
        step
        for label, package in models
        for step in (
            *(_scorer_step(task, label, package, options) for task in scored),
            *(step for task in judged for step in _judge_steps(task, label, package, options)),
        )
    ]
    definition: dict[str, Any] = {"Version": "2020-12-01", "Metadata": {}}
    if options.mlflow is not None:
        definition["MlflowConfig"] = {"MlflowResourceArn": options.mlflow}
    definition |= {"Parameters": [], "Steps": steps}
    text = json.dumps(definition, indent=1, ensure_ascii=False)
    return {
        "PipelineName": name,
        "PipelineDefinition": text,
        "ClientRequestToken": hashlib.sha256(text.encode()).hexdigest(),
        "RoleArn": options.role,
    }


def _package(model: str) -> dict[str, str]:
    group = model.rpartition("/")[0].replace(":model-package/", ":model-package-group/")
    return {"ModelPackageGroupArn": group, "SourceModelPackageArn": model}


def _scorer_step(
    task: GenerationTask, label: str, package: dict[str, Any], options: ExportOptions
) -> dict[str, Any]:
    arguments = _arguments("CustomScorerEvaluation", options) | package
    arguments["ServerlessJobConfig"]["EvaluatorArn"] = options.evaluator
    arguments["HyperParameters"] = {
        "task": "gen_qa",
        "strategy": "gen_qa",
        "evaluation_metric": "all",
        **_sampling(task),
        "aggregation": "mean",
        "postprocessing": "True",
    }
    arguments["InputDataConfig"] = _data(task, options)
    return _step(f"{aws_name(task.name, limit=40)}-scores-{label}", arguments)


def _judge_steps(
    judged: JudgedTask, label: str, package: dict[str, Any], options: ExportOptions
) -> list[dict[str, Any]]:
    """Return the steps that make the answers of a task and rate them."""
    name = f"{judged.name}-{label}"
    inference = _arguments("BenchmarkEvaluation", options) | package
    inference["TrainingJobName"] = f"{name}-answers"
    inference["HyperParameters"] = {"name": f"{name}-answers", "task": "inference_only"}
    inference["InputDataConfig"] = _data(judged.task, options)
    made = f"Steps.{name}-answers"
    answers = [
        {"Get": f"{made}.OutputDataConfig.S3OutputPath"},
        "/",
        {"Get": f"{made}.TrainingJobName"},
        f"/output/output/{name}-answers/eval_results/inference_output.jsonl",
    ]
    rating = _arguments("LLMAJEvaluation", options) | package
    job_name = _join("-", [name, {"Get": "Execution.PipelineExecutionId"}])
    rating["TrainingJobName"] = job_name
    rating["HyperParameters"] = {
        "name": job_name,
        "judge_model_id": judged.judge,
        "inference_data_s3_path": _join("", answers),
        "output_path": s3_path(options, "results"),
        "llmaj_metrics": "[]",
        "custom_metrics": s3_path(options, "datasets", f"{judged.name}.metrics.json"),
        **_sampling(judged.task),
    }
    first = _step(f"{name}-answers", inference)
    return [first, {**_step(f"{name}-ratings", rating), "DependsOn": [first["Name"]]}]


def _step(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"Name": name, "Type": "Training", "Arguments": arguments}


def _arguments(evaluation: str, options: ExportOptions) -> dict[str, Any]:
    """Return what all steps have in common."""
    return {
        "RoleArn": options.role,
        "ServerlessJobConfig": {
            "BaseModelArn": options.base,
            "AcceptEula": options.accept_eula,
            "JobType": "Evaluation",
            "EvaluationType": evaluation,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": _MAX_SECONDS},
        "OutputDataConfig": {
            "S3OutputPath": s3_path(options, "results"),
            "CompressionType": "NONE",
        },
    }


def _sampling(task: GenerationTask) -> dict[str, str]:
    return {
        "max_new_tokens": str(task.max_new_tokens),
        "temperature": f"{task.temperature:g}",
        "top_k": "-1",
        "top_p": "1.0",
    }


def _data(task: GenerationTask, options: ExportOptions) -> list[dict[str, Any]]:
    uri = s3_path(options, "datasets", f"{task.name}.jsonl")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}
    return [{"ChannelName": "train", "DataSource": source}]


def _join(separator: str, values: list[Any]) -> dict[str, Any]:
    return {"Std:Join": {"On": separator, "Values": values}}
