"""The sections about the run itself: sharding, checkpoints, evaluation, guards, machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from training.config.base import ConfigSection
from training.config.data import SourceLike
from training.config.locations import FileLocation
from training.config.safety import Safety
from training.config.types import (
    DurationS,
    Interval,
    MoneyUsd,
    OptionalInterval,
    PositiveInt,
    Share,
)

BUCKET_SIZE = 200_000_000
"""Elements of ZeRO's messages: small enough for a 40 GB device, large enough for EFA."""
PREFETCH_BUCKET_SIZE = 50_000_000


class Sharding(ConfigSection):
    """Settings of how a model and its optimizer are sharded over devices."""

    zero: int = Field(default=0, ge=0, le=3)
    """DeepSpeed ZeRO: 1 shards optimizer states, 2 gradients too, 3 weights too."""
    fsdp: Literal["none", "full"] = "none"
    """FSDP2, for devices that DeepSpeed does not serve (Trainium)."""
    offload: Literal["none", "cpu", "nvme"] = "none"
    """Memory that holds optimizer states (and, with ZeRO 3, weights) between steps."""
    nvme_path: str | None = None
    """Folder on the fast disk, for `offload: nvme`."""
    overlap_comm: bool = False
    """Overlap communication with the backward pass: faster, needs more memory."""
    reduce_bucket_size: PositiveInt | None = None
    """Gradient elements that ZeRO reduces at once; 200 million if not set. A smaller bucket saves
    memory."""
    allgather_bucket_size: PositiveInt | None = None
    """Elements that ZeRO 1 and 2 gather at once after a step; 200 million if not set."""
    stage3_prefetch_bucket_size: PositiveInt | None = None
    """Elements that ZeRO 3 gathers ahead of their use; 50 million if not set."""


class Checkpoint(ConfigSection):
    """Settings of the checkpoints that a run resumes from."""

    every: Interval = Field(default="10min")  # type: ignore[assignment]  # parsed like a job's
    keep: PositiveInt = 2
    """Number of newest checkpoints to keep."""


GenerationMetricName = Literal["exact_match", "token_f1", "rouge_l"]
"""Names of the files in `training.evaluation.generation_metrics`."""


class Sample(ConfigSection):
    """Sample prompt, with a reference answer if it is to be scored."""

    prompt: str
    """Prompt to answer."""
    reference: str | None = None
    """Reference answer that `generation_metrics` compare with."""

    @model_serializer
    def _short_form(self) -> Any:
        """Write a sample without a reference as the text it was written as in the job."""
        if self.reference is None:
            return self.prompt
        return {"prompt": self.prompt, "reference": self.reference}


def _as_sample(value: Any) -> Any:
    return {"prompt": value} if isinstance(value, str) else value


