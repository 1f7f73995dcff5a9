"""Similarity of instructions by ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013/)."""

from __future__ import annotations

from collections import Counter

from training.evaluation.generation_metrics.rouge_l import rouge_l, words


class InstructionPool:
    """Instructions, and the similarity of a new one with the most similar of them."""

    def __init__(self) -> None:
        self._entries: list[tuple[list[str], Counter[str]]] = []

    def add(self, instruction: str) -> None:
        """Add an instruction."""
        tokens = words(instruction)
        self._entries.append((tokens, Counter(tokens)))

    def reaches(self, instruction: str, similarity: float) -> bool:
        """Return True if ROUGE-L with any instruction of the pool is at least this similarity."""
        tokens = words(instruction)
        counts = Counter(tokens)
        for other, other_counts in self._entries:
            length = len(tokens) + len(other)
            # The words in common, in any order, are an upper bound that is cheap to compute.
            if 2 * min(len(tokens), len(other)) < similarity * length:
                continue
            if 2 * (counts & other_counts).total() < similarity * length:
                continue
            if rouge_l(tokens, other) >= similarity:
                return True
        return False
