"""Groups of rows with the same prompt, which a held-out split must not separate.

Data sets hold several answers or pairs per prompt, also in different sources. If some of them were
trained on and others held out, the held-out loss would be measured on prompts that the model was
trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.data.mixing.sampling import Indices

MAX_SHARE = 0.5
"""Share of the rows beyond which one prompt is a fixed preamble, which identifies nothing."""
_MOST_ANSWERS = 100
"""Answers to one prompt that a source may consist of; from more on, it is a fixed preamble."""


def group_by_prompt(prompts: Sequence[Indices], documents: Sequence[Indices]) -> list[Indices]:
    """Return, for each row of each source, the number of its group over all sources.

    Rows with the same prompt are a group; without a prompt, those of one document are.

    Args:
        prompts: Digest of the prompt of each row; 0 if it has none.
        documents: Document of each row, numbered in each source on its own.
    """
    preambles = _preambles(prompts)
    first: dict[int, int] = {}
    groups: list[Indices] = []
    offset = 0
    for digests, numbers in zip(prompts, documents, strict=True):
        group = numbers.astype(np.int64) + offset
        for index, digest in enumerate(digests.tolist()):
            if digest and digest not in preambles:
                group[index] = first.setdefault(digest, int(group[index]))
        groups.append(group)
        offset += int(numbers.max()) + 1 if len(numbers) else 0
    return groups


def _preambles(prompts: Sequence[Indices]) -> set[int]:
    """Return the prompts that precede most rows: of all sources, or of one that has many."""
    everything = Counter[int]()
    found: set[int] = set()
    for digests in prompts:
        counts = Counter(digests.tolist())
        everything += counts
        found |= {
            digest
            for digest, count in counts.items()
            if count > max(_MOST_ANSWERS, MAX_SHARE * len(digests))
        }
    total = everything.total()
    return found | {digest for digest, count in everything.items() if count > MAX_SHARE * total}
