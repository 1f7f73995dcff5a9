"""Problems that a deployment on SageMaker would have, found before any resource is created."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from catalog.cpu_instances import cpu_instance
from catalog.instances import instance as described
from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError
from deployment.lifetime import past_end_problems
from deployment.sagemaker.images import CUDA_OF_AMI, image_cuda, image_kind, serving_image
from deployment.targets.base import DeploymentRequest
from launch.aws.session import DENIED, explain_aws_errors
from training.errors import Problem

_PLATFORM = ("roles/serving", "serving/security-group", "serving/undeploy-function")
_SETTING = re.compile(r"[A-Z][A-Z0-9_]*")
_MAX_VALUE = 1024
_GIB = 2.0**30
_LARGEST_SHARE = 0.9


def common_problems(account: DeploymentAccount, request: DeploymentRequest) -> Iterator[Problem]:
    """Yield the problems that all targets with instances of SageMaker share.

    Args:
        account: Account of the deployment.
        request: The deployment.
    """
    yield from platform_problems(account)
    yield from past_end_problems(request.spec.end)
    if request.spec.instance is None:
        yield Problem(
            "instance", "is missing", fix="Name one: `temper plan-serving` lists those that fit"
        )
        return
    yield from _instance_problems(account, request)
    yield from _image_problems(account, request)
    yield from model_problems(request)
    yield from _setting_problems(request)


def platform_problems(account: DeploymentAccount) -> Iterator[Problem]:
    """Yield a problem if the environment cannot serve."""
    missing = [name for name in _PLATFORM if account.platform.get(name) is None]
    if missing:
        name = account.environment.name
        yield Problem(
            "--env",
            f"the environment has no {', '.join(missing)}, without which nothing is served or "
            f"removed",
            name,
            f"Set serving.enabled: true in environments/{name}.yaml, then: make deploy ENV={name}",
        )


def _instance_problems(account: DeploymentAccount, request: DeploymentRequest) -> Iterator[Problem]:
    spec = request.spec
    assert spec.instance is not None
    allowed = account.platform.get("serving/allowed-instance-types")
    patterns = allowed.split(",") if allowed else ["*"]
    if not any(fnmatchcase(spec.instance, pattern) for pattern in patterns):
        yield Problem(
            "instance",
            "is not allowed for endpoints of this environment",
            spec.instance,
            f"Choose one of {', '.join(patterns)}, or have it added to "
            f"serving.allowed_instance_types",
        )
    _, most = spec.copy_limits
    usage = "transform job usage" if spec.to == "batch" else "endpoint usage"
    yield from quota_problems(account, f"{spec.instance} for {usage}", most)
    memory = _memory_gib(spec.instance)
    needed = request.model.size_bytes / _GIB
    if memory is not None and needed > _LARGEST_SHARE * memory:
        yield Problem(
            "instance",
            f"the model's files have {needed:.1f} GiB, and it has {memory:.0f} GiB of memory for "
            f"them",
            spec.instance,
            "Choose a larger one: `temper plan-serving` lists those that fit",
        )


def quota_problems(account: DeploymentAccount, name: str, needed: int) -> Iterator[Problem]:
    """Yield a problem if the account's quota is lower than what is needed.

    Args:
        account: Account of the deployment.
        name: Name of the quota.
        needed: Instances that are needed at most.
    """
    quotas = []
    with explain_aws_errors("reading the quotas", ignore=DENIED):
        pages = account.client("service-quotas").get_paginator("list_service_quotas")
        quotas = [q for page in pages.paginate(ServiceCode="sagemaker") for q in page["Quotas"]]
    for quota in quotas:
        if quota["QuotaName"] == name and quota["Value"] < needed:
            yield Problem(
                "instance",
                f"the account's quota '{name}' is {quota['Value']:.0f}, and the deployment needs "
                f"{needed}",
                fix=f"Ask for more: aws service-quotas request-service-quota-increase "
                f"--service-code sagemaker --quota-code {quota['QuotaCode']} --desired-value "
                f"{needed} --region {account.environment.region}",
            )


def _image_problems(account: DeploymentAccount, request: DeploymentRequest) -> Iterator[Problem]:
    spec = request.spec
    assert spec.instance is not None
    try:
        kind = image_kind(spec.instance)
    except DeployModelError as error:
        yield Problem("instance", str(error))
        return
    try:
        serving_image(account, spec.instance, spec.image)
    except DeployModelError as error:
        yield Problem("image", str(error))
        return
    if spec.ami is not None and spec.ami not in CUDA_OF_AMI:
        yield Problem(
            "ami", "unknown operating system", spec.ami, f"Known: {', '.join(CUDA_OF_AMI)}"
        )
    cuda = image_cuda(spec.image)
    if kind != "serve-gpu" or cuda is None:
        return
    able = [ami for ami, newest in CUDA_OF_AMI.items() if newest >= cuda]
    version = ".".join(map(str, cuda))
    if not able:
        yield Problem(
            "image", f"no operating system of endpoints runs CUDA {version}", str(spec.image)
        )
    elif spec.ami in CUDA_OF_AMI and spec.ami not in able:
        yield Problem(
            "ami",
            f"its driver runs CUDA {'.'.join(map(str, CUDA_OF_AMI[spec.ami]))}, and the image "
            f"needs {version}: the container would fail when it starts",
            spec.ami,
            f"Omit it, or write {able[0]}",
        )


def model_problems(request: DeploymentRequest) -> Iterator[Problem]:
    """Yield what the files of the version say against serving it."""
    spec, model = request.spec, request.model
    if model.is_adapter and spec.adapter_of is None:
        others = [form for form in model.forms if form != model.form]
        with_base = f"--form {others[0]}, or " if others else ""
        yield Problem(
            "form",
            f"{model.id} is an adapter without its base",
            model.form,
            f"Serve {with_base}a merged model (`temper export --format safetensors`, then register "
            f"the run), or add it to a deployed base: --to component --adapter-of NAME",
        )
    if spec.chat and not model.is_adapter and not model.has_chat_template:
        yield Problem(
            "chat",
            f"{model.id} has no chat template, so that it can answer no conversation",
            fix="Serve texts only with chat: false (--no-chat), or train with data.template",
        )
    gguf = any(file.endswith(".gguf") for file in model.files)
    if gguf and spec.instance and described(spec.instance) is not None and spec.image is None:
        yield Problem(
            "form",
            "a GGUF file is served by the image for CPUs",
            model.form,
            f"Choose a CPU instance instead of {spec.instance}, or --form safetensors",
        )


def _setting_problems(request: DeploymentRequest) -> Iterator[Problem]:
    for key, value in request.spec.settings.items():
        if not _SETTING.fullmatch(key):
            yield Problem(
                f"settings.{key}",
                "is not the name of a setting",
                fix="Write for instance MAX_CONTEXT",
            )
        if len(value) > _MAX_VALUE:
            yield Problem(
                f"settings.{key}", f"has {len(value)} characters; SageMaker allows {_MAX_VALUE}"
            )


def no_zero_problems(request: DeploymentRequest) -> Iterator[Problem]:
    """Yield a problem if an endpoint that cannot scale to zero should."""
    scaling = request.spec.scaling
    if scaling is not None and scaling.min == 0:
        yield Problem(
            "scaling.min",
            "an endpoint keeps at least one instance",
            "0",
            "Set 1, or deploy with --to component or --to async, which scale to zero",
        )


def _memory_gib(instance: str) -> float | None:
    """Return the memory for a model's files; None if the instance type is not in the catalog."""
    found = described(instance)
    if found is not None:
        return found.devices * found.accelerator.usable_gib
    cpu = cpu_instance(instance)
    return None if cpu is None else cpu.memory_gib
