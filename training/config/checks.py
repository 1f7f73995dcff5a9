"""Checks across the keys of a job: values that are valid alone and invalid together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.config.adapter_checks import check_adapter
from training.config.added_token_checks import check_added_tokens
from training.config.composition import Compose
from training.config.distill import Distill
from training.config.job import Job
from training.config.model import SCRATCH
from training.config.model_checks import check_model, check_registry, check_save_dtype
from training.config.ppo import Ppo
from training.config.ppo_checks import check_ppo
from training.config.resource_checks import check_machines
from training.config.safety_checks import check_safety
from training.config.static_shape_checks import check_static_shapes
from training.config.suite_checks import check_suites
from training.config.types import NEVER
from training.errors import Problem


def check_job(job: Job, *, prefix: str, first: bool) -> Iterator[Problem]:
    """Yield every contradiction in one run.

    Args:
        job: The run.
        prefix: What to put before each path, such as `stages.1.`.
        first: Whether no stage comes before it.
    """
    parts = (
        check_model,
        check_registry,
        check_added_tokens,
        _data,
        _method,
        check_adapter,
        check_save_dtype,
        _train,
        _anchors,
        _sharding,
        _run,
        check_safety,
        check_suites,
        check_static_shapes,
        check_machines,
    )
    for check in parts:
        for problem in check(job, first):
            yield Problem(prefix + problem.path, problem.message, problem.value, problem.fix)


def _data(job: Job, first: bool) -> Iterator[Problem]:
    data = job.data
    if data.prompts and job.method.rows != "prompt":
        yield Problem(
            "data.prompts",
            f"are prompts without answers, and {job.method.kind} learns from text or answers",
            fix="Give data.train",
        )
    if bool(data.train) == bool(data.prompts):
        message = "give train or prompts, not both" if data.train else "is required"
        yield Problem("data.train", message)
    if data.validation.split and data.validation.source:
        yield Problem("data.validation", "give a split or a source, not both")
    if data.validation.split is not None and not 0 < data.validation.split < 1:
        yield Problem(
            "data.validation.split",
            "must leave rows on both sides",
            f"{data.validation.split:%}",
            "Write validation: none to hold nothing out",
        )
    yield from _held_out_groups(job)
    if data.replay and not 0 < data.replay.share < 1:
        yield Problem(
            "data.replay.share", "must lie between 0% and 100%", f"{data.replay.share:.0%}"
        )
    yield from _overlap(job)
    yield from _long_conversations(job)
    if data.streaming and job.train.max_steps is None:
        yield Problem(
            "train.max_steps", "is required with data.streaming: a stream's length is not known"
        )
    if data.streaming and data.validation.split:
        yield Problem(
            "data.validation.split",
            "a stream cannot be split",
            fix="Name a file in data.validation",
        )


def _held_out_groups(job: Job) -> Iterator[Problem]:
    validation = job.data.validation
    if validation.by == "group":
        if not validation.split:
            yield Problem(
                "data.validation.by",
                "divides the training rows, and no share of them is held out",
                "group",
                "Set data.validation.split, for instance 5%, or leave out by and column",
            )
        if not validation.column:
            yield Problem(
                "data.validation.column",
                "is required with by: group",
                fix="Name the column whose value is the group, for instance thread_id",
            )
        if job.data.prompts:
            yield Problem(
                "data.validation.by",
                "needs rows with columns, and data.prompts has none",
                "group",
                "Leave out by and column, or give the prompts as a file in data.train",
            )
    elif validation.column is not None:
        yield Problem(
            "data.validation.column",
            "is only read with by: group",
            validation.column,
            "Add by: group, or leave out column",
        )


def _overlap(job: Job) -> Iterator[Problem]:
    overlap, size = job.data.overlap, job.data.max_length
    if overlap and job.method.rows not in ("text", "dialogue"):
        yield Problem(
            "data.overlap",
            f"{job.method.kind} learns from whole prompts and answers, and only texts are cut",
            str(overlap),
            "Leave it out",
        )
    # Each row has room for begin-of-text and for a token that the row before does not have.
    elif overlap > size - 2:
        yield Problem(
            "data.overlap",
            f"leaves no room for new tokens in a row of data.max_length ({size})",
            str(overlap),
            f"Set it to at most {size - 2}; a quarter of data.max_length is {size // 4}",
        )


def _long_conversations(job: Job) -> Iterator[Problem]:
    if job.data.long_conversations != "split":
        return
    loss_on = getattr(job.method, "loss_on", None)
    reasons = {
        "completion": "loss_on: completion learns the last answer, which follows all turns",
        "all": "loss_on: all would learn the system message again in each part",
    }
    reason = reasons.get(loss_on or "")
    if job.method.rows == "text":
        reason = "conversations are learned as text, which is cut into rows without a loss"
    elif job.method.rows != "dialogue":
        reason = f"{job.method.kind} learns from answers to one prompt, which stays whole"
    if reason:
        yield Problem("data.long_conversations", reason, "split", "Leave it out")


def _method(job: Job, first: bool) -> Iterator[Problem]:
    method, data = job.method, job.data
    yield from method.validate_against(job)
    if method.rows not in ("text", "dialogue"):
        if data.packing:
            yield Problem(
                "data.packing",
                f"{method.kind} compares whole answers, which cannot share a row",
                fix="Leave it out",
            )
        if data.replay:
            yield Problem(
                "data.replay",
                f"{method.kind} learns from {method.rows} rows, and replay is general text",
                fix="Leave it out; evaluate.forgetting measures what was forgotten",
            )
    answers = method.answers_per_prompt
    if answers and job.train.global_batch_size % answers:
        yield Problem(
            "train.global_batch_size",
            f"counts answers, and must be a multiple of method.num_generations ({answers})",
            str(job.train.global_batch_size),
        )
    if data.streaming and method.reads_ahead:
        yield Problem(
            "data.streaming",
            f"{method.kind} with these settings reads rows out of order",
            fix="Leave it out",
        )
    if method.head == "score":
        for key in ("samples", "forgetting"):
            if getattr(job.evaluate, key):
                yield Problem(
                    f"evaluate.{key}",
                    "a reward model returns scores, not text",
                    fix="Leave it out",
                )
    yield from _own_checks(job)


def _own_checks(job: Job) -> Iterator[Problem]:
    """Yield problems of the methods whose checks need the whole job."""
    if isinstance(job.method, Distill):
        yield from _distill(job, job.method)
    if isinstance(job.method, Ppo):
        yield from check_ppo(job, job.method)


def _distill(job: Job, method: Distill) -> Iterator[Problem]:
    if method.top_k and method.on_policy:
        yield Problem(
            "method.top_k",
            "the teacher's output for answers not sampled yet cannot be cached",
            str(method.top_k),
            "Leave top_k or on_policy out",
        )
    if method.top_k and job.sharding.zero == 3:
        yield Problem(
            "method.top_k",
            "one process runs the teacher for all rows, and ZeRO 3 shards it over the processes",
            "zero: 3",
            "Use zero: 2, or leave top_k out",
        )
    if method.on_policy and (method.loss_on is None or job.data.packing):
        yield Problem(
            "method.on_policy",
            "needs rows of one prompt and one answer each",
            f"{method.on_policy:.0%}",
            "Leave packing out" if method.loss_on else "Set method.loss_on: completion",
        )
    if method.teacher_4bit and job.sharding.zero == 3:
        yield Problem("method.teacher_4bit", "ZeRO 3 cannot shard 4-bit weights", "zero: 3")


def _train(job: Job, first: bool) -> Iterator[Problem]:
    train = job.train
    given = train.model_fields_set
    if train.max_steps is not None and "num_train_epochs" in given:
        yield Problem(
            "train.num_train_epochs",
            "max_steps already decides the length",
            f"{train.num_train_epochs:g}",
            "Leave one out",
        )
    if train.max_steps and train.warmup.steps(train.max_steps) > train.max_steps:
        yield Problem("train.warmup", f"is longer than the run ({train.max_steps} steps)")
    if train.global_batch_size < job.method.min_rows_per_step:
        yield Problem(
            "train.global_batch_size",
            f"{job.method.kind} compares the rows of a step, and needs at least "
            f"{job.method.min_rows_per_step} of them",
            str(train.global_batch_size),
            "Use 16 or more for a stable estimate",
        )
    micro, processes = train.micro_batch_size, job.resources.processes or 1
    if micro and train.global_batch_size % (micro * processes):
        yield Problem(
            "train.global_batch_size",
            f"must be a multiple of micro_batch_size × processes ({micro} × {processes})",
            str(train.global_batch_size),
        )
    elif train.global_batch_size % processes:
        yield Problem(
            "train.global_batch_size",
            f"must be a multiple of resources.processes ({processes})",
            str(train.global_batch_size),
        )
    if train.early_stopping and not job.data.validation.wanted:
        yield Problem(
            "train.early_stopping",
            "needs held-out rows",
            fix="Set data.validation, for instance {split: 5%}",
        )
    evaluates = job.data.validation.wanted and job.evaluate.every != NEVER
    if train.keep == "best" and not evaluates:
        yield Problem(
            "train.keep",
            "needs held-out rows and an interval of evaluations to find the best weights",
            "best",
            "Set data.validation, for instance {split: 5%}, and evaluate.every, for instance "
            "50 steps",
        )
    if train.early_stopping and job.evaluate.every == NEVER:
        yield Problem(
            "evaluate.every", "is required by train.early_stopping", fix="For instance 50 steps"
        )


def _anchors(job: Job, first: bool) -> Iterator[Problem]:
    """Yield problems of the penalties against forgetting.

    They need a next-token loss, and unsharded weights to compare.
    """
    for key in ("l2_sp", "kl_to_base"):
        value = getattr(job.train, key)
        if value and job.method.kind not in ("pretrain", "sft"):
            yield Problem(
                f"train.{key}",
                f"is for pretrain and sft; {job.method.kind} has its own penalty",
                f"{value:g}",
                "Leave it out",
            )
        if value and job.model.source == SCRATCH:
            yield Problem(
                f"train.{key}", "a model from scratch has nothing to forget", f"{value:g}"
            )
    if job.train.l2_sp and (job.sharding.zero == 3 or job.sharding.fsdp != "none"):
        yield Problem(
            "train.l2_sp",
            "compares complete weights, which are sharded over the processes here",
            f"zero: {job.sharding.zero}" if job.sharding.zero else f"fsdp: {job.sharding.fsdp}",
            "Use zero: 2, or train.kl_to_base",
        )
    if job.train.kl_to_base and getattr(job.adapter, "bias", "none") != "none":
        yield Problem(
            "train.kl_to_base",
            "the base model is the model with its adapter off, and trained biases stay on",
            fix="Set adapter.bias: none",
        )
    if job.evaluate.max_forgetting is not None and job.evaluate.forgetting is None:
        yield Problem(
            "evaluate.forgetting",
            "is required by max_forgetting",
            fix="Name a file of general text",
        )


def _sharding(job: Job, first: bool) -> Iterator[Problem]:
    sharding = job.sharding
    if sharding.fsdp != "none" and sharding.zero:
        yield Problem("sharding", "give zero or fsdp, not both")
    of_zero = ("overlap_comm", "reduce_bucket_size", "allgather_bucket_size")
    for key in (*of_zero, "stage3_prefetch_bucket_size"):
        if getattr(sharding, key) and sharding.zero == 0:
            yield Problem(
                f"sharding.{key}",
                "is a setting of ZeRO, which this job does not use",
                str(getattr(sharding, key)),
                "Leave it out, or set sharding.zero",
            )
    if sharding.offload != "none" and sharding.zero == 0:
        yield Problem(
            "sharding.offload", "needs ZeRO", sharding.offload, "Set sharding.zero to 1, 2 or 3"
        )
    if sharding.offload == "nvme" and sharding.zero != 3:
        yield Problem("sharding.offload", "nvme needs ZeRO 3", f"zero: {sharding.zero}")
    if sharding.offload == "nvme" and sharding.nvme_path is None:
        yield Problem("sharding.nvme_path", "is required with offload: nvme")
    if isinstance(job.adapter, Compose) and (sharding.zero == 3 or sharding.fsdp != "none"):
        yield Problem(
            "sharding.zero" if sharding.zero else "sharding.fsdp",
            "trained adapters are loaded into complete layers, and these are sharded",
            str(sharding.zero or sharding.fsdp),
            "Use zero: 2",
        )
    if job.adapter is not None and job.adapter.quantized and sharding.zero == 3:
        yield Problem(
            "sharding.zero",
            "ZeRO 3 cannot shard 4-bit weights: every device would load the whole model",
            "3",
            "Use zero: 2, or adapter kind lora",
        )


def _run(job: Job, first: bool) -> Iterator[Problem]:
    path = job.sharding.nvme_path
    if path is not None and not Path(path).is_dir():
        yield Problem("sharding.nvme_path", "is not a folder", path)
