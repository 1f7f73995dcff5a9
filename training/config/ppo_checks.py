"""Checks of PPO against the rest of a job."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.job import Job
from training.config.ppo import Ppo
from training.errors import Problem


def check_ppo(job: Job, method: Ppo) -> Iterator[Problem]:
    """Yield what PPO cannot be combined with in the rest of a job."""
    step, processes = job.train.global_batch_size, job.resources.processes or 1
    round_rows = method.rollout.batch or step
    if round_rows % step:
        yield Problem(
            "method.rollout.batch",
            f"must be a multiple of train.global_batch_size ({step}): a rollout is learned from "
            f"in steps of that many answers",
            str(round_rows),
        )
    elif round_rows % processes:
        yield Problem(
            "method.rollout.batch",
            f"must be a multiple of resources.processes ({processes}), which share the prompts",
            str(round_rows),
        )
    if job.sharding.fsdp != "none":
        yield Problem(
            "sharding.fsdp", "ppo samples under DeepSpeed only", job.sharding.fsdp, "Use zero"
        )
    if job.precision == "fp16":
        yield Problem(
            "precision",
            "ppo needs the range of bf16: ratios of small probabilities overflow",
            "fp16",
            "Use bf16 or fp32",
        )
    yield from _check_adapter(job)
    if method.critic.backbone == "shared" and job.adapter is None:
        yield Problem(
            "method.critic.backbone",
            "a shared backbone needs an adapter on the policy",
            "shared",
            "Add adapter: {kind: lora}, or use own",
        )
    if job.train.max_steps and method.critic.warmup_steps >= job.train.max_steps:
        yield Problem(
            "method.critic.warmup_steps",
            f"the policy would never learn in {job.train.max_steps} steps",
            str(method.critic.warmup_steps),
        )


def _check_adapter(job: Job) -> Iterator[Problem]:
    """Yield adapters whose model cannot be compared with the reference."""
    if job.adapter is not None and job.adapter.soft:
        yield Problem(
            "adapter.kind",
            "a soft prompt changes the model before the first step, and ppo penalizes the "
            "divergence from the initial model",
            job.adapter.kind,
            "Use lora, qlora or bottleneck, or none",
        )
    if job.adapter is not None and job.adapter.kind == "compose":
        yield Problem(
            "compose",
            "composed adapters change the model before the first step, and ppo penalizes the "
            "divergence from the initial model",
            fix="Merge them into a model with temper export, and start from that",
        )
    if dropout := getattr(job.adapter, "dropout", 0.0):
        yield Problem(
            "adapter.dropout",
            "ppo compares the policy with itself, and dropout would change it in every pass",
            f"{dropout:g}",
            "Leave it out",
        )
    if (bias := getattr(job.adapter, "bias", "none")) != "none":
        yield Problem(
            "adapter.bias",
            "the reference is the policy with its adapter off, and trained biases stay on: it "
            "would change with the policy",
            bias,
            "Leave it out",
        )
