"""Kinds of steps that run a job or create a resource of SageMaker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobOperations:
    """Operations of one kind of step.

    Attributes:
        create: Operation whose request the arguments of the step are.
        describe: Operation whose response the properties of the step are.
        name: Member with the name, which the service chooses.
        arn: Member of the responses with the ARN.
        status: Member of the description with the status; empty if creation is all.
        stop: Operation that stops it.
        metadata: Member of the step's metadata.
        cache_keys: Members that a cached result must share; none if nothing is cached.
            docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html
    """

    create: str
    describe: str
    name: str
    arn: str
    status: str
    stop: str
    metadata: str
    cache_keys: tuple[str, ...] = ()


JOB_KINDS = {
    "Training": JobOperations(
        *("CreateTrainingJob", "DescribeTrainingJob", "TrainingJobName", "TrainingJobArn"),
        *("TrainingJobStatus", "StopTrainingJob", "TrainingJob"),
        (
            *("AlgorithmSpecification", "CheckpointConfig", "DebugHookConfig"),
            *("DebugRuleConfigurations", "Environment", "HyperParameters", "InputDataConfig"),
        ),
    ),
    "Processing": JobOperations(
        *("CreateProcessingJob", "DescribeProcessingJob", "ProcessingJobName"),
        *("ProcessingJobArn", "ProcessingJobStatus", "StopProcessingJob", "ProcessingJob"),
        ("AppSpecification", "Environment", "ProcessingInputs"),
    ),
    "RegisterModel": JobOperations(
        *("CreateModelPackage", "DescribeModelPackage", "ModelPackageName", "ModelPackageArn"),
        *("", "", "RegisterModel"),
    ),
}
"""Type of a step -> its operations."""