def _as_suites(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Evaluate(ConfigSection):
    """Settings of evaluation. The held-out loss is always measured before and after training."""

    every: OptionalInterval = Field(default="none")  # type: ignore[assignment]  # parsed like a job's
    """Interval of the held-out loss while training, or `none`. If not set, that of
    `train.log_every` if the job sets one longer than a step, else `none`."""
    samples: tuple[
        Annotated[Sample, BeforeValidator(_as_sample, json_schema_input_type=str | Sample)], ...
    ] = ()
    """Prompts answered before and after training, for the report: a text, or `prompt` and
    `reference`."""
    max_new_tokens: PositiveInt = 64
    """Longest answer to a sample."""
    generation_metrics: tuple[GenerationMetricName, ...] = ()
    """Metrics of the answers to samples that have a reference."""
    forgetting: SourceLike | None = None
    """General text whose loss is measured before and after training."""
    max_forgetting: Share | None = None
    """Largest allowed rise of that loss, such as 3%. A run that exceeds it fails; its model is
    kept."""
    safety: Safety | None = None
    """Red team and bias of the saved model, after training."""
    suite: Annotated[
        tuple[FileLocation, ...],
        BeforeValidator(_as_suites, json_schema_input_type=str | tuple[str, ...]),
    ] = ()
    """Suites of tasks on which the saved model is evaluated after training, paired with the model
    that training started from: YAML files, or folders that hold `suite.yaml` and its data. A gate
    that is not passed fails the run; its model is kept."""

    @model_validator(mode="after")
    def _metrics_have_references(self) -> Evaluate:
        if self.generation_metrics and all(s.reference is None for s in self.samples):
            raise ValueError(
                "generation_metrics needs a reference answer: write a sample as "
                "{prompt: …, reference: …}"
            )
        return self


class ExpertCollapse(ConfigSection):
    """Bounds of the load of experts, which a router that collapses leaves."""

    action: Literal["warn", "stop"] = "warn"
    """Consequence of `steps` steps outside the bounds."""
    steps: PositiveInt = 20
    """Optimizer steps in a row outside the bounds."""
    max_share: Share = 0.95
    """Largest share of a layer's tokens that its busiest experts may get together, as many of them
    as a token is sent to."""
    min_share: Share = 0.0
    """Smallest share of a layer's tokens that each expert must get. 0 allows experts without
    tokens, which are only counted."""


class Guards(ConfigSection):
    """Settings of the checks that stop a run before it fails silently."""

    renamed: ClassVar[Mapping[str, str]] = {"unmoved_after": "update_check_after"}

    update_check_after: Interval = Field(default="20 steps")  # type: ignore[assignment]  # parsed like a job's
    """A trainable tensor that has not changed by this step stops the run."""
    expert_collapse: ExpertCollapse = ExpertCollapse()
    """Experts that a router no longer uses, in a mixture of experts."""


class Tracking(ConfigSection):
    """Settings of trackers that receive the metrics in addition to the run folder."""

    mlflow: bool = True
    """Mirror metrics to MLflow: `MLFLOW_TRACKING_URI`, or a SQLite file next to the runs."""


_INSTANCE = re.compile(r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")


def _instance(value: Any) -> Any:
    if isinstance(value, str) and not _INSTANCE.match(value):
        raise ValueError("write a SageMaker instance type such as ml.p4d.24xlarge")
    return value


Instance = Annotated[str, BeforeValidator(_instance)]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables by which torchrun, the entry point and SageMaker describe the processes of a run.
_RESERVED = re.compile(
    r"(TEMPER_|SM_|PET_|TORCHELASTIC_).*|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|(ACCESS|API)_?KEY|CREDENTIAL", re.I)


def _variable(name: Any) -> Any:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise ValueError("the name of an environment variable has letters, digits and underscores")
    if _RESERVED.fullmatch(name):
        raise ValueError("is set for each process of a run; leave it out")
    if _SECRET.search(name):
        raise ValueError(
            "looks like a secret, and a job file is stored with the run; name it in TEMPER_SECRETS"
        )
    return name


def _variable_value(value: Any) -> Any:
    # YAML reads `1` as a number; a variable is text.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


EnvironmentName = Annotated[str, BeforeValidator(_variable)]
EnvironmentValue = Annotated[
    str, BeforeValidator(_variable_value, json_schema_input_type=str | int | float)
]


class Resources(ConfigSection):
    """Machines and their cost limits; nothing here changes what the model learns."""

    processes: PositiveInt | None = None
    """Processes on this machine: one per accelerator, or one on a CPU, when left out."""
    instance: Instance | None = None
    """Instance type in the cloud."""
    fallback: Annotated[tuple[Instance, ...], Field(max_length=4)] = ()
    """Instance types to try, in order, if `instance` has no capacity. Not with `spot`."""
    count: PositiveInt = 1
    """Instances."""
    spot: bool = False
    """Use spot capacity: cheaper, but it can be interrupted; the run then resumes by itself."""
    training_plan: str | None = None
    """ARN of a SageMaker training plan whose reserved capacity is used."""
    max_runtime: DurationS | None = None
    """The job is stopped after this long; one day when left out."""
    max_wait: DurationS | None = None
    """With `spot`: from submission to the end, waiting included; twice `max_runtime` when left
    out."""
    max_cost: MoneyUsd | None = None
    """A plan that could cost more is refused."""
    keep_alive: DurationS | None = None
    """Keep the machines warm for the next job this long. They are billed while they wait."""
    retries: int = Field(default=0, ge=0, le=30)
    """Number of times the service restarts the job after an internal fault."""
    input_mode: Literal["file", "fast_file", "fsx"] = "file"
    """Input mode: data are copied first, streamed from S3, or read from FSx for Lustre."""
    network_isolation: bool | None = None
    """No network in the container except among its peers. When left out: on, unless the job needs
    the Hub, a judge or teacher elsewhere, or MLflow."""
    encrypt_traffic: bool | None = None
    """Encrypt traffic among the instances (slower); the environment decides when left out."""
    image: str | None = None
    """Container image; the environment's current one when left out."""
    environment: dict[EnvironmentName, EnvironmentValue] = Field(default={})
    """Environment variables of the training processes, such as `NCCL_DEBUG: INFO`. Not for secrets:
    a job file is stored with the run."""
    register_model: bool = False
    """Enter the trained model in the environment's model registry; on SageMaker only."""
    output_compression: Literal["none", "gzip"] = "none"
    """Format of the model in S3: its files, which Bedrock imports and vLLM reads in place, or
    `model.tar.gz`."""
    volume_gib: int | None = Field(default=None, ge=1, le=16384)
    """Size of the volume in GiB, for instance types without local disks; what the plan needs when
    left out."""
    grader: str | None = None
    """ARN of what scores answers in reinforcement fine-tuning by a provider: on Bedrock a Lambda
    function, on SageMaker an evaluator of its hub. When left out, the rewards of the method become
    such a function."""
    partition: str | None = None
    """Slurm partition; the cluster's default when left out."""
