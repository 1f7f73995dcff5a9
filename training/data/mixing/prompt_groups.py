"""Groups of rows with the same prompt, which a held-out split must not separate.

Data sets hold several answers or pairs per prompt. If some of them were trained on and others held
out, the held-out loss would be measured on prompts that the model was trained on.
"""

from __future__ import annotations

import numpy as np

from training.data.mixing.sampling import Indices
from training.data.storage.table import TokenStore
from training.data.tokenization.row_tokenizer import IGNORE

MAX_SHARE = 0.5
"""Share of all rows beyond which one prompt is a fixed preamble and prompts identify nothing."""


def group_by_prompt(store: TokenStore) -> Indices:
    """Return, for each row, the first document with its prompt; its own document if it has none.

    Args:
        store: Rows of prompts and answers; labels are `IGNORE` in the prompt.
    """
    documents: Indices = store.documents.astype(np.int64)
    first: dict[bytes, int] = {}
    groups = documents.copy()
    for index in range(len(store)):
        row = store.row(index)
        learned = np.flatnonzero(row.labels != IGNORE)
        # A row of which nothing is learned is a prompt to answer.
        prompt = row.input_ids[: learned[0]] if len(learned) else row.input_ids
        if len(prompt):
            groups[index] = first.setdefault(prompt.tobytes(), int(documents[index]))
    _, counts = np.unique(groups, return_counts=True)
    return documents if len(counts) and counts.max() > MAX_SHARE * len(groups) else groups
