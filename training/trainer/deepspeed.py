"""DeepSpeed and FSDP configuration of a job, without `"auto"` values.

Keys: https://www.deepspeed.ai/docs/config-json/
"""

from __future__ import annotations

from typing import Any

from training.config import Job
from training.config.runtime import BUCKET_SIZE, PREFETCH_BUCKET_SIZE

PERSISTS_BELOW = 100_000
"""Largest weight, in elements, that ZeRO 3 keeps gathered: gathering it would cost more."""


def deepspeed_config(
    job: Job,
    *,
    micro_batch_size: int,
    accumulation: int,
    world_size: int,
    own_storage: bool = False,
) -> dict[str, Any] | None:
    """Return DeepSpeed's configuration, or None if the job does not use ZeRO.

    Args:
        job: The run.
        micro_batch_size: Rows per device at once.
        accumulation: Micro-batches per optimizer step.
        world_size: Number of processes.
        own_storage: Whether nodes share no disk, so each keeps its part of a checkpoint.
    """
    if job.sharding.zero == 0:
        return None
    return {
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": micro_batch_size * accumulation * world_size,
        "gradient_clipping": job.train.max_grad_norm,
        "bf16": {"enabled": job.precision == "bf16"},
        "fp16": {"enabled": job.precision == "fp16", "initial_scale_power": 16},
        "zero_optimization": _zero(job),
        **({"checkpoint": {"use_node_local_storage": True}} if own_storage else {}),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
    }


def _zero(job: Job) -> dict[str, Any]:
    sharding = job.sharding
    zero: dict[str, Any] = {
        "stage": sharding.zero,
        "overlap_comm": sharding.overlap_comm,
        "contiguous_gradients": True,
        "reduce_bucket_size": sharding.reduce_bucket_size or BUCKET_SIZE,
        "allgather_bucket_size": sharding.allgather_bucket_size or BUCKET_SIZE,
    }
    if sharding.zero == 3:
        zero |= {
            "stage3_prefetch_bucket_size": sharding.stage3_prefetch_bucket_size
            or PREFETCH_BUCKET_SIZE,
            "stage3_param_persistence_threshold": PERSISTS_BELOW,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    if sharding.offload != "none":
        place: dict[str, Any] = {"device": sharding.offload, "pin_memory": False}
        if sharding.offload == "nvme":
            place["nvme_path"] = sharding.nvme_path
        zero["offload_optimizer"] = dict(place)
        if sharding.zero == 3:
            zero["offload_param"] = dict(place)
    return zero


def fsdp_config(job: Job) -> dict[str, Any] | None:
    """Return Accelerate's FSDP2 settings, or None if the job does not use FSDP."""
    if job.sharding.fsdp == "none":
        return None
    return {
        "version": 2,
        "reshard_after_forward": True,
        "state_dict_type": "SHARDED_STATE_DICT",
        "activation_checkpointing": False,
        "cpu_ram_efficient_loading": False,
    }
