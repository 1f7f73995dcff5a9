"""Steps of the definition after the gates: registration and the start of the promotion."""

from __future__ import annotations

from pipeline.config import DeployStep, RegisterStep
from pipeline.render.definition import REASON, RenderedStep
from pipeline.render.jobs import RenderContext, model_of
from pipeline.render.references import get

_CONTENT_TYPES = ["application/json"]


def register_steps(context: RenderContext, name: str, step: RegisterStep) -> RenderedStep:
    """Return the step that enters the model in the registry, where its approval is pending.

    The service approves nothing: a version gets its number, its evidence and its stage by the
    commands of the promotion.

    Args:
        context: The pipeline.
        name: Name of the step.
        step: The step.
    """
    source = {
        "S3DataSource": {
            "S3Uri": model_of(step.model),
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
    }
    arguments = {
        "ModelPackageGroupName": context.package_group,
        "ModelPackageDescription": f"{context.pipeline.spec.name} of the pipeline, to be promoted",
        "ModelApprovalStatus": "PendingManualApproval",
        "InferenceSpecification": {
            "Containers": [{"Image": context.platform.image("gpu"), "ModelDataSource": source}],
            "SupportedContentTypes": _CONTENT_TYPES,
            "SupportedResponseMIMETypes": _CONTENT_TYPES,
        },
        "CustomerMetadataProperties": {
            "temper-pipeline": context.pipeline.spec.name,
            "temper-wanted-stage": step.stage,
            "temper-pipeline-execution": get("Execution.PipelineExecutionId"),
            "temper-pipeline-reason": get(f"Parameters.{REASON}"),
        },
    }
    return RenderedStep(({"Name": name, "Type": "RegisterModel", "Arguments": arguments},))


def deploy_steps(context: RenderContext, name: str, step: DeployStep) -> RenderedStep:
    """Return the step that starts the promotion, which registers, approves and swaps.

    Args:
        context: The pipeline.
        name: Name of the step.
        step: The step.
    """
    inputs = {
        "action": "promote",
        "pipeline": context.pipeline.spec.name,
        "execution": get("Execution.PipelineExecutionId"),
        "package": get(f"Steps.{step.version}.ModelPackageArn"),
    }
    return RenderedStep((context.lambda_step(name, inputs, "promotion"),))
