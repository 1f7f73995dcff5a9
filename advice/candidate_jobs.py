"""Training jobs of the approaches that train, for their price and as a start."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from advice.facts import Approach, Form
from advice.question import Question
from training.config import Job
from training.config.load import parse_job

METHODS: dict[Form, str] = {
    "text": "pretrain",
    "answers": "sft",
    "preferences": "dpo",
    "ratings": "kto",
    "prompts": "grpo",
}
"""Method that learns from each kind of rows, unless the job names another that does."""
_LEARNING_RATES = {"prompt_tuning": 1.0e-2, "lora": 2.0e-4, "qlora": 2.0e-4, "full": 2.0e-5}
_SMALL_MODEL_FACTOR = 5.0
_SMALL = 1_000_000_000
"""Parameters below which models are trained with larger learning rates."""
_VIRTUAL_TOKENS = 20
_LONGEST = 4096
_STEPS_PER_EPOCH = 50
"""Fewest steps of an epoch, for which the batch is made smaller."""
_MANY_ROWS = 100_000
"""Rows from which on one epoch is planned."""
_LEAST_BATCH, _MOST_BATCH = 4, 32


def candidate_document(
    question: Question, approach: Approach, row_tokens: float, template: str | None
) -> dict[str, Any]:
    """Return the job of an approach, as its file would be written.

    A job file keeps its keys, except for the adapter and what depends on it.

    Args:
        question: The question.
        approach: An approach that trains.
        row_tokens: Tokens of a row, on average.
        template: Chat template that conversations need.
    """
    document = {"name": "advised", **copy.deepcopy(question.document)}
    form = question.profile.form
    document["model"] = {**document["model"]}
    if template:
        document["model"]["chat_template"] = template
    document.setdefault("method", _method(form))
    length = _max_length(question, row_tokens)
    document["data"] = {"validation": {"split": "5%"}, "max_length": length, **document["data"]}
    if approach == "prompt_tuning":
        # Virtual tokens take positions of the context, and precede the first document of a row.
        document["data"].pop("packing", None)
        most = max(8, question.shape.context - _VIRTUAL_TOKENS)
        document["data"]["max_length"] = min(document["data"]["max_length"], most)
    if form == "text":
        document["data"].setdefault("packing", True)
    for key in ("adapter", "compose"):
        kept = document.pop(key, None)
        if key == "adapter" and isinstance(kept, dict) and kept.get("kind") == approach:
            document["adapter"] = kept
    if approach != "full" and "adapter" not in document:
        tokens = {"num_virtual_tokens": _VIRTUAL_TOKENS} if approach == "prompt_tuning" else {}
        document["adapter"] = {"kind": approach, **tokens}
    train = document.setdefault("train", {})
    same = _kind(question.document) == approach
    if not (same and "learning_rate" in train):
        small = question.shape.parameters < _SMALL
        factor = _SMALL_MODEL_FACTOR if small else 1.0
        train["learning_rate"] = _LEARNING_RATES[approach] * factor
    if "max_steps" not in train:
        once = form in ("text", "preferences", "ratings") or question.profile.rows >= _MANY_ROWS
        train.setdefault("num_train_epochs", 1 if once else 3)
    # Each prompt is answered several times, so that few prompts fill a batch.
    batch = _MOST_BATCH if form == "prompts" else _batch_size(question.profile.rows)
    train.setdefault("global_batch_size", batch)
    document.setdefault("precision", "fp32" if question.shape.parameters < _SMALL else "bf16")
    if question.needs.instance:
        document["resources"] = {
            **(document.get("resources") or {}),
            "instance": question.needs.instance,
        }
    return document


def candidate_job(document: Mapping[str, Any], source: str) -> Job:
    """Return the checked job of a document.

    Raises:
        JobError: The job is not possible as written.
    """
    job = parse_job(copy.deepcopy(dict(document)), source)
    assert isinstance(job, Job)
    return job


def _method(form: Form) -> dict[str, Any]:
    kind = METHODS[form]
    if kind == "grpo":
        return {"kind": kind, "reward": {"kind": "numeric_answer"}}
    return {"kind": kind}


def _kind(document: Mapping[str, Any]) -> str:
    adapter = document.get("adapter")
    if adapter is None:
        return "full" if "method" in document else ""
    return str(adapter.get("kind", "")) if isinstance(adapter, dict) else ""


def _max_length(question: Question, row_tokens: float) -> int:
    """Return a length that most rows fit: twice their mean, as a multiple of 64."""
    most = min(question.shape.context, _LONGEST)
    if question.profile.form == "text":
        return min(most, 2048)
    return max(8, min(most, 64 * math.ceil(2 * max(row_tokens, 64) / 64)))


def _batch_size(rows: int) -> int:
    """Return a power of two within the limits that leaves an epoch enough steps."""
    fitting = max(_LEAST_BATCH, rows / _STEPS_PER_EPOCH)
    return min(_MOST_BATCH, 1 << math.floor(math.log2(fitting)))
