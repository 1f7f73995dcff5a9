"""`train:` how long, how fast, with which optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from training.config.base import ConfigSection
from training.config.types import Interval, PositiveFloat, PositiveInt, WarmupLength, parse_every

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"]
SchedulerName = Literal[
    "linear", "cosine", "constant", "polynomial", "inverse_sqrt", "warmup_stable_decay"
]


class EarlyStopping(ConfigSection):
    """Stop when the held-out loss no longer falls."""

    patience: PositiveInt
    """Evaluations without a new best before the run stops."""
    threshold: float = Field(default=0.0, ge=0)
    """How much lower a loss must be to count as a new best."""


class LrSchedule(ConfigSection):
    """Settings of the learning rate per layer, and of when each layer starts to train."""

    renamed: ClassVar[Mapping[str, str]] = {"unfreeze: at_once": "unfreeze: none"}

    unfreeze: Literal["none", "gradual"] = "none"
    """`none`: every layer trains from the first step. `gradual`: the top layer trains from the
    start; the others are unfrozen one by one from the top down over the first half of the run
    (ULMFiT, arXiv:1801.06146)."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of each layer relative to the one above it, such as 0.9."""


class TrainSettings(LrSchedule):
    """The optimizer's side of a run."""

    num_train_epochs: PositiveFloat = 1.0
    max_steps: PositiveInt | None = None
    """Optimizer steps; `num_train_epochs` decides when left out."""
    global_batch_size: PositiveInt = 32
    """Rows per optimizer step, whatever the number of devices."""
    micro_batch_size: PositiveInt | None = None
    """Rows per device at once; found by a short probe when left out."""
    learning_rate: PositiveFloat
    """2e-5 when every weight learns and 2e-4 with an adapter, unless you set it."""
    lr_scheduler: SchedulerName = "cosine"
    warmup: WarmupLength = Field(default="3%")  # type: ignore[assignment]  # parsed like a job's
    optimizer: OptimizerName = "adamw"
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    adam_epsilon: PositiveFloat = 1e-8
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them alone."""
    gradient_checkpointing: bool = False
    """Compute activations twice to keep fewer of them."""
    early_stopping: EarlyStopping | None = None
    log_every: Interval = parse_every("1 steps")
    seed: int = Field(default=42, ge=0, lt=2**32)
    deterministic: bool = False
    """Only kernels whose result never varies from run to run (slower on a GPU)."""
    l2_sp: float = Field(default=0.0, ge=0)
    """Against forgetting: half this times the squared distance of what learns from where it started
    is added to the loss (L2-SP, arXiv:1802.01483), such as 0.01."""
    kl_to_base: float = Field(default=0.0, ge=0)
    """Against forgetting: this times the divergence from what the untouched model says of the same
    tokens is added to the loss, such as 0.5. With an adapter that model is the adapter switched
    off; without one it is a second model in memory."""
    compile: bool = False
    """`torch.compile` the model: faster steps after a slow start."""
