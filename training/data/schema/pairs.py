"""Sequences of preference rows: the prompt with each of the answers."""

from __future__ import annotations

from training.data.schema.messages import is_transcript, transcript_messages
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PreferenceRow,
    RankingRow,
    Row,
    UnpairedRow,
)

_Text = str | list[Message]


def row_sequences(row: Row, *, templated: bool) -> list[Row]:
    """Return the sequences of a row: the answers of a pair or ranking, else the row itself.

    Args:
        row: Row of any kind.
        templated: Whether a chat template renders it; transcripts are then split into messages.
    """
    if isinstance(row, UnpairedRow):
        return [_side(row, row.prompt, row.completion, templated)]
    if not isinstance(row, PreferenceRow | RankingRow):
        return [row]
    prompt = row.prompt
    answers = row.answers if isinstance(row, RankingRow) else (row.chosen, row.rejected)
    if isinstance(prompt, str) and not templated:
        prompt = _with_separator(prompt, [str(answer) for answer in answers])
    return [_side(row, prompt, answer, templated) for answer in answers]


def _with_separator(prompt: str, answers: list[str]) -> str:
    """Return the prompt, with a line break if any answer needs one.

    All answers must follow the same prompt text, or their log-probabilities are not comparable.
    """
    separated = prompt[-1:].isspace() or all(answer[:1].isspace() for answer in answers)
    return prompt if separated or not prompt else prompt + "\n"


def _side(
    row: PreferenceRow | RankingRow | UnpairedRow, prompt: _Text, answer: _Text, templated: bool
) -> Row:
    if isinstance(prompt, str) and isinstance(answer, str):
        if not (templated and is_transcript(prompt)):
            return CompletionRow(row.id, prompt, answer, row.system, row.tools)
        prompt = [m for m in transcript_messages(prompt) if m["content"]]
        answer = [{"role": "assistant", "content": answer.strip()}]
        if row.system:
            prompt = [{"role": "system", "content": row.system}, *prompt]
    assert isinstance(prompt, list) and isinstance(answer, list), "one form throughout"
    return DialogueRow(row.id, prompt + answer, row.tools, len(prompt))
