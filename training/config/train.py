"""Section `train:` of length, batch size, learning rate and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from training.config.base import ConfigSection
from training.config.types import (
    OptionalInterval,
    PositiveFloat,
    PositiveInt,
    RouterAuxLossCoef,
    WarmupLength,
)

OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"]
SchedulerName = Literal[
    "linear", "cosine", "constant", "polynomial", "inverse_sqrt", "warmup_stable_decay"
]


class EarlyStopping(ConfigSection):
    """Rule that stops a run whose held-out loss no longer falls."""

    patience: PositiveInt
    """Evaluations without a new best before the run stops."""
    threshold: float = Field(default=0.0, ge=0)
    """Smallest decrease of the loss that counts as an improvement."""


class LrSchedule(ConfigSection):
    """Settings of the learning rate per layer, and of when each layer starts to train."""

    renamed: ClassVar[Mapping[str, str]] = {"unfreeze: at_once": "unfreeze: none"}

    unfreeze: Literal["none", "gradual"] = "none"
    """`none`: every layer trains from the first step. `gradual`: the top layer trains from the
    start; the others are unfrozen one by one from the top down over the first half of the run
    (ULMFiT, arXiv:1801.06146)."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of each layer relative to the one above it, such as 0.9."""


def _describe_input(schema: dict[str, Any]) -> None:
    """Change the JSON schema to what a file may contain: the learning rate has a default."""
    schema["required"].remove("learning_rate")


class TrainSettings(LrSchedule):
    """Settings of the optimization."""

    model_config = ConfigDict(json_schema_extra=_describe_input)

    num_train_epochs: PositiveFloat = 1.0
    max_steps: PositiveInt | None = None
    """Optimizer steps; if not set, `num_train_epochs` determines them."""
    global_batch_size: PositiveInt = 32
    """Rows per optimizer step, whatever the number of devices."""
    micro_batch_size: PositiveInt | None = None
    """Rows per device and forward pass; found by a short search if not set."""
    learning_rate: PositiveFloat
    """Peak learning rate; 2e-5 for full fine-tuning and 2e-4 with an adapter if not set."""
    lr_scheduler: SchedulerName = "cosine"
    warmup: WarmupLength = Field(default="3%")  # type: ignore[assignment]  # parsed like a job's
    optimizer: OptimizerName = "adamw"
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    adam_epsilon: PositiveFloat = 1e-8
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are clipped to this norm; 0 disables clipping."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    early_stopping: EarlyStopping | None = None
    keep: Literal["best", "last"] | None = None
    """Weights to save at the end: those of the evaluation with the lowest held-out loss, or those
    of the last step. If not set, `best` with `early_stopping` and `last` without."""
    log_every: OptionalInterval = Field(default="1 steps")  # type: ignore[assignment]  # parsed like a job's
    """Interval of the metrics in the log and in `metrics.jsonl`, or `none` for the last step
    alone."""
    seed: int = Field(default=42, ge=0, lt=2**32)
    deterministic: bool = False
    """Use deterministic kernels only (slower on a GPU)."""
    l2_sp: float = Field(default=0.0, ge=0)
    """Penalty against forgetting: half of this times the squared distance of the trained weights
    from their start is added to the loss (L2-SP, arXiv:1802.01483), such as 0.01."""
    kl_to_base: float = Field(default=0.0, ge=0)
    """Penalty against forgetting: this times the KL divergence from the base model is added to the
    loss, such as 0.5. With an adapter, the base is the model with the adapter off; without one, it
    is a second model in memory."""
    router_aux_loss_coef: RouterAuxLossCoef = None
    """Coefficient of the load-balancing loss of a mixture of experts, which is added to the loss of
    every method. If not set, that of the model's `config.json`; `none` or 0 turns it off."""
    compile: bool = False
    """`torch.compile` the model: faster steps after a slow start."""
    static_shapes: bool | None = None
    """Pad every batch to one of at most two shapes, and pass every position through the head, so
    that a compiled step is not compiled again for other rows. If not set: on Trainium."""

    @property
    def keeps_best(self) -> bool:
        """True if the weights with the lowest held-out loss are saved at the end."""
        return self.keep == "best" or (self.keep is None and self.early_stopping is not None)
