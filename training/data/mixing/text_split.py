"""Held-out split of texts, for a job whose tokenizer is trained on the training rows only.

The split of other jobs is over tokenized rows, which here do not exist yet. Both draw the same
numbers: without dropped rows they hold out the same documents.
"""

from __future__ import annotations

import numpy as np

from training.config.job import Job
from training.data.mixing import sampling
from training.data.mixing.group_split import hold_out_groups, read_groups
from training.data.mixing.prompt_groups import group_by_prompt
from training.data.mixing.sampling import Indices
from training.data.readers.ingest import read_rows
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.data.schema.prompt_text import prompt_digest, prompt_text
from training.data.schema.schema_reader import SchemaReader


def split_documents(
    job: Job, rng: np.random.Generator, *, grouped: bool
) -> tuple[list[Indices], list[Indices]]:
    """Return the training and the held-out documents of each source, as numbers of rows read.

    Args:
        job: A job with `data.validation.split`.
        rng: Random generator.
        grouped: Whether rows with the same prompt stay on one side.

    Raises:
        DataError: There are fewer than two documents, or a row cannot be read.
    """
    data = job.data
    last_answer = getattr(job.method, "loss_on", "") == "completion"
    prompts: list[list[str | None]] = []
    for source in data.train:
        limits = [n for n in (data.limit, source.limit) if n]
        reader = SchemaReader(source, job.method.rows)
        read = read_rows(locate(source), reader, data.on_error, min(limits, default=None))
        # An unreadable row keeps its number, and belongs to neither side.
        prompts.append(
            [
                None if isinstance(row, BadRecord) else prompt_text(row, last_answer=last_answer)
                for row in read
            ]
        )
    shares = [len(rows) for rows in prompts]
    if data.limit is not None:
        weights = [source.weight for source in data.train]
        shares = sampling.allocate_rows(data.limit, shares, weights)
    numbers, digests = [], []
    for rows, share in zip(prompts, shares, strict=True):
        kept = [(i, prompt) for i, prompt in enumerate(rows[:share]) if prompt is not None]
        numbers.append(np.array([i for i, _ in kept], dtype=np.int64))
        digests.append(np.array([prompt_digest(prompt) for _, prompt in kept], dtype=np.int64))
    assert data.validation.split is not None, "checked by the caller"
    column = data.validation.group_column
    if column:
        read_limits = [
            min([n for n in (data.limit, source.limit) if n], default=None) for source in data.train
        ]
        by_source = [
            read_groups(source, column, seed=job.train.seed, limit=limit)
            for source, limit in zip(data.train, read_limits, strict=True)
        ]
        train, held, _ = hold_out_groups(by_source, numbers, data.validation.split, column)
    elif grouped:
        groups = group_by_prompt(digests, numbers)
        train, held = sampling.split_groups(groups, data.validation.split, rng)
    else:
        train, held = sampling.split_held_out(numbers, data.validation.split, rng)
    return (
        [kept[part] for kept, part in zip(numbers, train, strict=True)],
        [kept[part] for kept, part in zip(numbers, held, strict=True)],
    )
