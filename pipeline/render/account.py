"""Definition in an account: rendered for an environment, uploaded, upserted, started."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore import exceptions as aws

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.session import AwsSession, error_code, explain_aws_errors
from launch.environment import read_environment
from launch.errors import LaunchError
from launch.submission import current_user
from pipeline.digests import digest_of
from pipeline.load import LoadedPipeline
from pipeline.render.definition import REASON, Definition, RenderedStep, assemble, pipeline_name
from pipeline.render.jobs import RenderContext, evaluate_steps, prepare_steps, train_steps
from pipeline.render.promotion import deploy_steps, register_steps
from pipeline.render.validation import definition_problems
from training.errors import JobError, Problem, TemperError

_RENDERERS: Mapping[str, Callable[[RenderContext, str, Any], RenderedStep]] = {
    "prepare": prepare_steps,
    "train": train_steps,
    "evaluate": evaluate_steps,
    "register": register_steps,
    "deploy": deploy_steps,
}


def render(context: RenderContext) -> Definition:
    """Return the checked definition of a pipeline.

    Args:
        context: The pipeline and the environment.

    Raises:
        JobError: Steps cannot run in AWS; the error lists every problem.
        TemperError: SageMaker would refuse the definition.
    """
    rendered: dict[str, RenderedStep] = {}
    problems: list[Problem] = []
    for name, step in context.pipeline.steps.items():
        try:
            if step.kind != "gate":
                rendered[name] = _RENDERERS[step.kind](context, name, step)
        except JobError as error:
            problems += error.problems
        except LaunchError as error:
            problems.append(Problem(f"steps.{name}", str(error)))
    if problems:
        raise JobError(str(context.pipeline.path), problems)
    definition = assemble(context.pipeline, rendered)
    if found := definition_problems(definition.document):
        raise TemperError("the definition is not valid:\n" + "\n".join(f"  {one}" for one in found))
    return definition


class PipelineAccount:
    """Account in which a pipeline is kept and started.

    Args:
        env: Name of the environment.
    """

    def __init__(self, env: str):
        self._session = AwsSession(read_environment(env))
        self._session.caller()
        self.platform: PlatformParameters = read_platform_parameters(
            self._session.environment, self._session.client("ssm")
        )
        missing = [
            name
            for name in ("roles/pipeline", "pipelines/step-function")
            if self.platform.get(name) is None
        ]
        if missing:
            raise LaunchError(
                f"the environment {env} has no pipelines (no {', '.join(missing)}). Add the "
                f"pipeline to environments/{env}.yaml, section pipelines, and deploy it"
            )
        self._sagemaker = self._session.client("sagemaker")

    def context(self, pipeline: LoadedPipeline) -> RenderContext:
        """Return what a pipeline is rendered with."""
        return RenderContext(pipeline, self.platform, current_user())

    def upsert(self, pipeline: LoadedPipeline, definition: Definition) -> str:
        """Upload what the steps read, then create or update the pipeline; return its ARN.

        Args:
            pipeline: The pipeline.
            definition: Its definition.

        Raises:
            LaunchError: AWS refused.
        """  # noqa: DOC501 (errors of boto3 become a LaunchError)
        bucket, s3 = self.platform["buckets/data"], self._session.client("s3")
        key = self.platform["keys/data"]
        with explain_aws_errors(f"uploading the files of {pipeline.spec.name}"):
            for name, content in definition.objects.items():
                s3.put_object(
                    Bucket=bucket,
                    Key=name,
                    Body=content,
                    ServerSideEncryption="aws:kms",
                    SSEKMSKeyId=key,
                )
        request = self._upsert_request(pipeline, definition)
        name = request["PipelineName"]
        with explain_aws_errors(f"creating the pipeline {name}"):
            try:
                self._sagemaker.describe_pipeline(PipelineName=name)
            except aws.ClientError as error:
                if error_code(error) not in ("ResourceNotFound", "ValidationException"):
                    raise
                environment = self.platform.environment
                tags = {"Project": "temper", "Environment": environment.name}
                tags |= {"Owner": environment.owner, "CostCentre": environment.cost_centre}
                answer = self._sagemaker.create_pipeline(
                    **request,
                    ClientRequestToken=digest_of(request)[:64],
                    Tags=[{"Key": key, "Value": value} for key, value in tags.items() if value],
                )
                return str(answer["PipelineArn"])
            return str(self._sagemaker.update_pipeline(**request)["PipelineArn"])

    def _upsert_request(self, pipeline: LoadedPipeline, definition: Definition) -> dict[str, Any]:
        """Return the members that CreatePipeline and UpdatePipeline share."""
        return {
            "PipelineName": pipeline_name(pipeline, self.platform),
            "PipelineDefinition": json.dumps(definition.document, sort_keys=True),
            "PipelineDescription": f"Retraining of {pipeline.spec.name}, rendered by temper",
            "RoleArn": self.platform["roles/pipeline"],
        }

    def start(self, pipeline: LoadedPipeline, definition: Definition, reason: str) -> str:
        """Start an execution; the same definition and reason start one only; return its ARN.

        Args:
            pipeline: The pipeline.
            definition: Its definition.
            reason: What starts it.

        Raises:
            LaunchError: AWS refused.
        """
        name = pipeline_name(pipeline, self.platform)
        with explain_aws_errors(f"starting {name}"):
            answer = self._sagemaker.start_pipeline_execution(
                PipelineName=name,
                PipelineExecutionDescription=reason,
                PipelineParameters=[{"Name": REASON, "Value": reason}],
                ClientRequestToken=digest_of([definition.document, reason])[:64],
            )
        return str(answer["PipelineExecutionArn"])
