"""Refusals before any resource is created: one message for each cause, all at once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deployment.errors import DeployModelError
from deployment.model import find_model
from deployment.spec import read_spec
from deployment.targets.base import DeploymentTarget, connect_target
from registry.errors import RegistryError
from registry.remote.version_files import folder_of
from tests.unit.deployment.conftest import Deployments, with_platform
from training.errors import JobError

pytestmark = pytest.mark.slow
END = {"end": {"idle_hours": 6}}


def problems(deployments: Deployments, model: str = "support@1.0.0", **values: Any) -> str:
    """Return the problems of a deployment, a line each."""
    request = deployments.request(model, **values)
    target: DeploymentTarget = connect_target(request.spec.to, deployments.account)
    found = "\n".join(map(str, target.problems(request)))
    assert deployments.names("Model") == [], "nothing is made"
    return found


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "support@1.0.0", "to": "endpoint"}, "end"),
        ({"model": "support@1", "to": "endpoint", **END}, "support@1.4.0"),
        ({"model": "support@1.0.0", "to": "tpu", **END}, "to: "),
        ({"model": "a@1.0.0", "to": "batch", "name": "A b", **END}, "lower-case letters"),
        (
            {"model": "a@1.0.0", "to": "batch", "end": {"idle_hours": 1, "forever": "because"}},
            "forever excludes",
        ),
        (
            {"model": "a@1.0.0", "to": "endpoint", "scaling": {"min": 3, "max": 2}, **END},
            "more than max",
        ),
        (
            {"model": "a@1.0.0", "to": "endpoint", "rollout": {"size": "60%"}, **END},
            "rollout.size",
        ),
        (
            {
                "model": "a@1.0.0",
                "to": "endpoint",
                "rollout": {"kind": "linear", "size": "5%"},
                **END,
            },
            "a linear step is a tenth",
        ),
        (
            {"model": "a@1.0.0", "to": "endpoint", "end": {"until": "soon"}},
            "write a time in UTC",
        ),
        ({"model": "a@1.0.0", "to": "endpoint", "colour": "red", **END}, "colour"),
    ],
)
def test_a_wrong_specification_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(JobError, match=words):
        read_spec(None, values)


def test_a_version_that_is_not_approved_is_refused(deployments: Deployments) -> None:
    deployments.register("a", approved=False)
    with pytest.raises(DeployModelError, match=r"is PendingManualApproval .*temper promote"):
        find_model(deployments.account, "support@1.0.0")
    with pytest.raises(
        DeployModelError, match=r"does not have support@9\.0\.0\. It has: support@1"
    ):
        find_model(deployments.account, "support@9.0.0")
    with pytest.raises(DeployModelError, match="does not have an approved version of support"):
        find_model(deployments.account, "support")


def test_a_name_means_the_newest_approved_version(deployments: Deployments) -> None:
    deployments.register("a")
    deployments.register("b", approved=False)
    assert find_model(deployments.account, "support").id == "support@1.0.0"


@pytest.mark.parametrize("change", ["overwrite", "add", "delete"])
def test_files_that_were_changed_in_s3_are_refused(deployments: Deployments, change: str) -> None:
    # Files lie under their digests, so that other tests have others.
    deployments.register(f"{change} in S3")
    model = find_model(deployments.account, "support@1.0.0")
    s3, bucket = deployments.hosted.client("s3"), deployments.account.platform["buckets/models"]
    key = f"{folder_of(model.tree)}{'more.txt' if change == 'add' else 'answer.txt'}"
    if change == "delete":
        s3.delete_object(Bucket=bucket, Key=key)
    else:
        s3.put_object(Bucket=bucket, Key=key, Body=b"evil", ChecksumAlgorithm="SHA256")
    with pytest.raises(RegistryError, match="are not those that were pushed"):
        find_model(deployments.account, "support@1.0.0")


def test_all_problems_are_reported_at_once(deployments: Deployments) -> None:
    deployments.register("a", template=False)
    deployments.hosted.emulator.hosting.context.faults.quotas["ml.g5.xlarge"] = 1
    lacking = with_platform(
        deployments,
        serving__allowed_instance_types="ml.m5.*,ml.c5.*",
        images__serve_gpu__uri=None,
    )
    found = problems(
        lacking,
        copies=2,
        end={"until": "2020-01-01T00:00Z"},
        settings={"max": "1"},
    )
    for words in (
        "no chat template",
        "not allowed for endpoints",
        "no serve-gpu image",
        "is in the past",
        "settings.max: is not the name of a setting",
        "quota 'ml.g5.xlarge for endpoint usage' is 1, and the deployment needs 2",
    ):
        assert words in found, found
    assert len(found.splitlines()) == 6


def test_a_quota_of_zero_is_one_message_with_the_command_that_raises_it(
    deployments: Deployments,
) -> None:
    deployments.register("a")
    deployments.hosted.emulator.hosting.context.faults.quotas["ml.g5.xlarge"] = 0
    found = problems(deployments)
    assert re.fullmatch(
        r"instance: the account's quota 'ml.g5.xlarge for endpoint usage' is 0, and the deployment "
        r"needs 1. Ask for more: aws service-quotas request-service-quota-increase --service-code "
        r"sagemaker --quota-code L-[0-9A-F]{8} --desired-value 1 --region us-east-1",
        found,
    ), found


def test_a_platform_without_serving_is_refused(deployments: Deployments) -> None:
    deployments.register("a")
    found = problems(with_platform(deployments, roles__serving=None))
    assert "serving.enabled: true in environments/dev.yaml" in found


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"instance": None}, "instance: is missing"),
        ({"instance": "ml.trn1.2xlarge"}, "no serving image runs on its accelerators"),
        ({"scaling": {"min": 0, "max": 2}}, "deploy with --to component or --to async"),
        (
            {"ami": "al2-ami-sagemaker-inference-gpu-3-1"},
            "its driver runs CUDA 12.4, and the image needs 13.0",
        ),
        ({"ami": "ubuntu"}, "unknown operating system"),
        (
            {"image": "1.dkr.ecr.us-east-1.amazonaws.com/vllm:1-gpu-py312-cu142-ubuntu"},
            "no operating system of endpoints runs CUDA 14.2",
        ),
        ({"settings": {"NAME": "x" * 1025}}, "SageMaker allows 1024"),
        ({"to": "batch"}, "batch.input: is missing"),
        ({"adapter_of": "other"}, "adapter_of: has no effect on a deployment to endpoint"),
        ({"to": "component", "capture": "5%"}, "capture: has no effect"),
        ({"to": "async", "devices": 2}, "devices: has no effect"),
        (
            {"to": "batch", "batch": {"input": "s3://temper-dev-runs-1/none"}},
            "transform jobs have drivers up to CUDA 12.2",
        ),
    ],
)
def test_a_deployment_that_would_fail_is_refused(
    deployments: Deployments, values: dict[str, Any], words: str
) -> None:
    deployments.register("a")
    assert words in problems(deployments, **values)


def test_a_model_without_a_template_may_serve_texts(deployments: Deployments) -> None:
    deployments.register("a", template=False)
    assert "has no chat template" in problems(deployments)
    assert problems(deployments, chat=False) == ""


def test_an_adapter_needs_its_base(deployments: Deployments) -> None:
    deployments.register("a", adapter_config__json='{"r": 16}')
    assert "is an adapter without its base" in problems(deployments)


def test_the_image_decides_the_operating_system(deployments: Deployments) -> None:
    deployments.register("a")
    older = "763104351884.dkr.ecr.us-east-1.amazonaws.com/vllm:0.9-gpu-py312-cu124-ubuntu22.04"
    assert problems(deployments, image=older, ami="al2-ami-sagemaker-inference-gpu-3-1") == ""


def test_a_gguf_file_goes_to_a_cpu(deployments: Deployments) -> None:
    deployments.register("a", gguf=True)
    assert "a GGUF file is served by the image for CPUs" in problems(deployments, form="gguf")
    assert problems(deployments, form="gguf", instance="ml.c5.2xlarge") == ""
