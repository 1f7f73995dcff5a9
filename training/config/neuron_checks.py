"""Checks of a job for Trainium: settings whose libraries have no code for device `neuron`."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.distill import Distill
from training.config.distill_text import DistillText
from training.config.job import Job
from training.errors import Problem

_BITSANDBYTES = "needs bitsandbytes, which has no kernels for Trainium"


def check_neuron(job: Job) -> Iterator[Problem]:
    """Yield everything in a job that cannot run on device `neuron`, each with its replacement.

    Sources: the features of TorchNeuron
    (https://awsdocs-neuron.readthedocs-hosted.com/en/latest/torch/index.html), the accelerators of
    DeepSpeed (https://www.deepspeed.ai/tutorials/accelerator-abstraction-interface/) and of
    bitsandbytes (https://huggingface.co/docs/bitsandbytes/main/en/installation).
    """
    yield from _libraries(job)
    yield from _numbers(job)
    yield from _generation(job)
    if job.train.static_shapes is False:
        yield Problem(
            "train.static_shapes",
            "Trainium compiles again for each new batch shape, which takes minutes",
            "false",
            "Leave it out",
        )
    kinds = [name for name in job.resources.fallback if not name.startswith("ml.trn")]
    if kinds and job.resources.instance:
        yield Problem(
            "resources.fallback",
            f"cannot take over from {job.resources.instance}: a job has one image, and GPUs and "
            "Trainium need different ones",
            ", ".join(kinds),
            "Name Trainium types, or submit a second job",
        )


def _libraries(job: Job) -> Iterator[Problem]:
    sharding = job.sharding
    if sharding.zero:
        yield Problem(
            "sharding.zero",
            "is DeepSpeed's, which has no accelerator for Trainium",
            str(sharding.zero),
            "Use sharding: {fsdp: full}",
        )
    if sharding.offload != "none":
        yield Problem(
            "sharding.offload",
            "is DeepSpeed's, which has no accelerator for Trainium",
            sharding.offload,
            "Leave it out; sharding: {fsdp: full} and more instances lower the memory of each",
        )
    if job.adapter is not None and job.adapter.quantized:
        yield Problem(
            "adapter.kind", f"in 4 bits {_BITSANDBYTES}", job.adapter.kind, "Use adapter kind lora"
        )
    if isinstance(job.method, Distill) and job.method.teacher_4bit:
        yield Problem("method.teacher_4bit", _BITSANDBYTES, "true", "Leave it out")
    if job.train.optimizer.endswith("8bit"):
        yield Problem(
            "train.optimizer",
            _BITSANDBYTES,
            job.train.optimizer,
            "Use adamw, or adafactor for less memory; sharding: {fsdp: full} shards its states",
        )
    if job.model.attention == "flash_attention_2":
        yield Problem(
            "model.attention", "is a library of CUDA kernels", "flash_attention_2", "Use sdpa"
        )


def _numbers(job: Job) -> Iterator[Problem]:
    if job.precision == "fp16":
        yield Problem(
            "precision",
            "fp16 needs a loss scaler, which skips steps by a value that is read from the device; "
            "Trainium trains in bf16",
            "fp16",
            "Use bf16",
        )


def _generation(job: Job) -> Iterator[Problem]:
    """Yield what generates text: its inputs grow by a token per pass, a shape of its own each."""
    why = "generates text, whose length grows by a token per pass: Trainium compiles each length"
    method = job.method
    remote = isinstance(method, DistillText) and method.teacher.kind != "local"
    if method.max_new_tokens and not remote:
        yield Problem(
            "method.kind",
            why,
            method.kind,
            "Run it on a GPU instance such as ml.p4d.24xlarge; sft, dpo, kto, orpo, simpo, reward "
            "and distill train on Trainium",
        )
    if isinstance(method, Distill) and method.on_policy:
        yield Problem("method.on_policy", why, f"{method.on_policy:.0%}", "Leave it out")
    if job.evaluate.samples:
        yield Problem(
            "evaluate.samples",
            why,
            f"{len(job.evaluate.samples)} prompts",
            "Leave it out, and answer them after training with `temper answer` on another machine",
        )
    if job.evaluate.suite:
        yield Problem(
            "evaluate.suite",
            why,
            fix="Leave it out, and run `temper evaluate` on another machine",
        )
    if job.evaluate.safety is not None:
        yield Problem(
            "evaluate.safety",
            why,
            fix="Leave it out, and run `temper redteam` and `temper bias` on another machine",
        )
