"""Characters per token, measured with the model's tokenizer or estimated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planning.hub_cache import tokenizer_file
from training.config import Job
from training.config.model import PREVIOUS, SCRATCH

_USUAL = 4.0
"""Characters of English text per token, in a vocabulary of 30,000 pieces or more."""
_SMALL_VOCABULARY, _SMALL = 8_000, 2.5
"""Characters per token of a vocabulary with fewer than 8,000 pieces."""
_SAMPLE_CHARS = 200_000


def chars_per_token(job: Job, vocab: int, texts: Sequence[str]) -> tuple[float, str]:
    """Return the characters per token, and a note for the plan if they were not measured.

    Args:
        job: The run, for its model and tokenizer.
        vocab: Rows of the model's embeddings.
        texts: Sample of the texts that will be tokenized.
    """
    path = tokenizer_file(job.model)
    if path is not None and texts:
        measured = characters_per_token(path, texts)
        if measured:
            return measured, ""
    guess = _SMALL if vocab < _SMALL_VOCABULARY else _USUAL
    if job.model.source == SCRATCH:
        return guess, f"the tokenizer is trained first: {guess:g} characters per token are assumed"
    if job.model.source == PREVIOUS:
        return guess, f"{guess:g} characters per token are assumed"
    return guess, (f"the model has no tokenizer: {guess:g} characters per token are assumed")


def characters_per_token(path: Path, texts: Sequence[str]) -> float:
    """Return the characters per token of a sample; 0 if the tokenizer cannot be loaded.

    Args:
        path: A `tokenizer.json`.
        texts: The sample.
    """
    # Imported here: it takes longer than the rest of a plan.
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:
        return 0.0
    tokenizer.no_truncation()
    chars = tokens = 0
    for text in texts:
        chars += len(text)
        tokens += len(tokenizer.encode(text, add_special_tokens=False).ids)
        if chars > _SAMPLE_CHARS:
            break
    return chars / tokens if tokens else 0.0
