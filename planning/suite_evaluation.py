"""Work and time of `evaluate.suite`, which runs on one device when training has ended.

Items are read as the evaluation reads them; the lengths of a sample stand for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planning.decoding import SHARE_OF_ANSWER, token_s
from planning.document import Range
from planning.machine import Machine
from planning.model_shape import ModelShape
from planning.tokens import chars_per_token
from training.config import Job
from training.config.model import SCRATCH

if TYPE_CHECKING:
    from evaluation.config.tasks import TaskSection
    from evaluation.items import Item

BATCH_SIZE = 16
"""Sequences per forward pass, as `temper evaluate` has it."""
_SAMPLE_ITEMS = 200
_START_S = Range(6.0, 40.0)
"""Seconds until the process of the evaluation has imported its libraries."""
_TASK_S = Range(0.05, 1.0)
"""Seconds per task for intervals, comparisons and the report. An estimate."""
_SEARCH_ROW_S = Range(0.0005, 0.004)
"""Seconds per training row, in which the items are searched. Measured: 0.0016 with 555 items."""
_FORWARD_MFU = Range(0.1, 0.5)
"""Share of the peak that a forward pass over short rows reaches. An estimate."""


@dataclass(frozen=True)
class SuiteWork:
    """Requests of the suites of a job, for all models that are evaluated.

    Attributes:
        models: Models that are evaluated: the trained one, and the one that it started from.
        tasks: Tasks of all suites.
        items: Items of all tasks.
        forward_tokens: Tokens of prompts, choices and texts that are read.
        rows: Sequences that they form.
        decoding_steps: Forward passes of one token per answer, if no answer ends early.
        new_tokens: Tokens of the answers, if none ends early.
    """

    models: int
    tasks: int
    items: int
    forward_tokens: float
    rows: float
    decoding_steps: float
    new_tokens: float

    def document(self, seconds: Range) -> dict[str, Any]:
        """Return the work as part of `plan.json`."""
        return {
            "items": self.items,
            "models": self.models,
            "forward_tokens": round(self.forward_tokens),
            "new_tokens": round(self.new_tokens),
            "seconds": {"low": round(seconds.low, 1), "high": round(seconds.high, 1)},
        }


def read_suite_work(job: Job, shape: ModelShape) -> SuiteWork | None:
    """Return the work of the suites of a job; None if it has none.

    Args:
        job: The run.
        shape: Shape of its model.

    Raises:
        JobError: A suite cannot be used.
        DataError: Items of a task cannot be used.
    """
    if not job.evaluate.suite:
        return None
    # Imported here: most jobs have no suite.
    from evaluation.config.suite import load_suite

    models = 1 if job.model.source == SCRATCH else 2
    tasks = [
        task
        for path in job.evaluate.suite
        for task in load_suite(Path(path), against=models == 2).tasks
    ]
    samples = [_TaskSample.of(task) for task in tasks]
    texts = [text for sample in samples for item in sample.items for text in _texts(item)]
    per_token, _ = chars_per_token(job, shape.vocab, texts)
    rows = [sample.rows(per_token, shape.context) for sample in samples]
    new = [sample.answers * sample.max_new_tokens for sample in samples]
    steps = [math.ceil(s.answers / BATCH_SIZE) * s.max_new_tokens for s in samples]
    return SuiteWork(
        models=models,
        tasks=len(tasks),
        items=sum(sample.count for sample in samples),
        forward_tokens=models * math.fsum(tokens for _, tokens in rows),
        rows=models * math.fsum(number for number, _ in rows),
        decoding_steps=models * sum(steps),
        new_tokens=models * sum(new),
    )


def suite_s(
    work: SuiteWork, shape: ModelShape, machine: Machine, load_gb_s: Range, train_rows: float
) -> Range:
    """Return the seconds of the evaluation on suites.

    Args:
        work: Requests of the suites.
        shape: Shape of the model.
        machine: The machine.
        load_gb_s: Rate at which weights are read.
        train_rows: Training rows, which are searched for the items.
    """
    device = machine.device
    size = 2 if device.kind == "cuda" else 4
    peak = (device.bf16_tflops if size == 2 else device.fp32_tflops) * 1e12
    read_gb = work.models * shape.parameters * size / 1e9
    flops_s = 2.0 * shape.active * work.forward_tokens / peak
    passes = work.rows / BATCH_SIZE
    one = token_s(shape, device, 1, weight_bytes=size, peak_flops=peak)
    each = token_s(shape, device, BATCH_SIZE, weight_bytes=size, peak_flops=peak)
    return Range(
        _START_S.low
        + read_gb / load_gb_s.high
        + flops_s / _FORWARD_MFU.high
        + passes * one.low
        + work.decoding_steps * SHARE_OF_ANSWER * each.low
        + work.tasks * _TASK_S.low
        + train_rows * _SEARCH_ROW_S.low,
        _START_S.high
        + read_gb / load_gb_s.low
        + flops_s / _FORWARD_MFU.low
        + passes * one.high
        + work.decoding_steps * each.high
        + work.tasks * _TASK_S.high
        + train_rows * _SEARCH_ROW_S.high,
    )


@dataclass(frozen=True)
class _TaskSample:
    """First items of a task, and the number of all.

    Attributes:
        items: The first items.
        count: Number of all items.
        is_text: True if the items are texts, whose perplexity is measured.
        answers: Answers to all items.
        max_new_tokens: Longest answer.
    """

    items: list[Item]
    count: int
    is_text: bool
    answers: int
    max_new_tokens: int

    @classmethod
    def of(cls, task: TaskSection) -> _TaskSample:
        """Return the sample of a task."""
        from evaluation.config.tasks import GenerationTask, Perplexity
        from evaluation.items import read_items, read_rows

        count = len(read_rows(task.data, task.name))
        rows = min(count, _SAMPLE_ITEMS)
        data = task.data.model_copy(update={"rows": rows})
        items = read_items(task.model_copy(update={"data": data}))
        if not isinstance(task, GenerationTask):
            return cls(items, count, isinstance(task, Perplexity), 0, 0)
        return cls(items, count, False, count * task.samples, task.max_new_tokens)

    def rows(self, per_token: float, context: int) -> tuple[float, float]:
        """Return the number of sequences of all items, and of their tokens.

        An item longer than the context is not evaluated, but a text is, in windows.

        Args:
            per_token: Characters of a token.
            context: Longest sequence of the model, in tokens.
        """
        number = tokens = 0.0
        for item in self.items:
            prompt = (sum(map(len, _texts(item))) - sum(map(len, item.choices))) / per_token
            if self.is_text:
                number += math.ceil(prompt / context)
                tokens += prompt
                continue
            # Choices of one token each are predicted by one pass over the prompt.
            long = [len(choice) / per_token for choice in item.choices]
            long = [length for length in long if length > 1 + 1 / per_token]
            if prompt + max(long, default=0.0) + self.max_new_tokens <= context:
                copies = max(1, len(long))
                number += copies
                tokens += copies * prompt + math.fsum(long)
        scale = self.count / len(self.items) * (self.answers / self.count if self.answers else 1)
        return number * scale, tokens * scale


def _texts(item: Item) -> list[str]:
    """Return the texts of an item: its prompt or messages, and its choices."""
    if isinstance(item.prompt, str):
        return [item.prompt, *item.choices]
    return [str(message["content"]) for message in item.prompt] + list(item.choices)
