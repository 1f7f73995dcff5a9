"""Checks of the model that a job starts from, and of the precision in which it is saved."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.job import Job
from training.config.locations import locations
from training.config.model import PREVIOUS, SCRATCH, STAGE, in_registry
from training.errors import Problem


def check_model(job: Job, first: bool) -> Iterator[Problem]:
    """Yield what is wrong with the section `model`.

    Args:
        job: The run.
        first: Whether no stage comes before it.
    """
    model, shape = job.model, job.model.scratch
    if model.source == PREVIOUS and first:
        yield Problem(
            "model.source", "is required", fix="Name a Hub id, a folder, or scratch with a shape"
        )
    if model.source == SCRATCH and shape is None:
        yield Problem("model.scratch", "is required when source is scratch")
    if shape is not None and model.source != SCRATCH:
        yield Problem(
            "model.scratch", "is only used with source: scratch", model.source, "Leave one out"
        )
    if model.source == SCRATCH and shape is not None:
        yield from _shape(job)
    if model.base_model is not None and (
        model.source in (SCRATCH, PREVIOUS) or model.source.startswith(STAGE)
    ):
        yield Problem(
            "model.base_model",
            f"names the base of an adapter in a folder, and model.source is {model.source}",
            model.base_model,
            "Leave it out",
        )
    if model.freeze.anything and job.adapter is not None:
        yield Problem(
            "model.freeze",
            "an adapter already freezes every weight of the model",
            fix="Leave out freeze or the adapter",
        )
    if model.attention == "flash_attention_2" and job.precision == "fp32":
        yield Problem("model.attention", "flash_attention_2 needs bf16 or fp16", job.precision)


def _shape(job: Job) -> Iterator[Problem]:
    shape = job.model.scratch
    assert shape is not None
    heads, kv_heads = shape.num_attention_heads, shape.num_key_value_heads
    if shape.hidden_size % heads:
        yield Problem(
            "model.scratch.hidden_size",
            f"must be a multiple of num_attention_heads ({heads})",
            str(shape.hidden_size),
        )
    elif (shape.hidden_size // heads) % 2:
        yield Problem(
            "model.scratch.hidden_size",
            "hidden_size / num_attention_heads must be even for rotary positions",
            f"{shape.hidden_size} / {heads} = {shape.hidden_size // heads}",
        )
    if kv_heads and heads % kv_heads:
        yield Problem(
            "model.scratch.num_key_value_heads",
            f"must divide num_attention_heads ({heads})",
            str(kv_heads),
        )
    if job.model.tokenizer is None and shape.vocab_size is None:
        yield Problem(
            "model.scratch.vocab_size",
            "is required to train a tokenizer on the data",
            fix="Set it, or name a tokenizer in model.tokenizer",
        )
    if job.data.max_length > shape.max_position_embeddings:
        yield Problem(
            "data.max_length",
            f"exceeds the model's context (max_position_embeddings: "
            f"{shape.max_position_embeddings})",
            str(job.data.max_length),
        )
    if job.adapter is not None:
        yield Problem(
            "adapter",
            "a model from random weights has nothing for an adapter to adapt",
            job.adapter.kind,
            "Pre-train it first, in a stage of its own",
        )


def check_registry(job: Job, first: bool) -> Iterator[Problem]:
    """Yield versions of the model registry that a key cannot name.

    Args:
        job: The run.
        first: Whether no stage comes before it.
    """
    for location in locations(job):
        if location.key != ("model", "source") and in_registry(location.value):
            yield Problem(
                location.path,
                "only model.source can be a version of the model registry",
                location.value,
                "Write the s3:// address of the version's model",
            )
    if job.model.approval == "none" and not (
        in_registry(job.model.source) or job.model.model_package_arn
    ):
        yield Problem(
            "model.approval",
            f"concerns the model registry, and model.source is {job.model.source}",
            "none",
            "Leave it out",
        )


def check_save_dtype(job: Job, first: bool) -> Iterator[Problem]:
    """Yield what is wrong with `save_dtype`.

    Args:
        job: The run.
        first: Whether no stage comes before it.
    """
    if job.save_dtype is None:
        return
    reason = ""
    if not job.method.trains:
        reason = f"{job.method.kind} writes rows and saves no model"
    elif job.adapter is not None:
        reason = (
            "an adapter is saved as it was trained, and merged weights have the precision of the "
            "base"
        )
    elif job.save_dtype == "fp32" and job.sharding.zero and job.precision != "fp32":
        reason = f"under DeepSpeed the weights are trained in {job.precision}"
    elif job.save_dtype == "auto" and job.model.source == SCRATCH:
        reason = "a model from scratch has no base. Name the precision"
    if reason:
        yield Problem("save_dtype", reason, job.save_dtype, "Leave it out")
