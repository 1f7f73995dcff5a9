"""Transformers' `TrainingArguments` of a job.

`ExactTrainerMixin` decides when to log, evaluate and save (by minutes as well as steps, and agreed
among processes), so the schedules of Transformers are off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.config import Job
from training.trainer.deepspeed import deepspeed_config, fsdp_config

_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
_SCHEDULERS = {"constant": "constant_with_warmup"}


def training_arguments(
    job: Job,
    *,
    output_dir: Path,
    max_steps: int,
    micro_batch_size: int,
    world_size: int,
    device_type: str,
    own_storage: bool = False,
) -> dict[str, Any]:
    """Return keyword arguments of `TrainingArguments` or a subclass.

    Args:
        job: The run.
        output_dir: Output folder of the trainer; checkpoints are redirected to a staging folder.
        max_steps: Optimizer steps of the complete run.
        micro_batch_size: Rows per device at once.
        world_size: Number of processes.
        device_type: `cpu`, `cuda` or `neuron`.
        own_storage: Whether nodes share no disk, so each keeps its part of a checkpoint.
    """
    train = job.train
    accumulation = train.global_batch_size // (micro_batch_size * world_size)
    warmup_steps = train.warmup.steps(max_steps)
    arguments: dict[str, Any] = {
        "output_dir": str(output_dir),
        "max_steps": max_steps,
        "per_device_train_batch_size": micro_batch_size,
        "per_device_eval_batch_size": micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": _SCHEDULERS.get(train.lr_scheduler, train.lr_scheduler),
        "lr_scheduler_kwargs": _scheduler_extras(job, max_steps - warmup_steps),
        "warmup_steps": warmup_steps,
        "optim": _optimizer(train.optimizer, device_type),
        "adam_beta1": train.adam_beta1,
        "adam_beta2": train.adam_beta2,
        "adam_epsilon": train.adam_epsilon,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "gradient_checkpointing": train.gradient_checkpointing,
        "bf16": job.precision == "bf16",
        "fp16": job.precision == "fp16",
        "seed": train.seed,
        "use_cpu": device_type == "cpu",
        "deepspeed": deepspeed_config(
            job,
            micro_batch_size=micro_batch_size,
            accumulation=accumulation,
            world_size=world_size,
            own_storage=own_storage,
        ),
        "save_on_each_node": own_storage,
        # ExactTrainerMixin and its callbacks do these:
        "logging_strategy": "no",
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        "average_tokens_across_devices": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": device_type == "cuda",
        "ddp_find_unused_parameters": False,
        "log_level": "error",
    }
    if (fsdp := fsdp_config(job)) is not None:
        arguments |= {"fsdp": "full_shard auto_wrap", "fsdp_config": fsdp}
    return arguments


def _optimizer(name: str, device_type: str) -> str:
    # Torch has fused kernels for CPU and CUDA; on Neuron the same update in plain operations.
    return "adamw_torch" if (name, device_type) == ("adamw", "neuron") else _OPTIMIZERS[name]


def _scheduler_extras(job: Job, steps_after_warmup: int) -> dict[str, Any]:
    if job.train.lr_scheduler == "warmup_stable_decay":
        # The last fifth decays (Hu et al. 2024, arXiv:2404.06395, use the last tenth to fifth).
        return {"num_decay_steps": max(1, steps_after_warmup // 5)}
    return {}
