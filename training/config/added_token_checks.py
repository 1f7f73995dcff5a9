"""Checks of `model.add_tokens` against the rest of a job."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.adapters import Lora
from training.config.job import Job
from training.config.model import SCRATCH
from training.errors import Problem

_KEY = "model.add_tokens"


def check_added_tokens(job: Job, first: bool) -> Iterator[Problem]:
    """Yield what added tokens cannot be combined with, and tokens that cannot be."""
    tokens = job.model.add_tokens
    if not tokens:
        return
    for token in sorted({token for token in tokens if tokens.count(token) > 1}):
        yield Problem(_KEY, "is named more than once", token, "Name each token once")
    for token in tokens:
        if not token or token != token.strip():
            yield Problem(
                _KEY,
                "a token is a text without spaces around it",
                repr(token),
                "Write it as it stands in a sentence",
            )
    for is_so, message, value, fix in _conflicts(job):
        if is_so:
            yield Problem(_KEY, message, value, fix)


def _conflicts(job: Job) -> Iterator[tuple[bool, str, str, str]]:
    adapter, zero = job.adapter, job.sharding.zero
    yield (
        job.model.source == SCRATCH,
        "are for a trained model; a tokenizer for a model from scratch is trained on its data",
        SCRATCH,
        "Leave them out",
    )
    yield (
        job.model.trust_remote_code,
        "need a copy of the model, which would lack the code of its repository",
        "trust_remote_code: true",
        "Use an architecture that Transformers has",
    )
    yield (
        job.model.freeze.embeddings,
        "start as averages that must be trained, and model.freeze.embeddings freezes them",
        "true",
        "Leave one out",
    )
    yield (
        not job.method.trains or job.method.rows not in ("text", "dialogue"),
        f"are learned from text that uses them, and {job.method.kind} learns from comparisons, "
        f"rewards or prompts",
        job.method.kind,
        "Add them in a stage with method pretrain or sft before this one",
    )
    if adapter is None:
        return
    yield (
        not isinstance(adapter, Lora),
        f"would not be trained by adapter {adapter.kind}",
        adapter.kind,
        "Use lora, qlora, or no adapter",
    )
    yield (
        zero == 3,
        "with an adapter have rows of their own, which ZeRO 3 does not gather",
        "sharding.zero: 3",
        "Use zero: 2, or no adapter",
    )
    yield (
        job.sharding.fsdp != "none",
        "with an adapter have rows of their own, which FSDP does not gather",
        f"sharding.fsdp: {job.sharding.fsdp}",
        "Use sharding.zero: 2, or no adapter",
    )
