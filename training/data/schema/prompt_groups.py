"""Answers to one prompt, which stand on one side of a split: what is held out was never asked.

Sets of preferences hold many pairs to one prompt. With some of them trained on and others held out,
a model would be measured on what it has been told.
"""

from __future__ import annotations

import numpy as np

from training.data.mixing.sampling import Indices
from training.data.storage.table import TokenStore
from training.data.tokenization.row_tokenizer import IGNORE

MOST = 0.5
"""Share of all rows; where one prompt has more of them, prompts tell nothing apart."""


def by_prompt(store: TokenStore) -> Indices:
    """Return for each row the first document whose prompt it has; its own where it has none.

    Args:
        store: Rows of answers to prompts, of which nothing is learned before the answer.
    """
    documents: Indices = store.documents.astype(np.int64)
    first: dict[bytes, int] = {}
    found = documents.copy()
    for index in range(len(store)):
        row = store.row(index)
        learned = np.flatnonzero(row.labels != IGNORE)
        prompt = row.input_ids[: learned[0]] if len(learned) else row.input_ids[:0]
        if len(prompt):
            found[index] = first.setdefault(prompt.tobytes(), int(documents[index]))
    _, counts = np.unique(found, return_counts=True)
    return documents if len(counts) and counts.max() > MOST * len(found) else found
