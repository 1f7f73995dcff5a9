"""Groups of rows with the same prompt, which a held-out split must not separate.

Data sets hold several answers or pairs per prompt. If some of them were trained on and others held
out, the held-out loss would be measured on prompts that the model was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from training.data.mixing.sampling import Indices
from training.data.storage.table import TokenStore
from training.data.tokenization.encoder import Tokens
from training.data.tokenization.token_rows import IGNORE, TokenRow

MAX_SHARE = 0.5
"""Share of all rows beyond which one prompt is a fixed preamble and prompts identify nothing."""


def group_by_prompt(store: TokenStore) -> Indices:
    """Return, for each row, the first document with its prompt; its own document if it has none.

    Args:
        store: Rows of prompts and answers; labels are `IGNORE` in the prompt.
    """
    rows = (store.row(index) for index in range(len(store)))
    prompts = (_prompt_ids(row).tobytes() for row in rows)
    return group_equal_prompts(prompts, store.documents.astype(np.int64))


def _prompt_ids(row: TokenRow) -> Tokens:
    learned = np.flatnonzero(row.labels != IGNORE)
    # A row of which nothing is learned is a prompt to answer.
    return row.input_ids[: learned[0]] if len(learned) else row.input_ids


def group_equal_prompts(prompts: Iterable[str | bytes], documents: Indices) -> Indices:
    """Return, for each row, the first document with its prompt; its own document if it has none.

    If more than `MAX_SHARE` of the rows have the same prompt, each row has its own document.

    Args:
        prompts: Prompt of each row, as text or as the bytes of its token ids; may be empty.
        documents: Document of each row.
    """
    first: dict[str | bytes, int] = {}
    groups = documents.copy()
    for index, prompt in enumerate(prompts):
        if prompt:
            groups[index] = first.setdefault(prompt, int(documents[index]))
    _, counts = np.unique(groups, return_counts=True)
    return documents if len(counts) and counts.max() > MAX_SHARE * len(groups) else groups
