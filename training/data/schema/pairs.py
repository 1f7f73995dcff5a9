"""The sequences that a row of preferences is made of, each a prompt and one answer to it."""

from __future__ import annotations

from training.data.schema.messages import is_transcript, transcript_messages
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PreferenceRow,
    Row,
    UnpairedRow,
)

_Words = str | list[Message]


def row_sequences(row: Row, *, templated: bool) -> list[Row]:
    """Return the sequences of a row: chosen and rejected of a pair, else the row itself.

    Args:
        row: Of any kind.
        templated: Whether a chat template writes it; whole transcripts are then taken apart.
    """
    if isinstance(row, UnpairedRow):
        return [_side(row, row.prompt, row.completion, templated)]
    if not isinstance(row, PreferenceRow):
        return [row]
    prompt, answers = row.prompt, (row.chosen, row.rejected)
    if isinstance(prompt, str) and not templated:
        prompt = _with_seam(prompt, [str(answer) for answer in answers])
    return [_side(row, prompt, answer, templated) for answer in answers]


def _with_seam(prompt: str, answers: list[str]) -> str:
    """Return the prompt with a line break where any answer needs one: both follow the same text."""
    parted = prompt[-1:].isspace() or all(answer[:1].isspace() for answer in answers)
    return prompt if parted or not prompt else prompt + "\n"


def _side(row: PreferenceRow | UnpairedRow, prompt: _Words, answer: _Words, templated: bool) -> Row:
    if isinstance(prompt, str) and isinstance(answer, str):
        if not (templated and is_transcript(prompt)):
            return CompletionRow(row.id, prompt, answer, row.system)
        prompt = [m for m in transcript_messages(prompt) if m["content"]]
        answer = [{"role": "assistant", "content": answer.strip()}]
        if row.system:
            prompt = [{"role": "system", "content": row.system}, *prompt]
    assert isinstance(prompt, list) and isinstance(answer, list), "one form throughout"
    return DialogueRow(row.id, prompt + answer, row.tools, len(prompt))
